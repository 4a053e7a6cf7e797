"""Batch plans: which rows form which batch, as pure functions of (data, seed, epoch).

A plan is int64 `[n_batches, batch_size]`: the row numbers of each batch of one epoch, -1 where a
batch is padded; a plan of pairs is `[n_batches, batch_size, 2]`. It holds for all hosts together;
each reads its slice of a batch. The same arguments give the same plan on every machine and with
every version of NumPy.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable

import numpy as np

from jaxembed.data.errors import DataError

PADDING = -1
VISITS, SETS, NOISE = 1, 2, 3  # random streams beside the one that orders the rows
NEGATIVES = 8  # another, beside those of streams, draws and mixed plans
SPARSE = 8  # a plan with more than so many places a row is refused, …
SMALL = 2**24  # … if it has more places than this (128 MiB)


def plain_plan(
    n_rows: int, batch_size: int, *, seed: int, epoch: int, drop_last: bool = False
) -> np.ndarray:
    """Shuffles the rows and cuts them into batches; only the last one is padded, or dropped.

    >>> plain_plan(5, 2, seed=0, epoch=0)
    array([[ 1,  4],
           [ 2,  0],
           [ 3, -1]])
    """
    _check_batch_size(batch_size)
    return cut(shuffled(n_rows, seed, epoch), batch_size, drop_last)


def no_duplicates_plan(
    hashes: np.ndarray, batch_size: int, *, seed: int, epoch: int, drop_last: bool = False
) -> np.ndarray:
    """Shuffles the rows and puts each into the first batch with room that has none of its texts.

    `hashes` is uint64 `[n c]`, the texts of each row. No value occurs in two rows of a batch, in
    whichever column; the same value twice within a row is fine. Every row occurs exactly once; with
    `drop_last`, those of the batches that are not full are left out (mostly, not always, the last
    ones). The number of batches depends on the epoch.

    Raises:
        DataError: a text repeats so often that the batches would be almost empty.

    >>> texts = np.array([[1, 10], [2, 20], [1, 30], [3, 20]], np.uint64)
    >>> no_duplicates_plan(texts, 2, seed=0, epoch=0)
    array([[1, 2],
           [0, 3]])
    """
    _check_batch_size(batch_size)
    order = shuffled(len(hashes), seed, epoch)
    batches = np.empty(len(order), np.int64)
    batches[:] = _first_fit(_repeated(hashes[order]), batch_size)
    sizes = np.bincount(batches)
    if len(sizes) * batch_size > max(SMALL, SPARSE * len(order)):
        raise DataError(
            f"some text occurs so often that {len(order)} rows make {len(sizes)} batches of "
            f"{batch_size} without duplicates; take a smaller batch, or the plain plan with ids"
        )
    by_batch = np.argsort(batches, kind="stable")
    batches = batches[by_batch]
    places = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[batches]
    plan = np.full((len(sizes), batch_size), PADDING)
    plan[batches, places] = order[by_batch]
    return plan[sizes == batch_size] if drop_last else plan


class BatchPlan:
    """The plans of all epochs, one after the other: from a global step to the rows of its batch.

    `plan_fn(epoch=…)` is one of the plans above with the other arguments bound. To resume, the step
    is enough: one in a later epoch computes the plans of the epochs before once, for their lengths.

    >>> from functools import partial
    >>> plan = BatchPlan(partial(plain_plan, 5, 2, seed=0))
    >>> plan.locate(4), plan.rows(4), plan.n_steps(epochs=2)
    ((1, 1), array([1, 0]), 6)
    """

    def __init__(self, plan_fn: Callable[..., np.ndarray]):
        self.plan_fn = plan_fn
        self._starts = [0]  # the first step of each epoch seen, and of the next
        self._current: tuple[int, np.ndarray] | None = None
        self._lock = threading.RLock()

    def __reduce__(self):  # a lock does not travel to another process
        return BatchPlan, (self.plan_fn,)

    def rows(self, step: int) -> np.ndarray:
        """Returns the rows of the step's batch, int64 `[batch_size]` (or pairs), -1 for padding."""
        return self.batch(*self.locate(step))

    def batch(self, epoch: int, index: int) -> np.ndarray:
        """Returns the rows of a batch of an epoch, both counted from 0."""
        with self._lock:
            return self._plan(epoch)[index]

    def locate(self, step: int) -> tuple[int, int]:
        """Returns the epoch of a step and its batch within it."""
        with self._lock:
            while step >= self._starts[-1]:
                self._plan(len(self._starts) - 1)
            epoch = bisect_right(self._starts, step) - 1
            return epoch, step - self._starts[epoch]

    def n_steps(self, epochs: int) -> int:
        """Counts the steps of the first epochs."""
        with self._lock:
            while len(self._starts) <= epochs:
                self._plan(len(self._starts) - 1)
            return self._starts[epochs]

    def n_batches(self, epoch: int) -> int:
        """Counts the batches of one epoch."""
        return self.n_steps(epoch + 1) - self.n_steps(epoch)

    def _plan(self, epoch: int) -> np.ndarray:
        if self._current is None or self._current[0] != epoch:
            self._current = epoch, self.plan_fn(epoch=epoch)
        plan = self._current[1]
        if len(plan) == 0:
            raise DataError(
                f"the rows do not fill one batch of {plan.shape[1]}, and what is not full is "
                "dropped; take a smaller batch"
            )
        if epoch == len(self._starts) - 1:
            self._starts.append(self._starts[-1] + len(plan))
        return plan


