"""The files of a stream: which there are, how long they are, and reading on where one stopped."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxembed.data.errors import DataError
from jaxembed.data.stream_formats import KINDS, count_rows, file_system, guarded, read_tables

if TYPE_CHECKING:
    import pyarrow as pa

HEAD = 1000  # rows that show what columns there are


def find_files(source: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """Finds the files of paths, folders, globs and URLs, those of each in the order of their names.

    Raises:
        DataError: one has no file of a known kind, or cannot be listed.
    """
    names = [source] if isinstance(source, (str, Path)) else source
    if not names:
        raise DataError("a stream needs files; name one or more")
    return tuple(file for name in names for file in _found(str(name)))


class StreamFiles:
    """Files whose rows are read one after another; what is known of their lengths is kept.

    Attributes:
        head: the first file that has rows, and its first rows with all their columns.
        schema: the columns that are read, and their types; those of the head to begin with.
        lengths: bytes and rows of each file that was counted, or read to its end.
        index: a JSON file that keeps the lengths for later runs, None for none.
    """

    def __init__(self, names: Sequence[str], index: Path | None = None):
        self.names, self.index = tuple(names), index
        self.lengths: dict[str, list[int]] = {}
        if index is not None and index.exists():
            self.lengths = guarded(str(index), lambda: json.loads(index.read_text()))
        self.head = _head(self.names)
        self.schema = self.head[1].schema
        self._at: tuple[int, int] | None = None  # the file and the row that come next, …
        self._tables: Iterator[pa.Table] = iter(())  # … from here, …
        self._rest: Any = None  # … after what is left of the last table
        self._size = 0  # of the file that is open
        self._n_rows: int | None = None

    def __getstate__(self) -> dict[str, Any]:  # open files do not travel to another process
        return self.__dict__ | {"_at": None, "_tables": iter(()), "_rest": None}

    def with_schema(self, schema: pa.Schema) -> StreamFiles:
        """Returns the same files, of which other columns are read."""
        files = copy.copy(self)
        files.schema = schema
        return files

    @property
    def n_rows(self) -> int | None:
        """The rows of all files; None as long as not all lengths are known."""
        if self._n_rows is None and all(name in self.lengths for name in self.names):
            self._n_rows = sum(self.lengths[name][1] for name in self.names)
        return self._n_rows

    def read(self, number: int, start: int, n: int) -> pa.Table:
        """Returns n rows of a file from the row `start` on, fewer where the file ends."""
        import pyarrow as pa

        file = self.names[number]
        if self._at != (number, start):
            self._size, self._rest = self._check_size(file), self.schema.empty_table()
            self._tables = read_tables(file, start, self.schema)
        self._at = None  # until all goes well
        parts, left = [], n
        table = self._rest
        while table is not None:
            parts.append(table.slice(0, left))
            self._rest = table.slice(left)
            left -= len(parts[-1])
            table = next(self._tables, None) if left else None
        if left:
            self._keep({file: [self._size, start + n - left]})
        self._at = number, start + n - left
        return pa.concat_tables(parts)

    def count(self, numbers: Sequence[int]) -> list[int]:
        """Returns the numbers of rows of some files; no row is parsed for it."""
        files = [self.names[number] for number in numbers]
        sizes = {file: self._check_size(file) for file in files if file not in self.lengths}
        if sizes:
            with ThreadPoolExecutor(len(sizes)) as pool:
                rows = list(pool.map(count_rows, sizes))
            self._keep({file: [sizes[file], n] for file, n in zip(sizes, rows, strict=True)})
        return [self.lengths[file][1] for file in files]

    def _check_size(self, file: str) -> int:
        system, path = file_system(file)
        size = guarded(file, lambda: system.size(path))
        self._check(file, size, self.lengths.get(file, [size])[0], "bytes")
        return size

    def _keep(self, lengths: dict[str, list[int]]) -> None:
        for file, (size, rows) in lengths.items():
            self._check(file, rows, self.lengths.get(file, [size, rows])[1], "rows")
        if self.lengths.keys() >= lengths.keys():
            return
        self.lengths |= lengths
        if self.index is not None:
            written = self.index.with_name(f"{self.index.name}.{os.getpid()}")
            written.write_text(json.dumps(self.lengths))
            written.replace(self.index)

    def _check(self, file: str, found: int, known: int, unit: str) -> None:
        if found != known:
            index = f" without {self.index}" if self.index else ""
            raise DataError(
                f"{file} has {found:,} {unit} and had {known:,}; the files of a stream must stay as"
                f" they are: restore it, or start a new run{index}"
            )


def _found(name: str) -> list[str]:
    def listed() -> list[str]:
        if system.isfile(path):
            return [path]
        return sorted(system.glob(path) if has_magic(path) else system.find(path))

    system, path = file_system(os.path.expanduser(name))
    files = [file for file in guarded(name, listed) if file.endswith(KINDS)]
    if not files:
        raise DataError(f"{name}: there is no file to stream; known are {' '.join(KINDS)}")
    return [system.unstrip_protocol(file) for file in files] if "://" in name else files


def _head(files: Sequence[str]) -> tuple[str, pa.Table]:
    import pyarrow as pa

    for file in files:
        tables, n = [], 0
        for table in read_tables(file, 0, None):
            tables.append(table.take(np.arange(min(HEAD - n, len(table)))))  # a copy, not all of it
            n += len(tables[-1])
            if n == HEAD:
                break
        if n:
            return file, pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    raise DataError(f"{files[0]} has no rows, and neither has another file of the stream")
