"""Checked rows, read by role and row number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxembed.data.arrow_types import is_list, is_text, plain, plain_type
from jaxembed.data.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

Indices = np.ndarray | range
CHUNK = 100_000  # rows checked at once
SHOWN = 12  # names of columns in a line


@dataclass(frozen=True)
class Rows:
    """The bound columns of a data set; `bind_columns` builds and checks them.

    `columns` are the columns of each role, each a data set of one column in Arrow form, so that
    rows stay on the disk and travel to worker processes as a path. `max_negatives` is the greatest
    number of negatives that a row can have. `noisy` are the roles whose texts get damaged, and
    `dropped` says how many rows of the data are not among these, and why. `words` are the words of
    labels that are classes: class 0 is the first. `unused` are the other columns of the data, and
    `spare` those among them that hold negatives which the objective could use.
    """

    columns: Mapping[str, tuple[Dataset, ...]]
    text_roles: tuple[str, ...]
    label_types: Mapping[str, type]
    max_negatives: int = 0
    noisy: frozenset[str] = frozenset()
    dropped: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.columns[self.text_roles[0]][0])

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The names of the text columns in the order of the roles, negatives last."""
        roles = (*self.text_roles, *(["negatives"] if self.max_negatives else []))
        return tuple(column.column_names[0] for role in roles for column in self.columns[role])

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of all bound columns."""
        names = (column.column_names[0] for its in self.columns.values() for column in its)
        return tuple(dict.fromkeys(names))

    @property
    def taken(self) -> str:
        """Which column plays which role, in a line: "anchors = question; not used: id"."""
        used = ", ".join(
            f"{role} = {' + '.join(column.column_names[0] for column in its)}"
            for role, its in self.columns.items()
        )
        return f"{used}; not used: {listed(self.unused)}" if self.unused else used

    def texts(self, role: str, indices: Indices) -> list[str]:
        """Returns the role's text of each row, `[n]`."""
        (column,) = self.columns[role]
        return take(column, indices).to_pylist()

    def negatives(self, indices: Indices) -> list[list[str]]:
        """Returns the negatives of each row; one row may have fewer than another."""
        lists: list[list[str]] = [[] for _ in indices]
        for column in self.columns.get("negatives", ()):
            for texts, value in zip(lists, take(column, indices).to_pylist(), strict=True):
                values = [value] if isinstance(value, str) else value or ()
                texts.extend(text for text in values if text is not None)
        return lists

    def labels(self, role: str, indices: Indices) -> np.ndarray:
        """Returns float32 or int32 `[n]`, `[n width]` or, for lists of lists, `[n k width]`."""
        (column,) = self.columns[role]
        numbers = _numbers(take(column, indices))
        return numbers.astype(np.float32 if self.label_types[role] is float else np.int32)

    def describe(self, indices: Indices) -> list[dict[str, Any]]:
        """Returns each row as a dict of its number, texts and labels, for people to read."""
        columns: dict[str, list[Any]] = {"row": np.asarray(indices).tolist()}
        columns |= {role: self.texts(role, indices) for role in self.text_roles}
        columns |= {role: self.labels(role, indices).tolist() for role in self.label_types}
        if self.max_negatives:
            columns["negatives"] = self.negatives(indices)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def check_texts(role: str, column: Dataset) -> None:
    """Refuses a column that holds anything but texts, or no text somewhere."""
    if not is_text(type_of(column)):
        raise DataError(f"{_name(column)} must hold texts for {role!r}; {_found(column, str)}")
    for start, values in _chunks(column):
        _check_no_null(role, column, start, values)
        _check_utf8(column, start, values)


def check_negatives(column: Dataset) -> int:
    """Refuses a column that holds neither texts nor lists of texts; null is "none".

    Returns how many negatives a row can have of it.
    """
    import pyarrow as pa

    if is_text(type_of(column)):
        for start, values in _chunks(column):
            _check_utf8(column, start, values)
        return 1
    if pa.types.is_null(element_type(column)):
        return 0  # every list is empty
    if not is_text(element_type(column)):
        raise DataError(f"{_name(column)} must hold texts for 'negatives'; {_found(column, str)}")
    for start, values in _chunks(column):
        _check_utf8(column, start, values)
    return max(max(_lengths(values)) for _, values in _chunks(column))


