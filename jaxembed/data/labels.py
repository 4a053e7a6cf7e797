"""Columns of labels: numbers, numbers that a file has as texts, and words, which are numbered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxembed.data.arrow_types import is_text
from jaxembed.data.errors import DataError
from jaxembed.data.rows import innermost_type, take, type_of, whole

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

SAMPLE = 1000  # rows by which a column of texts is taken for one of numbers


def read_labels(role: str, column: Dataset, expected: type) -> tuple[Dataset, tuple[str, ...]]:
    """Returns a column with numbers for its texts, and the words that the numbers stand for.

    Texts that are all numbers (or all true and false), as CSV has them, are these numbers. Others
    are words: classes, numbered in their order from 0, which is the same wherever the same rows
    are read. A class label of `datasets` has its own order.

    Raises:
        DataError: a word where the role needs a number.

    >>> from datasets import Dataset
    >>> ways = Dataset.from_dict({"way": ["up", "down", "up"]}).with_format("arrow")
    >>> column, words = read_labels("labels", ways, int)
    >>> column.to_dict(), words
    ({'way': [1, 0, 1]}, ('down', 'up'))
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    (name,) = column.column_names
    if not is_text(innermost_type(column)):
        names = getattr(column.features[name], "names", ())
        return column, tuple(names) if expected is int else ()
    if not is_text(type_of(column)):
        return column, ()  # lists of texts: no labels, as the check says
    values = take(column, range(len(column)))
    empty = pc.call_function("equal", [values, ""])
    values = pc.call_function("if_else", [empty, None, values])
    numbers = as_numbers(values)
    if numbers is not None:
        return _column(name, numbers), ()
    if expected is not int or role != "labels":
        row, word = next(
            (row, value)
            for row, value in enumerate(values.to_pylist())
            if value is not None and as_numbers(values.slice(row, 1)) is None
        )
        raise DataError(
            f"a column of {expected.__name__} is needed for {role!r}; column {name!r} is none: "
            f"it holds str such as {word!r} (row {row})"
        )
    words = sorted(set(values.to_pylist()) - {None})
    options = pc.SetLookupOptions(pa.array(words, values.type))
    codes = pc.call_function("index_in", [values], options)
    return _column(name, codes), tuple(words)


def as_numbers(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Returns texts as floats if each is a number, or each is true or false; else None."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if values.null_count == len(values):
        return None
    trimmed = pc.call_function("utf8_trim_whitespace", [values])
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid:
        lower = pc.call_function("utf8_lower", [trimmed])
        if not set(lower.unique().to_pylist()) <= {"true", "false", None}:
            return None
        return pc.call_function("equal", [lower, "true"]).cast(pa.float64())


def holds_numbers(column: Dataset) -> bool:
    """Returns True if the first rows of a column are numbers, be they texts or not."""
    if not is_text(innermost_type(column)):
        return True
    if not is_text(type_of(column)):
        return False
    return as_numbers(take(column, range(min(SAMPLE, len(column))))) is not None


def rows_without(column: Dataset, labels: Sequence[str]) -> np.ndarray:
    """Finds the rows whose label is none of these, by what is written: -1 is -1.0 too."""
    values = take(column, range(len(column))).to_pylist()
    dropped = {value: any(_same(value, label) for label in labels) for value in set(values)}
    return np.flatnonzero([not dropped[value] for value in values])


def whole_or_word(values: Sequence[Any]) -> list[Any]:
    """Returns classes as integers where all are whole numbers, else as they are."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        return list(values)
    return [int(n) for n in numbers] if whole(np.array(numbers)).all() else list(values)


def _same(value: Any, label: str) -> bool:
    try:
        return float(value) == float(label)
    except (TypeError, ValueError):
        return value is not None and str(value) == label


def _column(name: str, values: pa.ChunkedArray) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset

    return Dataset(pa.table({name: values})).with_format("arrow")
