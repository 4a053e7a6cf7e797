"""The types of the columns of JSON lines; those of later lines may be wider than the first's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxembed.data.arrow_types import is_list
from jaxembed.data.errors import DataError
from jaxembed.data.stream_formats import LINES, dates_as_texts, read_tables

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, Features


def json_features(files: Sequence[str]) -> Features | None:
    """Returns the types that hold the values of all lines; None where a file is not of lines.

    Raises:
        DataError: texts and numbers, or lists and others, in one column; it names file and row.
    """
    import pyarrow as pa
    from datasets import Features

    if not all(file.lower().removesuffix(".gz").endswith(LINES) for file in files):
        return None
    schema = pa.schema([])
    for file in files:
        row, before = 0, set(schema.names)
        try:
            for table in read_tables(file, 0, None):
                schema = _joined(schema, table, file, row)
                row += len(table)
        except DataError as error:
            if "of one type" in str(error):
                raise
            return None  # not of lines: its reader says what is wrong
        if before and before != set(schema.names):
            return None  # files of other columns do not fit
    return Features.from_arrow_schema(schema)


def check_rows(dataset: Dataset, files: Sequence[str]) -> None:
    """Refuses a file that is one object, with the rows in one of its entries.

    Raises:
        DataError: names the entry.
    """
    import pyarrow as pa

    if len(files) > 1 or len(dataset) > 1 or not files[0].lower().endswith(".json"):
        return
    with open(files[0], "rb") as stream:
        if not stream.read(100).lstrip().startswith(b"{"):
            return
    for field in dataset.features.arrow_schema:
        if is_list(field.type) and pa.types.is_struct(field.type.value_type):
            raise DataError(
                f"{files[0]} is one object, with rows in {field.name!r}; write these alone, as a"
                " list of objects"
            )


def with_dates_as_texts(dataset: Dataset, files: Sequence[str]) -> Dataset:
    """Reads texts again that look like dates, such as "2020-02-02", as they stand in the files.

    `datasets` has made timestamps of them. These columns are held in memory.
    """
    import pyarrow as pa
    from datasets import Dataset, concatenate_datasets

    names = dataset.column_names
    dated = dates_as_texts(dataset.features.arrow_schema)
    if not len(dated):
        return dataset
    try:
        tables = [table for file in files for table in read_tables(file, 0, dated)]
    except DataError:  # not of lines
        return dataset
    texts = Dataset(pa.concat_tables(tables))
    rest = dataset.remove_columns(dated.names)
    together = concatenate_datasets([rest, texts], axis=1) if rest.column_names else texts
    return together.select_columns(names)


def _joined(schema: pa.Schema, table: pa.Table, file: str, row: int) -> pa.Schema:
    import pyarrow as pa

    try:
        return pa.unify_schemas([schema, table.schema], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        for field in table.schema:
            known = schema.field(field.name).type if field.name in schema.names else field.type
            try:
                pa.unify_schemas(
                    [pa.schema([(field.name, known)]), pa.schema([field])],
                    promote_options="permissive",
                )
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                at = row + table[field.name].is_valid().index(True).as_py()
                raise DataError(
                    f"{file}: column {field.name!r} has both {known} and, in row {at},"
                    f" {field.type}; write values of one type"
                ) from None
        raise