def check_labels(role: str, column: Dataset, expected: type) -> None:
    """Refuses a column that holds no numbers, a missing one, or one that 32 bits cannot hold.

    Where integers are expected, floats must be whole. Lists of numbers, and lists of such lists,
    must have the same length.
    """
    import pyarrow.types as kinds

    kind = innermost_type(column)
    if not (kinds.is_floating(kind) or kinds.is_integer(kind) or kinds.is_boolean(kind)):
        raise _no_labels(role, column, expected, _found(column, expected))
    lengths: dict[int, set[int]] = {}  # by depth
    for start, values in _chunks(column):
        _check_no_null(role, column, start, values)
        for depth, lists in enumerate(_lists(values)):
            widths = lengths.setdefault(depth, set())
            widths |= _lengths(lists)
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
        broken = np.argwhere(~whole(numbers)) if expected is int else []
        if len(broken):
            value = numbers[tuple(broken[0])]
            found = f"it holds float such as {value} (row {start + broken[0][0]})"
            raise _no_labels(role, column, expected, found)


def whole(numbers: np.ndarray) -> np.ndarray:
    """Says which numbers are whole."""
    return numbers == np.floor(numbers) if numbers.dtype.kind == "f" else numbers == numbers


def listed(names: Sequence[str]) -> str:
    """Names some columns, and counts the others."""
    more = f" and {len(names) - SHOWN:,} others" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def type_of(column: Dataset) -> pa.DataType:
    """Returns the type of the values of a data set's only column."""
    return plain_type(column.features.arrow_schema.field(0).type)


def element_type(column: Dataset) -> pa.DataType:
    """Returns the type of the values of a data set's only column, or of what its lists hold."""
    kind = type_of(column)
    return kind.value_type if is_list(kind) else kind


def innermost_type(column: Dataset) -> pa.DataType:
    """Returns `element_type`, also through lists of lists."""
    kind = type_of(column)
    while is_list(kind):
        kind = kind.value_type
    return kind


def take(column: Dataset, indices: Indices) -> pa.ChunkedArray:
    """Reads the values of some rows of a data set's only column."""
    table: Any = column[indices]
    return plain(table.column(0))


def _chunks(column: Dataset) -> Iterator[tuple[int, pa.ChunkedArray]]:
    for start in range(0, len(column), CHUNK):
        yield start, take(column, range(start, min(start + CHUNK, len(column))))


def _check_no_null(role: str, column: Dataset, start: int, values: pa.ChunkedArray) -> None:
    if values.null_count:
        row = start + values.is_null().index(True).as_py()
        raise DataError(f"{_name(column)} has nothing (null) in row {row}; {role!r} needs a value")


def encoding_fault(values: pa.ChunkedArray) -> tuple[int, str] | None:
    """Returns the first row with a text of another encoding, which readers of JSON do not see."""
    import pyarrow as pa

    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        for row, value in enumerate(values):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                return row, f"is no UTF-8 ({error.reason} {error.object!r}): save the file as UTF-8"
        raise
    return None


def _check_utf8(column: Dataset, start: int, values: pa.ChunkedArray) -> None:
    if fault := encoding_fault(values):
        raise DataError(f"{_name(column)}, row {start + fault[0]}, {fault[1]}")


def _lengths(values: pa.ChunkedArray) -> set[int]:
    """Returns the lengths of lists that occur, 0 for null."""
    import pyarrow.compute as pc

    lengths = pc.call_function("list_value_length", [values])
    return {length or 0 for length in lengths.unique().to_pylist()}


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    """Returns numbers `[n]`, or `[n …]` for lists of one length, and lists of such lists."""
    shape = [len(values)]
    for lists in _lists(values):
        (width,) = _lengths(lists) or {0}
        shape.append(width)
        values = _flat(lists)
    return values.to_numpy().reshape(shape)


def _lists(values: pa.ChunkedArray) -> Iterator[pa.ChunkedArray]:
    """Yields the lists that the values are, then the lists in those."""
    while is_list(values.type):
        yield values
        values = _flat(values)


def _flat(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.call_function("list_flatten", [lists])


def _fit_32_bits(numbers: np.ndarray, expected: type) -> np.ndarray:
    if expected is int:
        return (numbers >= -(2**31)) & (numbers < 2**31)
    with np.errstate(over="ignore"):
        return np.isfinite(numbers.astype(np.float32))


def _no_labels(role: str, column: Dataset, expected: type, found: str) -> DataError:
    return DataError(
        f"a column of {expected.__name__} is needed for {role!r}; {_name(column)} is none: {found}"
    )


def _name(column: Dataset) -> str:
    return f"column {column.column_names[0]!r}"


def _found(column: Dataset, expected: type) -> str:
    """Says what a column holds, by its first value that is not of the expected type."""
    values = column.with_format(None)[column.column_names[0]]
    others = (item for item in enumerate(values) if not isinstance(item[1], expected))
    row, value = next(others, (0, type_of(column)))
    return f"it holds {type(value).__name__} such as {value!r} (row {row})"
