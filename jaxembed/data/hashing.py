"""Texts as 64-bit numbers, so that equal texts are found without comparing texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import xxhash

if TYPE_CHECKING:
    from jaxembed.data.rows import Rows

CHUNK = 65_536  # rows whose texts are in memory at once


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """Hashes each text to uint64 `[n]`: xxh3_64 of its UTF-8 bytes, the same on every machine.

    Two different texts among a million share a hash with a probability of 3e-8.

    >>> text_hashes(["a bank", "a river", "a bank"])
    array([  282203905534838869, 16527135638379108569,   282203905534838869],
          dtype=uint64)
    """
    return np.fromiter((xxhash.xxh3_64_intdigest(text.encode()) for text in texts), np.uint64)


def split_words(hashes: np.ndarray) -> np.ndarray:
    """Splits uint64 `[...]` into its high and low words, uint32 `[... 2]`.

    The losses take ids in this form because JAX cuts 64-bit integers silently.

    >>> split_words(np.array([2**32 + 5], np.uint64))
    array([[1, 5]], dtype=uint32)
    """
    high, low = hashes >> np.uint64(32), hashes & np.uint64(0xFFFFFFFF)
    return np.stack([high, low], axis=-1).astype(np.uint32)


def row_hashes(rows: Rows) -> np.ndarray:
    """Hashes every text of every row to uint64 `[rows columns]`, as `no_duplicates_plan` takes it.

    Columns are the text columns in order and then the negatives; a row with fewer negatives than
    others repeats its first text, which is no duplicate of anything new.
    """
    chunks = []
    for start in range(0, len(rows), CHUNK):
        indices = range(start, min(start + CHUNK, len(rows)))
        columns = [text_hashes(rows.texts(role, indices)) for role in rows.text_roles]
        if rows.max_negatives:
            lists = rows.negatives(indices)
            where = np.arange(rows.max_negatives) < np.array([[len(texts)] for texts in lists])
            negatives = np.repeat(columns[0][:, None], rows.max_negatives, axis=1)  # [n k]
            negatives[where] = text_hashes(text for texts in lists for text in texts)
            columns.extend(negatives.T)
        chunks.append(np.stack(columns, axis=1))
    return np.concatenate(chunks)
