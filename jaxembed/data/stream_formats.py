"""Reading a file of a stream: how many rows it has, and its rows from any one on.

A file is named by its path or, elsewhere, by a URL that `fsspec` knows, such as `hf://datasets/…`.
Whatever goes wrong is a DataError that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from jaxembed.data.arrow_types import is_list, is_text, plain, plain_table
from jaxembed.data.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

LINES = (".jsonl", ".ndjson", ".json")
KINDS = (".parquet", ".arrow", *LINES, *(f"{kind}.gz" for kind in LINES))
BATCH = 8192  # rows of a Parquet file that are decoded at once
BLOCK = 2**22  # bytes of lines that are parsed at once
T = TypeVar("T")


def read_tables(file: str, start: int, schema: pa.Schema | None) -> Iterator[pa.Table]:
    """Yields the rows from `start` on in tables with the columns of the schema, or with all."""
    if file.endswith(".parquet"):
        tables = _parquet_tables(file, start, None if schema is None else schema.names)
    elif file.endswith(".arrow"):
        tables = _arrow_tables(file, start)
    else:
        tables = _line_tables(file, start, schema)
    row = start
    while (table := guarded(file, lambda: next(tables, None), row)) is not None:
        yield plain_table(table) if schema is None else _fitted(table, schema, file)
        row += len(table)


def count_rows(file: str) -> int:
    """Counts the rows of a file; none is parsed for it."""

    def count() -> int:
        if file.endswith(".parquet"):
            from pyarrow.parquet import ParquetFile

            with _open(file) as opened:
                return ParquetFile(opened).metadata.num_rows
        if file.endswith(".arrow"):
            return sum(map(len, _arrow_tables(file, 0)))
        n, last = 0, b"\n"
        for block in _blocks(file):
            n, last = n + block.count(b"\n"), block[-1:]
        return n + (last != b"\n")

    return guarded(file, count)


def file_system(file: str) -> tuple[Any, str]:
    """Returns the file system of a file, and the file's name in it."""
    from fsspec.core import url_to_fs

    return guarded(file, lambda: url_to_fs(file))


def _open(file: str, mapped: bool = False) -> Any:
    import pyarrow as pa

    if "://" not in file:
        return pa.memory_map(file) if mapped else pa.OSFile(file)
    system, path = file_system(file)
    return system.open(path, "rb")


def guarded(file: str, read: Callable[[], T], row: int | None = None) -> T:
    """Reads; of whatever goes wrong, says in which file."""
    try:
        return read()
    except DataError:
        raise
    except Exception as error:  # of a format, the disk, the network or the Hub
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        place = "" if row is None else f" from row {row} on"
        raise DataError(
            f"{file} cannot be read{place} ({reason}); see that it can be reached and is whole"
        ) from error


def _parquet_tables(file: str, start: int, names: list[str] | None) -> Iterator[pa.Table]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    with _open(file) as opened:
        # One group at a time: what is read ahead of a remote file is then no more than that
        parquet = ParquetFile(opened, pre_buffer="://" in file)
        for group in range(parquet.num_row_groups):
            n = parquet.metadata.row_group(group).num_rows
            if start < n:
                for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=names):
                    yield pa.Table.from_batches([batch.slice(min(start, len(batch)))])
                    start = max(0, start - len(batch))
            else:
                start -= n


def _arrow_tables(file: str, start: int) -> Iterator[pa.Table]:
    import pyarrow as pa

    with _open(file, mapped=True) as opened:
        of_file = opened.read(6) == b"ARROW1"
        opened.seek(0)
        reader = pa.ipc.open_file(opened) if of_file else pa.ipc.open_stream(opened)
        numbers = range(reader.num_record_batches) if of_file else ()
        for batch in map(reader.get_batch, numbers) if of_file else reader:
            if start < len(batch):
                yield pa.Table.from_batches([batch.slice(start)])
            start = max(0, start - len(batch))