def shuffled(n: int, seed: int, epoch: int, *stream: int) -> np.ndarray:
    """Computes a permutation of n numbers; each `stream` of an epoch has one of its own.

    >>> shuffled(4, 0, 0), shuffled(4, 0, 0, 1)
    (array([1, 2, 0, 3]), array([2, 1, 0, 3]))
    """
    # The bits of Philox are fixed for ever; NumPy's permutation may change with its version.
    bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(epoch, *stream)))
    return np.argsort(bits.random_raw(n), kind="stable")


def cut(rows: np.ndarray, batch_size: int, drop_last: bool) -> np.ndarray:
    """Cuts rows `[n ...]` into batches `[n_batches batch_size ...]`; pads or drops the last.

    >>> cut(np.array([4, 0, 2]), 2, drop_last=False)
    array([[ 4,  0],
           [ 2, -1]])
    """
    n_batches = len(rows) // batch_size if drop_last else -(-len(rows) // batch_size)
    plan = np.full((n_batches * batch_size, *rows.shape[1:]), PADDING)
    plan[: len(rows)] = rows[: len(plan)]
    return plan.reshape(n_batches, batch_size, *rows.shape[1:])


def _repeated(hashes: np.ndarray) -> list[list[int]]:
    """Returns for each row those of its values that occur elsewhere, numbered from 0."""
    _, values, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    numbers = np.where(counts > 1, np.cumsum(counts > 1) - 1, -1)
    table = numbers[values].reshape(hashes.shape).tolist()
    return [[value for value in row if value >= 0] for row in table]


def _first_fit(rows: list[list[int]], batch_size: int) -> list[int]:
    """Returns for each row the first batch with room that has none of its values."""
    has: list[set[int]] = [set() for _ in range(1 + max(max(row, default=-1) for row in rows))]
    start = [0] * len(has)  # the batches before it have the value or are full
    room: list[int] = []
    first = 0  # the batches before it are full
    batches = []
    for values in rows:
        batch = first
        for value in values:
            at = max(start[value], first)
            while at < len(room) and (at in has[value] or not room[at]):
                at += 1
            start[value] = at
            batch = max(batch, at)
        while batch < len(room) and (not room[batch] or any(batch in has[v] for v in values)):
            batch += 1
        if batch == len(room):
            room.append(batch_size)
        room[batch] -= 1
        for value in values:
            has[value].add(batch)
        while first < len(room) and not room[first]:
            first += 1
        batches.append(batch)
    return batches


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise DataError(f"batch_size must be 1 or more; got {batch_size}")
