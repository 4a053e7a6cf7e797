"""Data too large to be indexed or converted: read window by window, in an order known beforehand.

The order is a pure function of (files, window, seed), so the step is enough to resume, and hosts
each read their slice of a batch, as with data that have row numbers.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxembed.data.errors import DataError
from jaxembed.data.plans import shuffled
from jaxembed.data.stream_files import StreamFiles, find_files

if TYPE_CHECKING:
    import pyarrow as pa

WINDOW = 65_536  # rows that are shuffled together
HELD = 2  # windows in memory: the current one and the next
AT_ONCE = 16  # files whose rows are counted at once
FILES, WINDOWS = 4, 5  # random streams beside those of `plans`
Fault = Callable[["pa.Table"], tuple[int, str] | None]  # the first bad row, and what is wrong


@dataclass(frozen=True)
class Window:
    """Rows that follow each other in the files, and the order in which the stream has them."""

    table: pa.Table
    order: np.ndarray
    origins: tuple[tuple[int, str, int], ...]  # from which row on it is which file from which row

    def origin(self, row: int) -> str:
        """Says where a row of the table comes from."""
        start, file, first = next(it for it in reversed(self.origins) if it[0] <= row)
        return f"{file}, row {first + row - start}"


def _no_fault(table: pa.Table) -> None:
    """Finds nothing wrong."""


class Stream:
    """The rows of many files without an end: epoch after epoch, each in an order of its own.

    The files of an epoch are shuffled, and so are the rows of each `window` of their rows, one file
    after the other; every epoch has each row once. Position p of the stream is thus a row of a
    file, whatever was read before. Two windows are in memory: the next is read ahead in a thread.
    How many rows a file has is found when it is read to its end; to begin further on, the files
    before are counted, which `index` spares a later run.

    Args:
        source: a path, folder, glob or URL ("hf://datasets/org/name/data/*.parquet"), or several,
            of files .parquet .arrow .jsonl .json .jsonl.gz .json.gz (a JSON object a line).
        shuffle: False keeps the order of the files and of their rows.
        index: a JSON file for the lengths of the files.

    Raises:
        DataError: here or when rows are read, by file and row: none there, cut short, changed, or
            of other columns than the first file.

    >>> from jaxembed.data.sources import EMBEDDED
    >>> stream = Stream(EMBEDDED / "train.parquet", window=1000, seed=1)
    >>> stream.take(np.array([10**6]))["query"].to_pylist()
    ['extend: He really extended himself when he climbed Kilimanjaro']
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        *,
        window: int = WINDOW,
        seed: int = 0,
        shuffle: bool = True,
        index: str | Path | None = None,
    ):
        if window < 1:
            raise DataError(f"window must be 1 or more; got {window}")
        self.files = StreamFiles(find_files(source), Path(index) if index else None)
        self.window, self.seed, self.shuffle = window, seed, shuffle
        self._fault: Fault = _no_fault
        self._start()

    def _start(self) -> None:
        self._windows: dict[tuple[int, int], Future[Window]] = {}  # the last used one is last
        self._next: tuple[Any, ...] = ()  # epoch and number of the next window, its file and row
        self._taken: tuple[np.ndarray, pa.Table] | None = None
        self._lock = threading.RLock()
        self._reader: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:  # neither threads nor rows travel to another process
        kept = ("files", "window", "seed", "shuffle", "_fault")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._start()

    def only(self, schema: pa.Schema, fault: Fault) -> Stream:
        """Returns the stream with these columns alone, whose rows `fault` looks through."""
        stream = copy.copy(self)
        stream.files, stream._fault = self.files.with_schema(schema), fault
        return stream

    def take(self, positions: np.ndarray) -> pa.Table:
        """Returns the rows at some positions, int64 `[n]`, in their order."""
        import pyarrow as pa

        with self._lock:
            if self._taken is not None and np.array_equal(self._taken[0], positions):
                return self._taken[1]
            by_position = np.argsort(positions, kind="stable")
            ordered = positions[by_position]
            parts, at = [self.files.schema.empty_table()], 0
            while at < len(ordered):
                window, start = self._find(int(ordered[at]))
                stop = int(np.searchsorted(ordered, start + len(window.order)))
                parts.append(window.table.take(window.order[ordered[at:stop] - start]))
                at = stop
            table = pa.concat_tables(parts).take(np.argsort(by_position))
            self._taken = positions.copy(), table
            return table

    def origins(self, positions: np.ndarray) -> list[str]:
        """Says of which file and row the rows at some positions are."""
        with self._lock:
            found = [(*self._find(int(position)), int(position)) for position in positions]
        return [window.origin(int(window.order[at - start])) for window, start, at in found]

    def _find(self, position: int) -> tuple[Window, int]:
        """Returns the window of a position, and the window's first position."""
        if position < 0:
            raise DataError(f"the positions of a stream begin with 0; got {position}")
        while True:
            n = self.files.n_rows
            epoch, row = divmod(position, n) if n else (0, position)
            number, place = divmod(row, self.window)
            window = self._get(epoch, number)
            if place < len(window.order):
                return window, position - place
            # The first epoch ends before, so all lengths are known by now

    def _get(self, epoch: int, number: int) -> Window:
        try:
            window = self._ask(epoch, number).result()
        except Exception:
            del self._windows[epoch, number]
            raise
        if len(window.order):
            n = self.files.n_rows
            last = n is not None and (number + 1) * self.window >= n
            self._ask(*((epoch + 1, 0) if last else (epoch, number + 1)))
        return window

    def _ask(self, epoch: int, number: int) -> Future[Window]:
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, "stream")
        future = self._windows.pop((epoch, number), None)
        if future is None:
            future = self._reader.submit(self._read, epoch, number)
        self._windows[epoch, number] = future
        while len(self._windows) > HELD:
            self._windows.pop(next(iter(self._windows))).cancel()
        return future

    def _read(self, epoch: int, number: int) -> Window:
        """Reads a window; only the thread of the reader runs it, so files are read by one."""
        import pyarrow as pa

        files, n = self.files, len(self.files.names)
        order = shuffled(n, self.seed, epoch, FILES).tolist() if self.shuffle else list(range(n))
        if self._next[:2] != (epoch, number):
            self._next = epoch, number, *self._skip(order, number * self.window)
        place, row = self._next[2:]
        parts, origins, wanted = [files.schema.empty_table()], [], self.window
        while wanted and place < n:
            part = files.read(order[place], row, wanted)
            origins.append((self.window - wanted, files.names[order[place]], row))
            parts.append(part)
            wanted -= len(part)
            place, row = (place + 1, 0) if wanted else (place, row + len(part))
        table = pa.concat_tables(parts).combine_chunks()  # copied, so what was read can go
        rows = shuffled(len(table), self.seed, epoch, WINDOWS, number)
        window = Window(table, rows if self.shuffle else np.arange(len(table)), tuple(origins))
        if fault := self._fault(table):
            raise DataError(f"{window.origin(fault[0])}: {fault[1]}")
        self._next = epoch, number + 1, place, row
        return window

    def _skip(self, order: list[int], row: int) -> tuple[int, int]:
        """Finds a row of an epoch: the place of its file in the order, and its row in that."""
        before, at_once = 0, AT_ONCE if self.files.names[0].endswith(".parquet") else 1
        for start in range(0, len(order) if row else 0, at_once):
            counts = self.files.count(order[start : start + at_once])
            for place, n in enumerate(counts, start):
                if row < before + n:
                    return place, row - before
                before += n
        return (len(order) if row else 0), 0


@dataclass(frozen=True)
class StreamPlan:
    """The batches of a stream: from a global step to positions, one batch after the other.

    A batch may have rows of the end of an epoch and of the beginning of the next, so none is
    padded.

    >>> StreamPlan(3).rows(2)
    array([6, 7, 8])
    """

    batch_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise DataError(f"batch_size must be 1 or more; got {self.batch_size}")

    def rows(self, step: int) -> np.ndarray:
        """Returns the positions of the step's batch, int64 `[batch_size]`."""
        return np.arange(step * self.batch_size, (step + 1) * self.batch_size)

    def n_steps(self, epochs: int) -> int:
        """Raises a DataError: nobody knows."""
        raise DataError(f"{epochs} epochs of a stream have no known length; say how many steps")
