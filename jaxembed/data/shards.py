"""A batch that several hosts make together: each makes its rows, in shapes that all agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxembed.data.lengths import blocks_of
from jaxembed.typing import PACKED

Shapes = dict[str, list[list[int]]]  # of each text column and block: rows, width, texts of a row


@dataclass(frozen=True)
class Shards:
    """The rows of every batch are cut into `count` equal parts; a host makes those in `mine`.

    >>> Shards(mine=(1, 3), count=4).rows(8)
    array([2, 3, 6, 7])
    """

    mine: tuple[int, ...] = (0,)
    count: int = 1

    @classmethod
    def all(cls, count: int) -> Shards:
        """Returns the shards of a host that makes whole batches."""
        return cls(tuple(range(count)), count)

    @property
    def whole(self) -> bool:
        """Whether there is no other host."""
        return len(self.mine) == self.count

    def rows(self, n: int) -> np.ndarray:
        """Returns the numbers of this host's rows in a batch of n."""
        return np.arange(n).reshape(self.count, -1)[list(self.mine)].reshape(-1)

    def numbers(self, local: np.ndarray, n_local: int) -> np.ndarray:
        """Turns row numbers among this host's `n_local` rows into those among all.

        >>> Shards(mine=(1, 3), count=4).numbers(np.array([0, 1, 2, 3]), 4)
        array([2, 3, 6, 7])
        """
        size = n_local // len(self.mine)
        return np.asarray(self.mine)[local // size] * size + local % size


def text_shapes(batch: Mapping[str, Any]) -> Shapes:
    """Returns what hosts must agree on: the shape of each text column, block by block.

    >>> text_shapes({"anchors": {"attention_mask": np.ones((2, 8), int)}, "where": np.ones(2)})
    {'anchors': [[2, 8, 0]]}
    """
    return {
        name: [
            [len(block["attention_mask"]), block["attention_mask"].shape[-1], _slots(block)]
            for block in blocks
        ]
        for name, column in batch.items()
        if (blocks := blocks_of(column))
    }


def agreed(shapes: Sequence[Shapes]) -> Shapes:
    """Returns the shapes that hold the columns of all hosts.

    >>> agreed([{"anchors": [[2, 8, 0]]}, {"anchors": [[2, 16, 0]]}])
    {'anchors': [[2, 16, 0]]}
    """
    return {
        name: [
            [max(sizes) for sizes in zip(*blocks, strict=True)]
            for blocks in zip(*(each[name] for each in shapes), strict=True)
        ]
        for name in shapes[0]
    }


def share_of(batch: Mapping[str, Any], shapes: Shapes, shards: Shards) -> dict[str, Any]:
    """Fills a host's columns up to the agreed shapes, and numbers its texts among those of all.

    What is then the concatenation of all hosts' shares, shard by shard, is one batch.
    """

    def share(name: str, column: Any) -> Any:
        if not isinstance(column, Mapping):
            return column
        if "blocks" not in column and "places" not in column:
            return _filled(column, *shapes[name][0])
        shared = {}
        if "blocks" in column:
            n = column["places"].size if "places" in column else in_packed
            filled = zip(column["blocks"], shapes[name], strict=True)
            shared["blocks"] = [_share(block, shape, n, shards) for block, shape in filled]
        if "places" in column:
            its = name if "blocks" in column else PACKED
            shared["places"] = _moved(column["places"], batch[its]["blocks"], shapes[its], shards)
        return shared

    columns = [column for column in batch.values() if isinstance(column, Mapping)]
    in_packed = sum(column["places"].size for column in columns if column.keys() == {"places"})
    return {name: share(name, column) for name, column in batch.items()}


def _share(
    block: Mapping[str, Any], shape: Sequence[int], n: int, shards: Shards
) -> dict[str, np.ndarray]:
    """Fills a block up to its shape, and numbers its texts, of `n` on this host."""
    filled = _filled(block, *shape)
    texts = filled["texts"]
    filled["texts"] = np.where(texts < 0, -1, shards.numbers(texts, n)).astype(np.int32)
    return filled


def _moved(
    places: np.ndarray, blocks: Sequence[Any], shapes: Sequence[Sequence[int]], shards: Shards
) -> np.ndarray:
    """Turns places in this host's blocks into those in the blocks of all hosts."""
    moved = np.empty(places.shape, np.int32)
    before_here = before = 0  # places of the blocks before, on this host and on all
    for block, (rows, _, slots) in zip(blocks, shapes, strict=True):
        # A text keeps its row and its slot in it; there may be more of both now
        had, has = max(_slots(block), 1), max(slots, 1)
        count = len(block["attention_mask"]) * had
        inside = (places >= before_here) & (places < before_here + count)
        here = places[inside] - before_here
        moved[inside] = before + shards.numbers(here // had * has + here % had, rows * has)
        before_here += count
        before += rows // len(shards.mine) * shards.count * has
    return moved


def _slots(block: Mapping[str, Any]) -> int:
    """How many texts a row may hold, 0 where a row is a text."""
    texts = block.get("texts")
    return texts.shape[1] if texts is not None and texts.ndim == 2 else 0


def _filled(tokens: Mapping[str, Any], rows: int, width: int, slots: int) -> dict[str, Any]:
    """Adds padding to tokens `[r t]` or `[n k t]`, on the side where they have it, and rows."""
    mask = tokens["attention_mask"]
    left = bool((mask[..., 0] < mask[..., -1]).any())

    def filled(name: str, array: np.ndarray) -> np.ndarray:
        more_rows = (0, rows - len(array))
        if name == "texts":
            beside = [(0, slots - array.shape[1])] if array.ndim == 2 else []
            return np.pad(array, [more_rows, *beside], constant_values=-1)
        more = width - array.shape[-1]
        between = [(0, 0)] * (array.ndim - 2)
        return np.pad(array, [more_rows, *between, (more, 0) if left else (0, more)])

    return {name: filled(name, array) for name, array in tokens.items()}
