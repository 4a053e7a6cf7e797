"""Files of rows by their kind: which reader takes them, and with which options."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from jaxembed.data.arrow_types import has_views
from jaxembed.data.errors import DataError
from jaxembed.data.rows import listed

READERS = {  # suffix -> the reader of `datasets`, and its options
    ".parquet": ("parquet", {"batch_size": 10_000}),  # else the first group's size, which may be 0
    ".arrow": ("arrow", {}),
    ".jsonl": ("json", {}),
    ".ndjson": ("json", {}),
    ".json": ("json", {}),
    # pandas reads the words "null", "NA" and "nan" as missing; in a text they are words.
    ".csv": ("csv", {"keep_default_na": False, "na_values": [""]}),
    ".tsv": ("csv", {"keep_default_na": False, "na_values": [""], "sep": "\t"}),
}
KINDS = (*READERS, *(f"{kind}.gz" for kind in READERS if kind not in (".parquet", ".arrow")))
MOST_COLUMNS = 1000  # `datasets` takes minutes for some thousands
QUOTED = re.compile(r'"(?:[^"]|"")*"')


def kind_of(file: str | Path) -> str | None:
    """Returns the kind of a file, one of `KINDS`, by its name; None if it is none of them."""
    name = str(file).lower()
    return next(
        (kind for kind in sorted(KINDS, key=len, reverse=True) if name.endswith(kind)), None
    )


def reader_of(files: Sequence[Path]) -> tuple[str, dict[str, Any]]:
    """Returns the reader of files of one kind, and its options.

    All columns of CSV and TSV are read as texts, whatever their first rows hold. A TSV has no
    quotation, so that quotation marks are part of its texts, unless it is visibly quoted: each
    field that begins with a mark is a quoted one, and some have doubled marks or all that are no
    numbers are quoted; or its lines have a field for each column only then.

    Raises:
        DataError: files of several kinds, or of too many columns; rows of more fields than columns.
    """
    kinds = sorted({kind.removesuffix(".gz") for file in files if (kind := kind_of(file))})
    if any(READERS[kind] != READERS[kinds[0]] for kind in kinds):
        raise DataError(f"the files of one data set must be of one kind; got {', '.join(kinds)}")
    reader, options = READERS[kinds[0]]
    if reader != "csv":
        for file in files:
            _check_width(file, _column_names(file))
        return reader, dict(options)
    from datasets import Features, Value

    quoting = {_quoting(file) if kinds[0] == ".tsv" else csv.QUOTE_MINIMAL for file in files}
    if len(quoting) > 1:
        raise DataError(f"some of {listed([*map(str, files)])} are quoted, others not: split them")
    options = {**options, "quoting": quoting.pop()}
    names, *_ = (_header(file, options) for file in files)
    return reader, {**options, "features": Features({name: Value("string") for name in names})}


def opened_as_lists(files: Sequence[Path]) -> bool:
    """Returns True if files have list views, which `datasets` does not open."""
    return any(has_views(field.type) for file in files for field in _schema(file) or ())


def _column_names(file: Path) -> list[str]:
    """Returns the columns of a file as far as its beginning tells them."""
    if (schema := _schema(file)) is not None:
        return list(schema.names)
    try:
        with _text(file) as stream:
            first = stream.readline()
        row = json.loads(first)
    except (OSError, EOFError, ValueError):
        return []  # its reader says what is wrong, or it is an array over several lines
    row = row[0] if isinstance(row, list) and row else row
    return list(row) if isinstance(row, dict) else []


def _schema(file: Path) -> Any:
    import pyarrow as pa
    from pyarrow.parquet import read_schema

    try:
        if kind_of(file) == ".parquet":
            return read_schema(file)
        if kind_of(file) == ".arrow":
            with pa.memory_map(str(file)) as opened:
                of_file = opened.read(6) == b"ARROW1"
                opened.seek(0)
                reader = pa.ipc.open_file(opened) if of_file else pa.ipc.open_stream(opened)
                return reader.schema
    except (OSError, pa.ArrowException):
        return None  # its reader says what is wrong
    return None


def _header(file: Path, options: dict[str, Any]) -> list[str]:
    """Returns the names of the columns of a CSV file, as pandas has them."""
    with _text(file) as stream:
        rows = _records(stream, options)
        names, row = next(rows, []), next(rows, None)
    names = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
    _check_width(file, names)
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise DataError(f"{file}: two columns have the name {twice[0]!r}; rename one")
    if row and len(names) == len(row) == 1 and 0 < names[0].count(";") == row[0].count(";"):
        raise DataError(f"{file}: its columns are separated by ';'; separate them by ','")
    if row is not None and len(row) > len(names):
        raise DataError(
            f"{file}: the first row has {len(row)} fields for {len(names)} columns; quote fields"
            " that contain the separator"
        )
    return names


def _quoting(file: Path) -> int:
    """Returns how a TSV is quoted: csv.QUOTE_NONE or csv.QUOTE_MINIMAL."""
    doubled = bare = quotes = False
    even = True
    with _text(file) as stream:
        width = stream.readline().count("\t") + 1
        for line in stream:
            fields = line.rstrip("\r\n").split("\t")
            even = even and len(fields) == width
            if '"' not in line:
                bare = bare or not all(map(_plain, fields))
                continue
            for text in fields:
                quoted = QUOTED.fullmatch(text) is not None
                if text.startswith('"') and not quoted:
                    return _by_shape(file)
                quotes, doubled = quotes or quoted, doubled or (quoted and '""' in text[1:-1])
                bare = bare or not (quoted or _plain(text))
    if not even:
        return _by_shape(file)
    return csv.QUOTE_MINIMAL if quotes and (doubled or not bare) else csv.QUOTE_NONE


def _by_shape(file: Path) -> int:
    """Returns True if the lines of a TSV have a field for each column only if quotation is read."""
    for quoting in (csv.QUOTE_NONE, csv.QUOTE_MINIMAL):
        try:
            with _text(file) as stream:
                rows = _records(stream, {"sep": "\t", "quoting": quoting}, strict=True)
                if len({len(row) for row in rows}) == 1:
                    return quoting
        except csv.Error:
            continue
    return csv.QUOTE_NONE


def _plain(field: str) -> bool:
    """Returns True if a field is empty or a number, which need no quotation."""
    return re.fullmatch(r"[+-]?[\d.]*(e[+-]?\d+)?", field, re.IGNORECASE) is not None


def _records(stream: IO[str], options: dict[str, Any], strict: bool = False) -> Iterator[list[str]]:
    rows = csv.reader(
        stream, delimiter=options.get("sep", ","), quoting=options["quoting"], strict=strict
    )
    return (row for row in rows if row)


def _text(file: Path) -> IO[str]:
    opened = gzip.open if str(file).lower().endswith(".gz") else open
    return cast("IO[str]", opened(file, "rt", encoding="utf-8-sig", newline=""))


def _check_width(file: Path, names: Sequence[str]) -> None:
    if len(names) > MOST_COLUMNS:
        raise DataError(
            f"{file} has {len(names):,} columns; write those that are needed, at most"
            f" {MOST_COLUMNS:,}"
        )
