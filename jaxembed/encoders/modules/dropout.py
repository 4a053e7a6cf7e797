"""Dropout of text vectors, in training only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jax import Array

from jaxembed.encoders.checkpoint import write_json
from jaxembed.encoders.families.blocks import dropout
from jaxembed.encoders.keys import Keys
from jaxembed.encoders.modules.module import SENTENCE
from jaxembed.forms import At
from jaxembed.typing import Params, Tokens

KEYS = Keys(used={"dropout?": At(float, least=0, most=1)})


@dataclass(frozen=True)
class Dropout:
    """Drops features of every text with a probability; without keys it does nothing."""

    rate: float = 0.2
    published_type = "sentence_transformers.models.Dropout"
    reads = SENTENCE
    writes = SENTENCE

    @classmethod
    def read(cls, folder: Path) -> tuple[Dropout, Params]:
        return cls(KEYS.read(folder / "config.json").get("dropout", cls.rate)), {}

    def width_of(self, width: int) -> int:
        return width

    def __call__(
        self, params: Params, features: Array, tokens: Tokens, keys: Array | None = None
    ) -> Array:
        return dropout(features, self.rate, keys, site=0)

    def write(self, folder: Path, params: Params) -> None:
        write_json(folder / "config.json", {"dropout": self.rate})
