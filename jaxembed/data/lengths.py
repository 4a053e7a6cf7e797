"""Splitting a padded column into a block of short and a block of long texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SHORT = 0.75  # of the rows are in the first block


def split_by_length(
    tokens: Mapping[str, np.ndarray],
    *,
    buckets: Sequence[int],
    multiple: int = 1,
    always: bool = False,
) -> dict[str, Any]:
    """Cuts padded tokens `[n t]` into the shorter three quarters of the rows and the longer one.

    Each block is padded to the smallest bucket that holds its longest row. Returns `blocks`, with
    the `texts` of the column that their rows are, and the `places [n]` of the texts in the blocks,
    as `jaxembed.transforms.by_length` takes them. The column comes back whole where nothing is
    gained (but not with `always`), or where the blocks would be no `multiple` of rows.

    >>> mask = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    >>> split = split_by_length({"attention_mask": mask}, buckets=(2, 4))
    >>> [block["attention_mask"].shape for block in split["blocks"]], split["places"]
    ([(3, 2), (1, 4)], array([3, 0, 2, 1], dtype=int32))
    """
    mask = tokens["attention_mask"]
    n, width = mask.shape
    n_short = int(n * SHORT)
    lengths = mask.sum(axis=1)
    rows = np.argsort(lengths, kind="stable").astype(np.int32)
    if n_short == 0 or n_short % multiple or (n - n_short) % multiple:
        return dict(tokens)
    longest = int(lengths[rows[n_short - 1]])
    short_width = next((size for size in sorted(buckets) if size >= longest), width)
    if short_width >= width and not always:
        return dict(tokens)
    left = bool((mask[:, 0] < mask[:, -1]).any())
    kept = slice(max(width - short_width, 0), None) if left else slice(short_width)
    blocks = [
        {"texts": texts, **{name: array[texts, columns] for name, array in tokens.items()}}
        for texts, columns in ((rows[:n_short], kept), (rows[n_short:], slice(None)))
    ]
    return {"blocks": blocks, "places": np.argsort(rows).astype(np.int32)}


def blocks_of(column: Any) -> list[Any]:
    """Returns the blocks of tokens of an entry of a batch; none of what has no tokens itself."""
    if not isinstance(column, Mapping) or column.keys() == {"places"}:
        return []
    return column.get("blocks", [column])


def count_tokens(batch: Mapping[str, Any]) -> tuple[int, int]:
    """Counts the real tokens of a batch, and the places with their padding."""
    real = places = 0
    for column in batch.values():
        for block in blocks_of(column):
            real += int(block["attention_mask"].sum())
            places += block["attention_mask"].size
    return real, places
