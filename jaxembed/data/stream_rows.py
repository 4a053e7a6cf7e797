"""The rows of a stream by role: which column plays which, and what none of them may hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from jaxembed.data.arrow_types import is_text
from jaxembed.data.columns import Columns, bind_columns
from jaxembed.data.errors import DataError
from jaxembed.data.rows import Indices, Rows, encoding_fault, whole
from jaxembed.data.streams import Stream

if TYPE_CHECKING:
    import pyarrow as pa

    from jaxembed.typing import Roles

Bounds = Mapping[str, tuple[float, float]]
GREATEST = float(np.finfo(np.float32).max)
LIMITS = {int: (-(2.0**31), 2.0**31 - 1), float: (-GREATEST, GREATEST)}


@dataclass(frozen=True)
class StreamColumn:
    """One column of a stream, read as a data set of one column in Arrow form is."""

    stream: Stream
    name: str

    @property
    def column_names(self) -> list[str]:
        return [self.name]

    def __len__(self) -> int:
        raise DataError(f"column {self.name!r} is of a stream, whose length nobody knows")

    def __getitem__(self, positions: Indices) -> pa.Table:
        return self.stream.take(np.asarray(positions)).select([self.name])


@dataclass(frozen=True, kw_only=True)
class StreamRows(Rows):
    """The bound columns of a stream; row numbers are positions. `bind_stream` builds them.

    `head` are the first rows, which have a length and can be looked at beforehand.
    """

    stream: Stream
    head: Rows

    def negatives(self, indices: Indices) -> list[list[str]]:
        return [texts[: self.max_negatives] for texts in super().negatives(indices)]

    def describe(self, indices: Indices) -> list[dict[str, Any]]:
        """Returns what `Rows.describe` does, and the file of each row and its number there."""
        origins = self.stream.origins(np.asarray(indices))
        described = zip(super().describe(indices), origins, strict=True)
        return [{**row, "origin": origin} for row, origin in described]


def bind_stream(
    stream: Stream,
    roles: Roles,
    columns: Columns | None = None,
    *,
    use_negatives: bool = False,
    find_optional: bool = True,
    max_negatives: int | None = None,
    bounds: Bounds | None = None,
) -> StreamRows:
    """Finds the column of each role, as `bind_columns` does, in the first rows of a stream.

    They settle the shapes too: the lengths of lists of labels, and how many negatives a row has at
    most. All other rows are checked when they are read. A row that lacks something cannot be left
    out, as positions would then depend on what was read.

    Args:
        max_negatives: of a row with more negatives than so many, the first are taken. None takes as
            many as one of the first rows has at most, and refuses more.
        bounds: the least and the greatest value of a label: role -> (low, high).

    Raises:
        DataError: as of `bind_columns`, or a text column has lists; here or when rows are read.

    >>> from jaxembed.data.sources import EMBEDDED
    >>> from jaxembed.typing import Roles
    >>> stream = Stream(EMBEDDED / "train.parquet", window=100, seed=1)
    >>> rows = bind_stream(stream, Roles(("anchors", "positives")))
    >>> rows.texts("anchors", range(10**6, 10**6 + 1))
    ['oppose: The senator said he would oppose the bill']
    """
    import pyarrow as pa
    from datasets import Dataset

    if max_negatives is not None and max_negatives < 1:
        raise DataError(f"max_negatives must be 1 or more; got {max_negatives}")
    file, table = stream.files.head
    try:
        head = bind_columns(
            Dataset(table),
            roles,
            columns,
            use_negatives=use_negatives,
            find_optional=find_optional,
        )
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    fields = {}
    for role, its in head.columns.items():
        for name in (column.column_names[0] for column in its):
            kind = table.schema.field(name).type
            if role in head.text_roles and not is_text(kind):
                raise DataError(
                    f"{file}: column {name!r} has lists of texts; a row of a stream needs one text"
                    f" for {role!r}: write a row for each, or do not stream the data"
                )
            if role in head.label_types:
                if is_text(kind):
                    raise DataError(
                        f"{file}: column {name!r} has labels that are texts, which a stream cannot"
                        " number; write numbers, or do not stream the data"
                    )
                kind = _numbers(kind, pa.float64())  # of integers too: others may be 0.0 or true
            fields[name] = pa.field(name, kind)
    fault = partial(_fault, head, max_negatives is not None, bounds or {})
    read = stream.only(pa.schema(list(fields.values())), fault)
    return StreamRows(
        {
            role: tuple(cast("Dataset", StreamColumn(read, c.column_names[0])) for c in its)
            for role, its in head.columns.items()
        },
        head.text_roles,
        head.label_types,
        max_negatives if max_negatives and "negatives" in head.columns else head.max_negatives,
        head.noisy,
        unused=head.unused,
        spare=head.spare,
        stream=read,
        head=head,
    )


def _numbers(kind: pa.DataType, number: pa.DataType) -> pa.DataType:
    """Returns the type of numbers, or of lists of them, with another type of number."""
    import pyarrow as pa

    return pa.list_(_numbers(kind.value_type, number)) if hasattr(kind, "value_type") else number


def _fault(head: Rows, cut: bool, bounds: Bounds, table: pa.Table) -> tuple[int, str] | None:
    """Returns the first row with something that its role cannot use, and what that is."""

    def values(role: str) -> Iterator[tuple[str, pa.ChunkedArray]]:
        return ((c.column_names[0], table[c.column_names[0]]) for c in head.columns.get(role, ()))

    for role in (*head.text_roles, *head.label_types):
        for name, column in values(role):
            if column.null_count:
                row = column.is_null().index(True).as_py()
                return row, f"column {name!r} has nothing (null); {role!r} needs a value"
    for role in (*head.text_roles, "negatives"):
        for name, column in values(role):
            if fault := encoding_fault(column):
                return fault[0], f"column {name!r} {fault[1]}"
    for role, kind in head.label_types.items():
        shape = head.labels(role, range(1)).shape[1:]
        for name, column in values(role):
            span = bounds.get(role, LIMITS[kind])
            if fault := _label_fault(column, shape, *span, integers=kind is int):
                return fault[0], f"column {name!r} has {fault[1]} for {role!r}"
    counts = sum((_lengths(column) for _, column in values("negatives")), np.zeros(len(table), int))
    more = np.flatnonzero(counts > head.max_negatives)
    if len(more) and not cut:
        return int(more[0]), (
            f"there are {counts[more[0]]} negatives, and {head.max_negatives} at most in the first"
            " rows; give max_negatives, how many to take"
        )
    return None


def _label_fault(
    values: pa.ChunkedArray, shape: tuple[int, ...], low: float, high: float, *, integers: bool
) -> tuple[int, str] | None:
    import pyarrow.compute as pc

    n, each = len(values), 1
    for width in shape:
        lengths = _lengths(values)
        wrong = np.flatnonzero(lengths != width)
        if len(wrong):
            return int(wrong[0]) // each, f"a list of {lengths[wrong[0]]} where others have {width}"
        values = pc.call_function("list_flatten", [values])
        each *= width
    numbers = values.to_numpy().reshape(n, each)
    wrong = np.argwhere(~((numbers >= low) & (numbers <= high)))  # so is NaN
    if len(wrong):
        row, place = wrong[0]
        return int(row), f"{numbers[row, place]:g}, which is not from {low:g} to {high:g},"
    broken = np.argwhere(~whole(numbers)) if integers else []
    if len(broken):
        row, place = broken[0]
        return int(row), f"{numbers[row, place]:g}, which is not whole,"
    return None


def _lengths(values: pa.ChunkedArray) -> np.ndarray:
    """Returns how many values each row has: of lists, their lengths."""
    import pyarrow.compute as pc

    if is_text(values.type):
        return values.is_valid().to_numpy().astype(int)
    return pc.call_function("list_value_length", [values]).fill_null(0).to_numpy()
