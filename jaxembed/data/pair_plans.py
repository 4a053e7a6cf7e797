"""The plan of contrastive tension: pairs of a row with itself, and of two different rows."""

from __future__ import annotations

import numpy as np

from jaxembed.data.errors import DataError
from jaxembed.data.plans import cut, shuffled


def contrastive_tension_plan(
    n_rows: int,
    batch_size: int,
    *,
    pos_neg_ratio: int = 8,
    seed: int,
    epoch: int,
    drop_last: bool = False,
) -> np.ndarray:
    """Pairs the shuffled rows: one row with itself, then `pos_neg_ratio - 1` times two new ones.

    The plan is int64 `[n_batches batch_size 2]`. A batch has `batch_size / pos_neg_ratio` pairs of
    equal rows and takes `2 batch_size - batch_size / pos_neg_ratio` rows; with a ratio of 1 all
    pairs are equal. The last batch is padded with -1, or dropped. Every row is in one pair, save
    that a last one which finds no partner is left out.

    Raises:
        DataError: `batch_size` is no multiple of `pos_neg_ratio`, or one of them is not positive.

    References:
        Carlsson et al., Semantic Re-tuning with Contrastive Tension, 2021.

    >>> contrastive_tension_plan(6, 4, pos_neg_ratio=2, seed=0, epoch=0)
    array([[[1, 1],
            [4, 5],
            [2, 2],
            [0, 3]]])
    """
    if pos_neg_ratio < 1:
        raise DataError(f"pos_neg_ratio must be 1 or more; got {pos_neg_ratio}")
    if batch_size < 1 or batch_size % pos_neg_ratio:
        raise DataError(
            f"batch_size must be a positive multiple of pos_neg_ratio, {pos_neg_ratio}; "
            f"got {batch_size}"
        )
    alone = np.arange(n_rows) % (2 * pos_neg_ratio - 1) == 0
    sides = np.repeat(shuffled(n_rows, seed, epoch), 1 + alone)
    pairs = sides[: len(sides) // 2 * 2].reshape(-1, 2)
    return cut(pairs, batch_size, drop_last)
