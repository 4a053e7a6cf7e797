"""Noise for texts, from which a denoising objective restores them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np

from jaxembed.data.errors import DataError
from jaxembed.data.plans import NOISE


def delete_words(
    texts: Sequence[str], rows: np.ndarray, *, seed: int, step: int, ratio: float = 0.6
) -> list[str]:
    """Deletes each word of each text with probability `ratio`; one word always stays.

    Words are what white space separates; one space joins those that stay. `rows` is int64 `[n]`,
    the row number of each text (-1 too). The noise of a text depends on it, the seed and the step,
    not on the other texts of the batch, so hosts may each read their slice.

    Raises:
        DataError: `ratio` is not in [0, 1).

    References:
        Wang et al., TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for
        Unsupervised Sentence Embedding Learning, 2021.

    >>> delete_words(["the bank of the river", "money"], np.array([4, 0]), seed=0, step=2)
    ['bank river', 'money']
    """
    if not 0 <= ratio < 1:
        raise DataError(f"ratio must lie in [0, 1); got {ratio}")
    key = np.random.SeedSequence(seed, spawn_key=(step, NOISE)).generate_state(2, np.uint64)
    noisy = []
    for text, row in zip(texts, rows.astype(np.uint64).tolist(), strict=True):
        words = text.split()
        bits = np.random.Philox(key=key, counter=row << 64)  # no text reaches the next row's bits
        draws = (bits.random_raw(len(words)) >> np.uint64(11)) * 2.0**-53  # uniform in [0, 1)
        keep = draws >= min(ratio, draws.max(initial=0))
        noisy.append(" ".join(compress(words, keep.tolist())))
    return noisy
