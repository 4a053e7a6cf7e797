"""Making the batches of a task: read, damaged where noise is wanted, tokenized by each network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from jaxembed.data import (
    Rows,
    Shards,
    delete_words,
    make_batch,
    split_by_length,
)
from jaxembed.encoders import TextTokenizer, pack
from jaxembed.typing import Roles

# So that few shapes occur, n packed texts take a multiple of n / 16 rows, no less than so wide, and
# columns take as many rows as others if they have 3/4 of them or more.
STEPS, WIDTH, CLOSE = 16, 64, 0.75
ALL = Shards()


class Plan(Protocol):
    """The rows of every batch, as pure functions: `BatchPlan`, and what is called like it."""

    def rows(self, step: int) -> np.ndarray: ...

    def n_steps(self, epochs: int) -> int: ...


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batch of a step; a pure function of the step, which travels to other processes.

    Attributes:
        tokenizers: the tokenizer of each text role, with the prompt that goes before the text.
            `guide_anchors` are the anchors as the guide reads them.
        shards: which of the equal parts of a batch are made, of as many as devices share its rows.
        split_lengths: whether columns are split by length into two blocks.
        packed: roles whose texts are packed, several to a row, instead.
        whole: roles that are left as they are.
        deletion_ratio: the share of the words that noise deletes.
    """

    rows: Rows
    roles: Roles
    plan: Plan
    tokenizers: Mapping[str, tuple[TextTokenizer, str]]
    networks: Mapping[str, tuple[str, ...]]
    shards: Shards = ALL
    split_lengths: bool = False
    packed: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    deletion_ratio: float = 0.6
    seed: int = 0

    def __call__(self, step: int) -> dict[str, Any]:
        return self.batch(self.plan.rows(step), step)

    def batch(self, indices: np.ndarray, step: int) -> dict[str, Any]:
        """Makes the own parts of the batch of these rows; noise depends on the step."""
        indices = indices[self.shards.rows(len(indices))]
        damage = partial(delete_words, seed=self.seed, step=step, ratio=self.deletion_ratio)
        made = make_batch(
            self.rows,
            self.roles,
            indices,
            self.tokenize,
            networks=self.networks,
            damage=damage,
        )
        return made | levelled({name: made[name] for name in self.packed & made.keys()})

    def tokenize(self, texts: list[str], role: str) -> dict[str, Any]:
        """Tokenizes the texts of a role, and packs them or splits them by length."""
        tokenizer, prompt = self.tokenizers[role]
        tokens = tokenizer(texts, prompt)
        devices = len(self.shards.mine)
        if role in self.packed:
            multiple = -(-max(1, len(texts) // STEPS) // devices) * devices
            longest = int(tokens["attention_mask"].sum(axis=1).max(initial=WIDTH))
            left = tokenizer.tokenizer.padding_side == "left"
            return pack(tokens, width=tokenizer.width(longest), multiple=multiple, left=left)
        if not self.split_lengths or role in self.whole or role.endswith("negatives"):
            return tokens
        buckets, always = tokenizer.buckets, not self.shards.whole  # hosts must split alike
        return split_by_length(tokens, buckets=buckets, multiple=devices, always=always)


def levelled(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Fills packed columns up to the rows of those that have few more: they share a program."""
    sizes = {name: len(column["blocks"][0]["texts"]) for name, column in columns.items()}

    def filled(name: str) -> dict[str, Any]:
        rows = max(size for size in sizes.values() if sizes[name] >= CLOSE * size)
        more = [(0, rows - sizes[name]), (0, 0)]
        (block,) = columns[name]["blocks"]
        block = {
            entry: np.pad(array, more, constant_values=-1 if entry == "texts" else 0)
            for entry, array in block.items()
        }
        return {**columns[name], "blocks": [block]}

    return {name: filled(name) for name in columns}
