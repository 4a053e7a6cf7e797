"""Checked rows, read by role and row number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxembed.data.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

Indices = np.ndarray | range
CHUNK = 100_000  # rows checked at once


@dataclass(frozen=True)
class Rows:
    """The bound columns of a data set; `bind_columns` builds and checks them.

    `columns` are the columns of each role, each a data set of one column in Arrow form, so that
    rows stay on the disk and travel to worker processes as a path. `max_negatives` is the greatest
    number of negatives that a row can have.
    """

    columns: Mapping[str, tuple[Dataset, ...]]
    text_roles: tuple[str, ...]
    label_types: Mapping[str, type]
    max_negatives: int = 0

    def __len__(self) -> int:
        return len(self.columns[self.text_roles[0]][0])

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The names of the text columns in the order of the roles, negatives last."""
        roles = (*self.text_roles, *(["negatives"] if self.max_negatives else []))
        return tuple(column.column_names[0] for role in roles for column in self.columns[role])

    def texts(self, role: str, indices: Indices) -> list[str]:
        """Returns the role's text of each row, `[n]`."""
        (column,) = self.columns[role]
        return _take(column, indices).to_pylist()

    def negatives(self, indices: Indices) -> list[list[str]]:
        """Returns the negatives of each row; one row may have fewer than another."""
        lists: list[list[str]] = [[] for _ in indices]
        for column in self.columns.get("negatives", ()):
            for texts, value in zip(lists, _take(column, indices).to_pylist(), strict=True):
                values = [value] if isinstance(value, str) else value or ()
                texts.extend(text for text in values if text is not None)
        return lists

    def labels(self, role: str, indices: Indices) -> np.ndarray:
        """Returns float32 or int32 `[n]`, or `[n width]` for a column of lists."""
        (column,) = self.columns[role]
        numbers = _numbers(_take(column, indices))
        return numbers.astype(np.float32 if self.label_types[role] is float else np.int32)


def check_texts(role: str, column: Dataset) -> None:
    """Refuses a column that holds anything but texts, or no text somewhere."""
    if not is_text(type_of(column)):
        raise DataError(f"{_name(column)} must hold texts for {role!r}; {_found(column, str)}")
    for start, values in _chunks(column):
        _check_no_null(role, column, start, values)


def check_negatives(column: Dataset) -> int:
    """Refuses a column that holds neither texts nor lists of texts; null is "none".

    Returns how many negatives a row can have of it.
    """
    if is_text(type_of(column)):
        return 1
    if not is_text(element_type(column)):
        raise DataError(f"{_name(column)} must hold texts for 'negatives'; {_found(column, str)}")
    return max(max(_lengths(values)) for _, values in _chunks(column))


def check_labels(role: str, column: Dataset, expected: type) -> None:
    """Refuses a column that holds no numbers, a missing one, or one that 32 bits cannot hold.

    Lists of numbers must have the same length.
    """
    import pyarrow.types as kinds

    kind = element_type(column)
    fits = kinds.is_floating(kind) if expected is float else kinds.is_boolean(kind)
    if not (fits or kinds.is_integer(kind)):
        raise DataError(
            f"a column of {expected.__name__} is needed for {role!r}; {_name(column)} is none: "
            f"{_found(column, expected)}"
        )
    widths: set[int] = set()
    for start, values in _chunks(column):
        _check_no_null(role, column, start, values)
        if is_list(column):
            widths |= _lengths(values)
            if len(widths) > 1:
                raise DataError(
                    f"{_name(column)} must have lists of one length; it has {sorted(widths)}"
                )
        numbers = _numbers(values)
        bad = np.argwhere(~_fit_32_bits(numbers, expected))
        if len(bad):
            value = numbers[tuple(bad[0])]
            raise DataError(
                f"{_name(column)} has {value} in row {start + bad[0][0]}; "
                f"{role!r} must be finite and fit into 32 bits"
            )


def is_text(kind: pa.DataType) -> bool:
    """Says whether values of this type are texts."""
    import pyarrow.types as kinds

    return kinds.is_string(kind) or kinds.is_large_string(kind)


def is_list(column: Dataset) -> bool:
    """Says whether the only column of a data set holds lists."""
    return element_type(column) != type_of(column)


def type_of(column: Dataset) -> pa.DataType:
    """Returns the type of the values of a data set's only column."""
    return column.features.arrow_schema.field(0).type


def element_type(column: Dataset) -> pa.DataType:
    """Returns the type of the values of a data set's only column, or of what its lists hold."""
    import pyarrow.types as kinds

    kind = type_of(column)
    lists = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
    return kind.value_type if lists else kind


def _take(column: Dataset, indices: Indices) -> pa.ChunkedArray:
    table: Any = column[indices]
    return table.column(0)


def _chunks(column: Dataset) -> Iterator[tuple[int, pa.ChunkedArray]]:
    for start in range(0, len(column), CHUNK):
        yield start, _take(column, range(start, min(start + CHUNK, len(column))))


def _check_no_null(role: str, column: Dataset, start: int, values: pa.ChunkedArray) -> None:
    if values.null_count:
        row = start + values.is_null().index(True).as_py()
        raise DataError(f"{_name(column)} has nothing (null) in row {row}; {role!r} needs a value")


def _lengths(values: pa.ChunkedArray) -> set[int]:
    """Returns the lengths of lists that occur, 0 for null."""
    import pyarrow.compute as pc

    lengths = pc.call_function("list_value_length", [values])
    return {length or 0 for length in lengths.unique().to_pylist()}


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    """Returns numbers `[n]`, or `[n width]` for lists of one length."""
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    if kinds.is_primitive(values.type):
        return values.to_numpy()
    return pc.call_function("list_flatten", [values]).to_numpy().reshape(len(values), -1)


def _fit_32_bits(numbers: np.ndarray, expected: type) -> np.ndarray:
    if expected is int:
        return (numbers >= -(2**31)) & (numbers < 2**31)
    with np.errstate(over="ignore"):
        return np.isfinite(numbers.astype(np.float32))


def _name(column: Dataset) -> str:
    return f"column {column.column_names[0]!r}"


def _found(column: Dataset, expected: type) -> str:
    """Says what a column holds, by its first value that is not of the expected type."""
    values = column.with_format(None)[column.column_names[0]]
    row, value = next(item for item in enumerate(values) if not isinstance(item[1], expected))
    return f"it holds {type(value).__name__} such as {value!r} (row {row})"
