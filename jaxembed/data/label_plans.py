"""The plan that groups rows by label: some rows of each label in a batch, for triplet losses."""

from __future__ import annotations

import numpy as np

from jaxembed.data.errors import DataError
from jaxembed.data.plans import VISITS, cut, shuffled


def group_by_label_plan(
    labels: np.ndarray,
    batch_size: int,
    *,
    rows_per_label: int = 2,
    seed: int,
    epoch: int,
    drop_last: bool = False,
) -> np.ndarray:
    """Visits the labels in turn and takes `rows_per_label` of their shuffled rows at each visit.

    `labels` is int `[n]`. The labels are visited in rounds, in a new order each, in which no label
    follows itself. One with fewer rows left than a visit takes is visited no more, and the plan
    ends when only one is left; the rows left over differ from epoch to epoch. A visit lies within
    one batch, and every batch has at least two labels: a last one with a single visit is dropped
    even without `drop_last`.

    Raises:
        DataError: a batch is not made of two visits or more, or a visit of two rows or more; fewer
            than two labels have the rows of a visit.

    >>> group_by_label_plan(np.array([7, 7, 8, 8, 8, 8, 9, 5, 5, 5, 5]), 6, seed=0, epoch=0)
    array([[ 1,  0, 10,  8,  4,  5],
           [ 9,  7,  2,  3, -1, -1]])
    """
    _check_sizes(batch_size, rows_per_label)
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    visits = counts // rows_per_label
    usable = np.count_nonzero(visits)
    if usable < 2:
        raise DataError(
            f"two labels must have {rows_per_label} rows or more; got {len(labels):,} rows with "
            f"{len(counts):,} different label(s), {('none', 'one')[usable]} of them with so many; "
            "check the label column, or take the plain plan or fewer rows_per_label (2 at least)"
        )
    visits = np.minimum(visits, np.sort(visits)[-2])  # in more rounds, one label would be alone
    visited = np.repeat(np.arange(len(visits)), visits)
    rounds = np.arange(len(visited)) - (np.cumsum(visits) - visits)[visited]
    first = (np.cumsum(counts) - counts)[visited] + rounds * rows_per_label
    order = _shuffled_within(rounds, seed, epoch, VISITS)
    _separate(order, visited, np.cumsum(np.bincount(rounds))[:-1])
    if len(order) % (batch_size // rows_per_label) == 1:
        order = order[:-1]
    places = first[order, None] + np.arange(rows_per_label)  # [visits rows_per_label]
    return cut(_shuffled_within(numbers, seed, epoch)[places.ravel()], batch_size, drop_last)


def _shuffled_within(groups: np.ndarray, seed: int, epoch: int, *stream: int) -> np.ndarray:
    """Orders numbers by their group `[n]`, shuffled within each."""
    order = shuffled(len(groups), seed, epoch, *stream)
    return order[np.argsort(groups[order], kind="stable")]


def _separate(order: np.ndarray, visited: np.ndarray, starts: np.ndarray) -> None:
    """Swaps the first two visits of a round, in place, where its first label was just visited."""
    for start in starts:
        if visited[order[start]] == visited[order[start - 1]]:
            order[start : start + 2] = order[start + 1], order[start]


def _check_sizes(batch_size: int, rows_per_label: int) -> None:
    if rows_per_label < 2:
        raise DataError(f"rows_per_label must be 2 or more; got {rows_per_label}")
    if batch_size % rows_per_label or batch_size < 2 * rows_per_label:
        raise DataError(
            f"batch_size must be a multiple of rows_per_label, {rows_per_label}, and at least "
            f"{2 * rows_per_label}; got {batch_size}"
        )
