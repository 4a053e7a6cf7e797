"""Rows that have one text for each role, and all that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxembed.data.arrow_types import is_list, is_text
from jaxembed.data.errors import DataError
from jaxembed.data.labels import rows_without
from jaxembed.data.rows import take, type_of

if TYPE_CHECKING:
    from datasets import Dataset

Bound = dict[str, tuple["Dataset", ...]]  # role -> its columns
INCOMPLETE = "without a text or label that it needs"


def one_text_a_row(
    columns: Mapping[str, tuple[Dataset, ...]], text_roles: Sequence[str], *, null: bool = False
) -> tuple[Bound, dict[str, int]]:
    """Gives each text of a column of lists a row of its own, beside which the others are repeated.

    Returns the columns, and the number of rows that are gone as their list was empty.

    Raises:
        DataError: several text columns have lists, or a list has a null, unless `null` allows it.
    """
    import pyarrow.compute as pc
    from datasets import Dataset
    from pyarrow import table

    listed = [
        role
        for role in text_roles
        if is_list(kind := type_of(columns[role][0])) and is_text(kind.value_type)
    ]
    if not listed:
        return dict(columns), {}
    if len(listed) > 1:
        names = [columns[role][0].column_names[0] for role in listed]
        raise DataError(f"only one column of texts may have lists; {' and '.join(names)} have them")
    (role,) = listed
    (column,) = columns[role]
    lists = take(column, range(len(column)))
    lengths = pc.call_function("list_value_length", [lists]).fill_null(0).to_numpy()
    repeated = np.repeat(np.arange(len(lengths)), lengths)
    flat = pc.call_function("list_flatten", [lists])
    if flat.null_count and not null:
        row = repeated[flat.is_null().index(True).as_py()]
        raise DataError(
            f"column {column.column_names[0]!r} has nothing (null) in the list of row {row};"
            f" {role!r} needs texts"
        )
    texts = table({column.column_names[0]: flat})
    made: Bound = {name: tuple(x.select(repeated) for x in its) for name, its in columns.items()}
    made[role] = (Dataset(texts).with_format("arrow"),)
    empty = int((lengths == 0).sum())
    return made, {f"with no text in {column.column_names[0]}": empty} if empty else {}


def only_complete(
    columns: Mapping[str, tuple[Dataset, ...]], text_roles: Sequence[str], labels: Sequence[str]
) -> tuple[Bound, dict[str, int]]:
    """Leaves out the rows where a text is missing or empty, or a label is missing.

    Returns the columns, and the number of rows that are gone.

    Raises:
        DataError: no row is complete.
    """
    import pyarrow.compute as pc

    keep: np.ndarray | None = None
    for role in (*text_roles, *labels):
        (column,) = columns[role]
        values = take(column, range(len(column)))
        there = values.is_valid()
        if is_text(values.type):
            trimmed = pc.call_function("utf8_trim_whitespace", [values])
            filled = pc.call_function("binary_length", [trimmed]).fill_null(0)
            there = pc.call_function("greater", [filled, 0])
        here = there.to_numpy()
        keep = here if keep is None else keep & here
    assert keep is not None
    if keep.all():
        return dict(columns), {}
    if not keep.any():
        raise DataError(f"every row is {INCOMPLETE}; name other columns")
    kept = np.flatnonzero(keep)
    made: Bound = {role: tuple(x.select(kept) for x in its) for role, its in columns.items()}
    return made, {INCOMPLETE: int((~keep).sum())}


def without_labels(
    columns: Mapping[str, tuple[Dataset, ...]], role: str, labels: Sequence[str]
) -> tuple[Bound, dict[str, int]]:
    """Drops the rows that have one of these labels, and counts them.

    Raises:
        DataError: all rows have one.
    """
    (column,) = columns[role]
    kept = rows_without(column, labels)
    if not len(kept):
        raise DataError(f"every row has one of the labels {', '.join(labels)}; drop fewer")
    made: Bound = {name: tuple(x.select(kept) for x in its) for name, its in columns.items()}
    return made, {f"with the label {' or '.join(labels)}": len(column) - len(kept)}
