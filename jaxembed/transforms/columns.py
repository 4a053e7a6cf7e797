"""What transforms of losses share: the columns of a call, its key, and what is drawn with it.

Columns are the embeddings that a loss takes by position, however they are passed in a call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxembed.typing import LossFn

Columns = dict[str, Array]  # by the names of the parameters; without those that are None


def bind(
    loss: LossFn, args: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[Columns, Callable[..., Array]]:
    """Returns the columns of a call, and `call(columns, **keywords)`, the call with other ones.

    The keywords given to `call` replace or join those of this call. The arrays of a parameter
    `*documents` are the columns `documents[0]`, `documents[1]` and so on.

    Raises:
        ValueError: a column that is no array.

    >>> def loss(left, right, *, scale=1.0):
    ...     return scale * jnp.sum(left * right)
    >>> columns, call = bind(loss, [jnp.ones(2)], {"right": jnp.ones(2), "scale": 3.0})
    >>> sorted(columns), float(call(columns))
    (['left', 'right'], 6.0)
    """
    parameters = inspect.signature(loss).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    star = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "argument")
    beyond = [f"{star}[{i}]" for i in range(len(args) - len(names))]
    by_position = [*names, *beyond][: len(args)]
    by_name = [name for name in names if name in keywords]
    given = dict(zip(by_position, args, strict=True)) | {name: keywords[name] for name in by_name}
    for name, column in given.items():
        if not isinstance(column, jax.Array | np.ndarray | None):
            kind = type(column).__name__
            raise ValueError(f"{name} of {name_of(loss)} must be an array; got a {kind}")
    columns = {name: jnp.asarray(column) for name, column in given.items() if column is not None}
    rest = {name: value for name, value in keywords.items() if name not in by_name}

    def call(columns: Columns, **replaced: Any) -> Array:
        args = [columns.get(name) for name in by_position]
        named = {name: columns.get(name) for name in by_name}
        return loss(*args, **named, **{**rest, **replaced})

    return columns, call


def without_partial(loss: LossFn, keywords: Mapping[str, Any]) -> tuple[LossFn, dict[str, Any]]:
    """Returns the loss without keywords that `partial` binds, and these with those of the call.

    >>> loss = functools.partial(max, key=abs, default=0)
    >>> without_partial(loss, {"default": 1}) == (max, {"key": abs, "default": 1})
    True
    """
    keywords = dict(keywords)
    while isinstance(loss, functools.partial) and not loss.args:
        keywords = {**loss.keywords, **keywords}
        loss = loss.func
    return loss, keywords


def takes_key(loss: LossFn) -> bool:
    """Returns True if a loss takes the keyword `key`, as one does that draws."""
    return "key" in inspect.signature(loss).parameters


def wraps_and_takes(
    loss: LossFn, keyword: str, annotation: str
) -> Callable[[Callable[..., Array]], LossFn]:
    """Makes a function look like the loss that it wraps, with `keyword=None` as well."""

    def decorate(function: Callable[..., Array]) -> LossFn:
        wrapped = cast(Any, functools.wraps(loss)(function))
        signature = inspect.signature(loss)
        parameters = [p for p in signature.parameters.values() if p.name != keyword]
        ends = bool(parameters) and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
        added = inspect.Parameter(
            keyword, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
        )
        parameters.insert(len(parameters) - ends, added)
        wrapped.__signature__ = signature.replace(parameters=parameters)
        return wrapped

    return decorate


def draw(key: Array | None, count: int, n: int, message: str) -> Array:
    """Draws `count` of the numbers below n, without replacement.

    Raises:
        ValueError: there is no key; `message` says who draws what.
    """
    if key is None:
        raise ValueError(f"{message}: pass key=, a new one in every step")
    return jax.random.choice(key, n, (count,), replace=False)


def name_of(function: Any) -> str:
    """Returns the name of a function, also of one with arguments bound by `partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)
