"""What a call may hold: arrays, numbers, functions and more, by the annotations of a function."""

from __future__ import annotations

import collections.abc
import difflib
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import AbstractArray

from jaxembed.similarity_forms import DUE, Form, example_of, of_form
from jaxembed.typing import EncodeFn, LossFn, ReduceFn, Scalar

F = TypeVar("F", bound=Callable[..., Any])
ARRAYS = jax.Array | np.ndarray
NUMBERS = int | float | np.number | jax.Array | np.ndarray
# What values are of a kind, by how a message names it.
IS_RIGHT: dict[str, Callable[[Any], bool]] = {
    "an array": lambda value: isinstance(value, ARRAYS),
    "a number": lambda value: isinstance(value, NUMBERS),
    "an integer": lambda value: isinstance(value, int | np.integer | ARRAYS),
    "a function": callable,
    "a name or several": lambda value: isinstance(value, str | tuple | list),
    "several values": lambda value: isinstance(value, collections.abc.Iterable),
    "a Mesh": lambda value: isinstance(value, jax.sharding.Mesh),
    "": lambda value: True,  # which the function checks
}
KINDS: dict[str, set[Any]] = {
    "an integer": {int},
    "a function": {collections.abc.Callable, ReduceFn, LossFn, EncodeFn},
    "a name or several": {str, tuple},
    "several values": {collections.abc.Sequence, jax.Array},
    "a Mesh": {jax.sharding.Mesh},
}


class Argument(NamedTuple):
    """What an argument takes."""

    kind: str  # a key of IS_RIGHT
    optional: bool  # also None
    unsigned: bool = False
    form: Form | None = None


def checks_call(function: F) -> F:
    """Makes a function refuse what its annotations do not name, in one line; see `checked_call`."""

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **checked_call(function, args, kwargs))

    return typing.cast(F, checked)


def checked_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the keywords of a call, with similarities of others that look at their results.

    Raises:
        ValueError: unknown keywords, missing ones, or a value that the annotation does not name.
    """
    name = getattr(function, "__name__", "this function")
    parameters = inspect.signature(function).parameters
    kinds = {p.kind for p in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for keyword in kwargs.keys() - parameters.keys():
            near = difflib.get_close_matches(keyword, parameters, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            takes = ", ".join(parameters)
            raise ValueError(f"{name} takes no {keyword}{meant or f'; it takes {takes}'}")
    missing = [
        p.name
        for p in parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name not in kwargs
    ]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}; got none")
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    given = dict(zip(positional, args, strict=False)) | dict(kwargs)
    width = next((x.shape[-1] for x in args if isinstance(x, ARRAYS) and x.ndim), 8)
    checked = {key: checked_argument(function, key, value, width) for key, value in given.items()}
    return {key: checked[key] for key in kwargs}


def checked_argument(function: Callable[..., Any], key: str, value: Any, width: int = 8) -> Any:
    """Returns one argument of a call as `checked_call` does."""
    argument = arguments_of(function).get(key)
    if argument is None or (value is None and argument.optional):
        return value
    of = f"{key} of {getattr(function, '__name__', 'this function')}"
    if argument.form is not None and callable(value):
        return of_form(key, value, argument.form, width)
    if not IS_RIGHT[argument.kind](value):
        remedy = f": pass jnp.asarray({key})" if isinstance(value, list | tuple) else ""
        if argument.form is not None:
            remedy = f": such as {example_of(key, argument.form)}"
        raise ValueError(f"{of} must be {argument.kind}; got {shown(value)}{remedy}")
    dtype: Any = getattr(value, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "OSUMm":
        raise ValueError(f"{of} must hold numbers; got an array of {dtype}")
    if argument.unsigned and not jnp.issubdtype(dtype, jnp.unsignedinteger):
        remedy = f": pass {key}.astype(jnp.uint32)" if jnp.issubdtype(dtype, jnp.integer) else ""
        raise ValueError(
            f"{key} must be unsigned integers, the two words of a hash; got {dtype}{remedy}"
        )
    return value


def shown(value: Any) -> str:
    """Says in a few words what a value is."""
    if value is None or isinstance(value, str | bool | int | float):
        return repr(value)[:60]
    if isinstance(value, ARRAYS):
        return f"an array of shape {value.shape}"
    return f"a {type(value).__name__}"


def arguments_of(function: Callable[..., Any]) -> Mapping[str, Argument]:
    """Returns what the annotated arguments of a function take, those of a `partial` too."""
    while isinstance(function, functools.partial):
        function = function.func
    return _arguments_of(inspect.unwrap(function))


@functools.cache
def _arguments_of(function: Callable[..., Any]) -> Mapping[str, Argument]:
    hints = typing.get_type_hints(function)
    hints.pop("return", None)
    return {name: _argument(hint) for name, hint in hints.items()}


def _argument(hint: Any) -> Argument:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if union else (hint,)
    optional = type(None) in options
    options = [option for option in options if option is not type(None)]
    if set(typing.get_args(Scalar)) <= set(options):
        return Argument("a number", optional)
    for option in options:
        if option in DUE:
            return Argument("a function", optional, form=DUE[option])
    if all(isinstance(x, type) and issubclass(x, AbstractArray) for x in options):
        unsigned = all(set(x.dtypes) == {"uint32"} for x in options)
        return Argument("an array", optional, unsigned)
    origins = {typing.get_origin(option) or option for option in options}
    for kind, of_kind in KINDS.items():
        if origins <= of_kind and origins != {str}:
            return Argument(kind, optional)
    return Argument("", optional)