def _line_tables(file: str, start: int, schema: pa.Schema | None) -> Iterator[pa.Table]:
    skip, row, rest = start, start, b""
    for block in _blocks(file):
        if skip:
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            if len(ends) < skip:
                skip -= len(ends)
                continue
            block, skip = block[ends[skip - 1] + 1 :], 0
        lines, end, rest = (rest + block).rpartition(b"\n")
        if end:
            yield (table := _parsed(lines, schema, file, row))
            row += len(table)
    if rest:
        yield _parsed(rest, schema, file, row)


def _blocks(file: str) -> Iterator[bytes]:
    import pyarrow as pa

    with _open(file) as opened:
        stream = pa.CompressedInputStream(opened, "gzip") if file.endswith(".gz") else opened
        while block := stream.read(BLOCK):
            yield block


def _parsed(lines: bytes, schema: pa.Schema | None, file: str, row: int) -> pa.Table:
    """Parses lines, the last without its end, of which each must be an object."""
    import pyarrow as pa
    from pyarrow.json import ParseOptions, ReadOptions, read_json

    unexpected = "infer" if schema is None else "ignore"
    options = ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected)
    whole = ReadOptions(block_size=len(lines) + 1)  # nothing is cut, and errors number these rows
    try:
        try:
            table = read_json(pa.BufferReader(lines), whole, options)
            if schema is None and len(texts := dates_as_texts(table.schema)):
                options = ParseOptions(explicit_schema=texts, unexpected_field_behavior="infer")
                again = read_json(pa.BufferReader(lines), whole, options)
                table = again.select(table.column_names)
        except pa.ArrowInvalid:  # of other types than the first file: _fitted takes what it can
            if schema is None:
                raise
            table = read_json(pa.BufferReader(lines), whole)
        if len(table) == lines.count(b"\n") + 1:
            return table
        reason = "it has several objects"
    except pa.ArrowInvalid as error:
        reason = str(error)
    reason, _, number = reason.partition(" in row ")
    for at, line in enumerate(lines.split(b"\n")):
        if not line.strip():
            reason, number = "it is empty", str(at)
            break
    place = f"line {row + int(number) + 1}" if number else f"line {row + 1} or a later one"
    mixed = "changed from" in reason and "Column()" not in reason  # which is the row itself
    remedy = "values of one type" if mixed else "one object a line"
    raise DataError(f"{file}: {place} cannot be read ({reason}); write {remedy}")


def dates_as_texts(schema: pa.Schema) -> pa.Schema:
    """Returns the columns where the reader of JSON has taken texts for dates, as texts."""
    import pyarrow as pa

    def texts(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_timestamp(kind):
            return pa.string()
        if is_list(kind):
            return pa.list_(texts(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([(part.name, texts(part.type)) for part in kind])
        return kind

    return pa.schema(
        [(field.name, texts(field.type)) for field in schema if texts(field.type) != field.type]
    )


def _fitted(table: pa.Table, schema: pa.Schema, file: str) -> pa.Table:
    """Takes the columns of the schema, in its types."""
    import pyarrow as pa

    def of_texts(kind: Any) -> bool:
        return of_texts(kind.value_type) if hasattr(kind, "value_type") else is_text(kind)

    if missing := [name for name in schema.names if name not in table.column_names]:
        raise DataError(
            f"{file} has no column {missing[0]!r}, which the first file of the stream has; it has"
            f" {', '.join(table.column_names)}; give all files the same columns"
        )
    columns = []
    for field in schema:
        column = plain(table[field.name])
        kind = column.type
        try:
            if of_texts(kind) is not of_texts(field.type) and not pa.types.is_null(kind):
                raise pa.ArrowInvalid("texts and numbers are no substitute for each other")
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"{file}: column {field.name!r} of {kind} cannot be read as {field.type}, as in"
                " the first file of the stream; write all files alike"
            ) from error
    return pa.Table.from_arrays(columns, schema=schema)
