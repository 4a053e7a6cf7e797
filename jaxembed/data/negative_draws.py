"""A few of the negatives of each row, drawn anew in each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxembed.data.plans import NEGATIVES


def draw_negatives(
    lists: Sequence[list[str]], rows: np.ndarray, *, k: int, seed: int, step: int
) -> list[list[str]]:
    """Draws k negatives of each row without repetition; all of a row that has no more.

    `rows` is int64 `[n]`, the row number of each list. What is drawn of a row depends on it, the
    seed and the step, not on the other rows of the batch, so hosts may each read their slice.

    >>> negatives = [["a", "b", "c"], ["d"]]
    >>> [draw_negatives(negatives, np.array([4, 0]), k=2, seed=0, step=step) for step in (0, 1)]
    [[['b', 'c'], ['d']], [['a', 'b'], ['d']]]
    """
    key = np.random.SeedSequence(seed, spawn_key=(step, NEGATIVES)).generate_state(2, np.uint64)
    drawn = []
    for texts, row in zip(lists, rows.astype(np.uint64).tolist(), strict=True):
        bits = np.random.Philox(key=key, counter=row << 64)  # no row reaches the next one's bits
        order = np.argsort(bits.random_raw(len(texts)), kind="stable") if texts else ()
        drawn.append([texts[place] for place in order[:k]])
    return drawn
