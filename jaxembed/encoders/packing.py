"""Several short texts in one row of tokens, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxembed.typing import PACKED

NARROWEST = 32  # width of a row at least
TOKENS_PER_TEXT = 4  # of a row's width: how many texts it may hold


def pack(
    tokens: Mapping[str, np.ndarray],
    *,
    width: int | None = None,
    multiple: int = 1,
    left: bool = False,
) -> dict[str, Any]:
    """Packs the texts of padded tokens `[n t]` into fewer rows, the longest first.

    Rows have the `width`, or else that of the longest text rounded up to a multiple of 8, 32 at
    least; their number is a `multiple`. The texts are padded at the end, or with `left` at the
    start.

    Returns `blocks`, only one, and the `places [n]` of the texts in it, as
    `jaxembed.transforms.by_length` takes them. The block `[r w]` has `input_ids`,
    `attention_mask` and what else the tokens have, `segment_ids` (1 for the first text of a row, 0
    for padding), `positions` (from 0 in each text) and `texts [r k]`, which texts stand in a row,
    -1 for none. The padding of a row comes last.

    >>> mask = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    >>> packed = pack({"input_ids": mask * np.array([[7], [8], [9]]), "attention_mask": mask})
    >>> (block,) = packed["blocks"]
    >>> for name in ("input_ids", "segment_ids", "positions", "texts"):
    ...     print(name, block[name][0, :8])
    input_ids [7 7 7 9 9 8 0 0]
    segment_ids [1 1 1 2 2 3 0 0]
    positions [0 1 2 0 1 0 0 0]
    texts [ 0  2  1 -1 -1 -1 -1 -1]
    >>> packed["places"]
    array([0, 2, 1], dtype=int32)
    """
    mask = tokens["attention_mask"] > 0
    lengths = mask.sum(axis=1)
    width = width or max(-(-int(lengths.max(initial=1)) // 8) * 8, NARROWEST)
    slots = width // TOKENS_PER_TEXT
    rows = _fit(lengths, width, slots)
    texts = np.full((-(-max(len(rows), 1) // multiple) * multiple, slots), -1)
    places = np.empty(len(lengths), int)
    for row, members in enumerate(rows):
        texts[row, : len(members)] = members
        places[members] = row * slots + np.arange(len(members))

    # Where each token comes from, and where it goes
    order = texts[texts >= 0]
    row, slot = np.nonzero(texts >= 0)
    its_lengths = lengths[order]
    ends = np.cumsum(its_lengths)
    starts = ends - its_lengths  # over all rows, without padding
    inside = np.arange(its_lengths.sum()) - np.repeat(starts, its_lengths)
    before = np.concatenate([[0], np.cumsum(np.bincount(row, its_lengths, len(texts)))])
    target = np.repeat(row * width + starts - before[row].astype(int), its_lengths) + inside
    first = mask.shape[1] - its_lengths if left else np.zeros_like(order)
    source = np.repeat(order * mask.shape[1] + first, its_lengths) + inside

    def placed(values: np.ndarray) -> np.ndarray:
        row = np.zeros(texts.shape[0] * width, values.dtype)
        row[target] = values
        return row.reshape(-1, width)

    block = {name: placed(array.reshape(-1)[source]) for name, array in tokens.items()}
    block["segment_ids"] = placed(np.repeat(slot + 1, its_lengths).astype(np.int32))
    block["positions"] = placed(inside.astype(np.int32))
    block["texts"] = texts.astype(np.int32)
    return {"blocks": [block], "places": places.astype(np.int32)}


def pack_columns(
    columns: Mapping[str, Mapping[str, np.ndarray]],
    *,
    width: int | None = None,
    multiple: int = 1,
    left: bool = False,
) -> dict[str, Any]:
    """Packs the texts of several text columns into the same rows; less is padding than in each.

    The columns are padded tokens of the same rows, `[n t]` or `[n k t]`; the rest is as for `pack`.

    Returns what takes their place in a batch: `packed` with the `blocks`, only one, and for each
    column only the `places` of its texts in it, `[n]` or `[n k]`. One network encodes them, all at
    once.

    Raises:
        ValueError: there are no rows, or the columns are not of the same.

    >>> mask = np.array([[1, 1], [1, 0]])
    >>> tokens = {"input_ids": mask * np.array([[7], [8]]), "attention_mask": mask}
    >>> batch = pack_columns({"anchors": tokens, "positives": tokens})
    >>> batch["packed"]["blocks"][0]["input_ids"][:, :8]
    array([[7, 7, 7, 7, 8, 8, 0, 0]])
    >>> batch["anchors"]["places"], batch["positives"]["places"]
    (array([0, 2], dtype=int32), array([1, 3], dtype=int32))
    """
    masks = [tokens["attention_mask"] for tokens in columns.values()]
    if len(rows := {len(mask) for mask in masks}) != 1 or 0 in rows:
        raise ValueError(f"columns to pack are of the same rows, one or more; got {sorted(rows)}")
    n, widest = len(masks[0]), max(mask.shape[-1] for mask in masks)

    def of_rows(array: np.ndarray) -> np.ndarray:
        more = widest - array.shape[-1]
        array = array.reshape(n, -1, array.shape[-1])
        return np.pad(array, [(0, 0), (0, 0), (more, 0) if left else (0, more)])

    def joined(name: str) -> np.ndarray:  # a column without a pooling_mask pools all of its tokens
        arrays = [tokens.get(name, tokens["attention_mask"]) for tokens in columns.values()]
        return np.concatenate([of_rows(array) for array in arrays], axis=1).reshape(-1, widest)

    names = dict.fromkeys(name for tokens in columns.values() for name in tokens)
    packed = pack({name: joined(name) for name in names}, width=width, multiple=multiple, left=left)
    ends = np.cumsum([mask[0, ..., 0].size for mask in masks])
    places = np.split(packed.pop("places").reshape(n, -1), ends[:-1], axis=1)
    of_columns = {
        name: {"places": its.reshape(mask.shape[:-1])}
        for name, its, mask in zip(columns, places, masks, strict=True)
    }
    return {PACKED: packed, **of_columns}


def _fit(lengths: np.ndarray, width: int, slots: int) -> list[list[int]]:
    """Shares texts out to rows, the longest first, each where it leaves the least room."""
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(width + 1)]
    for text in np.argsort(-lengths, kind="stable"):
        length = int(lengths[text])
        room = next((room for room in range(length, width + 1) if with_room[room]), None)
        if room is None:
            row, room = len(rows), width
            rows.append([])
        else:
            row = with_room[room].pop()
        rows[row].append(int(text))
        if len(rows[row]) < slots:
            with_room[room - length].append(row)
    return rows
