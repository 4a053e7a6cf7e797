"""Settings: each has its type and range declared beside it, checked alike for flags, files, calls.

The annotation of a dataclass's field or of a function's parameter is the declaration:

    steps: Count = 120
    dropout: Annotated[float, At(float, least=0, most=1)] = 0.1

Numbers are finite. A whole number may stand where a float is due.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from jaxembed.forms import At, Choice, FormError, fault_of

Count = Annotated[int, At(int, least=1)]
Natural = Annotated[int, At(int, least=0)]
Seed = Annotated[int, At(int, least=0, most=2**32 - 1)]
Positive = Annotated[float, At(float, above=0)]
NotNegative = Annotated[float, At(float, least=0)]
Share = Annotated[float, At(float, least=0, most=1)]

WORDS = {tuple: "a list", Sequence: "a list", Mapping: "a dict", Path: "a path"}
WORDS |= {Callable: "a function"}
PLAIN = (int, float, str, bool, NoneType)


def check_fields(settings: Any) -> None:
    """Checks the fields of a dataclass against their annotations.

    Raises:
        FormError: the first field that differs, what is due and what came.

    >>> @dataclasses.dataclass
    ... class Settings:
    ...     rate: Positive = 0.1
    ...     sizes: tuple[Count, ...] = ()
    >>> check_fields(Settings(rate=1, sizes=(1, 2)))
    >>> check_fields(Settings(rate=float("nan")))
    Traceback (most recent call last):
    ...
    jaxembed.forms.FormError: rate must be a finite number above 0; got NaN
    """
    names = [field.name for field in dataclasses.fields(settings)]
    hints = get_type_hints(type(settings), include_extras=True)
    _check({name: getattr(settings, name) for name in names}, hints)


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Checks the arguments of a call against the annotations of the function's parameters.

    Raises:
        FormError: the first argument that differs, what is due and what came.
    """
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    _check({name: arguments[name] for name in parameters if name in arguments}, hints)


def check_keywords(
    called: str, keywords: Iterable[str], function: Callable[..., Any], *, besides: Collection[str]
) -> None:
    """Refuses keywords that are passed on to a function which lacks them.

    Raises:
        TypeError: naming the first of them, `called`, which the user called, and what there is.
    """
    known = [name for name in inspect.signature(function).parameters if name not in besides]
    if unknown := [name for name in keywords if name not in known]:
        raise TypeError(
            f"{called}() takes no {unknown[0]!r}; further options are {', '.join(sorted(known))}"
        )


def _check(values: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if fault := _fault(value, hints.get(name, Any), name):
            raise FormError(fault)


def _fault(value: Any, hint: Any, name: str) -> str | None:
    """Says what of a value differs from an annotation, or returns None."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return None
    if origin is Annotated:
        forms = [one for one in inner[1:] if isinstance(one, At | Choice | tuple | Mapping | list)]
        return fault_of(_plain(value), forms[0], name) if forms else _fault(value, inner[0], name)
    if origin in (Union, UnionType):
        faults = [_fault(value, one, name) for one in inner]
        of_values = [fault for fault, one in zip(faults, inner, strict=True) if one is not NoneType]
        return None if None in faults else of_values[0]
    if origin is Literal:
        return fault_of(value, Choice(*inner), name)
    if hint in PLAIN:
        return fault_of(_plain(value), None if hint is NoneType else hint, name)
    if origin is tuple:
        return _fault_of_items(value, inner, name)
    kind = origin or hint
    if not isinstance(kind, type):
        return None  # such as a type variable
    text = isinstance(value, str | bytes) and kind is Sequence
    return None if isinstance(value, kind) and not text else _must_be(name, kind, value)


def _fault_of_items(value: Any, inner: Sequence[Any], name: str) -> str | None:
    """Checks a tuple of as many items as there are forms, or of any number of one form."""
    if not isinstance(value, tuple | list):
        return _must_be(name, tuple, value)
    of_items = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
    if len(of_items) != len(value):
        return f"{name} takes {len(of_items)} values; got {len(value)}"
    pairs = zip(value, of_items, strict=True)
    faults = (_fault(item, one, f"{name}[{index}]") for index, (item, one) in enumerate(pairs))
    return next(filter(None, faults), None)


def _plain(value: Any) -> Any:
    """Returns numbers of NumPy and JAX as those of Python."""
    return value.item() if getattr(value, "shape", None) == () else value


def _must_be(name: str, kind: type, value: Any) -> str:
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    word = WORDS.get(kind) or f"{article} {kind.__name__}"
    shown = repr(value)
    came = f"{type(value).__name__} {shown if len(shown) <= 60 else shown[:60] + '…'}"
    return f"{name} must be {word}; got {came}"
