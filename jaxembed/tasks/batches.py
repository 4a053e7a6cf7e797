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
    draw_negatives,
    make_batch,
    split_by_length,
)
from jaxembed.encoders import TextTokenizer, pack_columns
from jaxembed.typing import PACKED, Roles

# So that few shapes occur, n packed texts take a multiple of n / 32 rows, no less than so wide.
STEPS, WIDTH = 32, 64
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
        packed: roles whose texts are packed instead, several to a row, of all these roles together.
        packed_alone: roles whose texts are packed by themselves: others than the encoder read them.
        whole: roles that are left as they are.
        deletion_ratio: the share of the words that noise deletes.
        negatives_per_row: how many of a row's negatives are drawn in each step; None takes all.
    """

    rows: Rows
    roles: Roles
    plan: Plan
    tokenizers: Mapping[str, tuple[TextTokenizer, str]]
    networks: Mapping[str, tuple[str, ...]]
    shards: Shards = ALL
    split_lengths: bool = False
    packed: tuple[str, ...] = ()
    packed_alone: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    deletion_ratio: float = 0.6
    seed: int = 0
    negatives_per_row: int | None = None

    def __call__(self, step: int) -> dict[str, Any]:
        return self.batch(self.plan.rows(step), step)

    def batch(self, indices: np.ndarray, step: int) -> dict[str, Any]:
        """Makes the own parts of the batch of these rows; noise depends on the step."""
        indices = indices[self.shards.rows(len(indices))]
        damage = partial(delete_words, seed=self.seed, step=step, ratio=self.deletion_ratio)
        k = self.negatives_per_row
        draw = None if k is None else partial(draw_negatives, k=k, seed=self.seed, step=step)
        made = make_batch(
            self.rows,
            self.roles,
            indices,
            self.tokenize,
            networks=self.networks,
            damage=damage,
            draw=draw,
            negatives_per_row=k,
        )
        for role in self.packed_alone & made.keys():
            packed = self.pack({role: made[role]})
            made[role] = packed[PACKED] | packed[role]
        if together := {role: made[role] for role in self.packed if role in made}:
            made |= self.pack(together)
        return made

    def tokenize(self, texts: list[str], role: str) -> dict[str, Any]:
        """Tokenizes the texts of a role, and splits them by length."""
        tokenizer, prompt = self.tokenizers[role]
        tokens = tokenizer(texts, prompt)
        whole = role in self.whole or role in self.packed or role in self.packed_alone
        if not self.split_lengths or whole or role.endswith("negatives"):
            return tokens
        buckets, always = tokenizer.buckets, not self.shards.whole  # hosts must split alike
        devices = len(self.shards.mine)
        return split_by_length(tokens, buckets=buckets, multiple=devices, always=always)

    def pack(self, columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Packs the texts of columns together, in few shapes."""
        tokenizer, _ = self.tokenizers[next(iter(columns))]
        masks = [column["attention_mask"] for column in columns.values()]
        devices = len(self.shards.mine)
        steps = max(1, sum(mask[..., 0].size for mask in masks) // STEPS)
        longest = max(int(mask.sum(axis=-1).max(initial=WIDTH)) for mask in masks)
        return pack_columns(
            columns,
            width=tokenizer.width(longest),
            multiple=-(-steps // devices) * devices,
            left=tokenizer.pads_left,
        )
