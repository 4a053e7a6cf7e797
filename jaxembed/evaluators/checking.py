"""Checks of what evaluators are given: texts, labels, numbers, tables by id."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any

from jaxembed.search import SIMILARITIES


def shown(value: Any) -> str:
    """Names a value and its type, cut to what fits into a message."""
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 60 else f'{text[:60]}…'}"


def check_column(name: str, values: Any, what: str) -> None:
    """Refuses what is no sequence of things: a text, a dict, a set, a generator, a matrix."""
    sized = hasattr(values, "__len__") and hasattr(values, "__getitem__")
    if (
        not sized
        or isinstance(values, str | bytes | Mapping | Set)
        or getattr(values, "ndim", 1) != 1
    ):
        shape = getattr(values, "shape", None)
        came = shown(values) if shape is None else f"shape {list(shape)}"
        if isinstance(values, str):
            came = f"the text {values!r}"
        raise ValueError(f"{name} must be a sequence of {what}, got {came}")


def check_texts(**columns: Sequence[str]) -> None:
    """Refuses columns of different lengths or of none, and names the first row without a text."""
    for name, column in columns.items():
        check_column(name, column, "texts")
    lengths = tuple(len(column) for column in columns.values())
    if len(set(lengths)) > 1 or lengths[0] < 1:
        names = " and ".join(columns)
        raise ValueError(f"{names} must have the same length, 1 or more, got {lengths}")
    for name, column in columns.items():
        for row, text in enumerate(column):
            if not isinstance(text, str):
                raise ValueError(f"{name} must be texts, but row {row} is {text!r}: drop the row")


def check_texts_by_id(name: str, texts: Any) -> None:
    """Refuses what does not map ids to texts."""
    check_mapping(name, texts, "ids to texts, such as {'a1': 'a text'}")
    for key, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{name} must be texts, but that of {key!r} is {text!r}: drop it")


def check_mapping(name: str, values: Any, what: str) -> None:
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} must map {what}; got {shown(values)}")


def check_labelled(labels: Sequence[object], n: int) -> None:
    """Refuses another number of labels than of pairs."""
    check_column("labels", labels, "labels")
    if len(labels) != n:
        raise ValueError(f"every pair needs a label, got {len(labels)} for {n} pairs")


def check_similarities(similarities: Sequence[str]) -> None:
    known = sorted(SIMILARITIES)
    several = hasattr(similarities, "__len__") and not isinstance(similarities, str)
    if not several or len(similarities) == 0:
        raise ValueError(f"similarities must be some of {known}, got {similarities!r}")
    for similarity in similarities:
        if not isinstance(similarity, str) or similarity not in SIMILARITIES:
            raise ValueError(f"similarity must be one of {known}, got {similarity!r}")


def is_count(value: object) -> bool:
    """Returns True if a value is a whole number of 1 or more."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def is_finite(value: object) -> bool:
    """Returns True if a value is a number, neither NaN nor infinite."""
    return isinstance(value, Real) and math.isfinite(value)
