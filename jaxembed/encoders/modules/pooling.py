"""Pooling: token vectors to one vector per text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax import Array

from jaxembed.encoders.checkpoint import write_json
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.keys import Keys
from jaxembed.encoders.modules.module import SENTENCE, TOKENS
from jaxembed.encoders.pooling import MODES, pool
from jaxembed.typing import Params, Tokens


def _old_name(mode: str) -> str:
    special = {"cls": "cls_token", "lasttoken": "lasttoken"}
    return "pooling_mode_" + special.get(mode, mode.removesuffix("_tokens") + "_tokens")


KEYS = Keys(
    used={
        "embedding_dimension?": int,
        "word_embedding_dimension?": int,  # before sentence-transformers 5.4
        "pooling_mode?": (str, [str]),
        **{_old_name(mode) + "?": bool for mode in MODES},
        "include_prompt?": bool,
    }
)


@dataclass(frozen=True)
class Pooling:
    """Token vectors `[n t d]` to text vectors `[n e]`, several modes joined."""

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    width: int | None = None
    published_type = "sentence_transformers.models.Pooling"
    reads = TOKENS
    writes = SENTENCE

    @classmethod
    def read(cls, folder: Path) -> tuple[Pooling, Params]:
        config = KEYS.read(folder / "config.json")
        modes = config.get("pooling_mode")
        if modes is None:  # one boolean per mode, before sentence-transformers 5.4
            modes = [mode for mode in MODES if config.get(_old_name(mode))] or ["mean"]
        modes = (modes,) if isinstance(modes, str) else tuple(modes)
        if not modes:
            raise EncoderError(f"{folder}: pooling_mode is empty; name one of {list(MODES)}")
        if unknown := [mode for mode in modes if mode not in MODES]:
            raise EncoderError(f"{folder}: pooling mode {unknown[0]!r} is none of {list(MODES)}")
        width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
        return cls(modes, config.get("include_prompt", True), width), {}

    def width_of(self, width: int) -> int:
        return width * len(self.modes)

    def __call__(
        self, params: Params, features: Array, tokens: Tokens, keys: Array | None = None
    ) -> Array:
        return pool(
            features,
            tokens["attention_mask"],
            tokens.get("pooling_mask"),
            modes=self.modes,
            segments=tokens.get("segment_ids"),
            n_segments=tokens["texts"].shape[-1] if "segment_ids" in tokens else 1,
        )

    def write(self, folder: Path, params: Params) -> None:
        if self.modes == tuple(mode for mode in MODES if mode in self.modes):
            # Booleans are read by every version of sentence-transformers; their order is fixed.
            modes: dict[str, Any] = {_old_name(mode): mode in self.modes for mode in MODES}
            config = {"word_embedding_dimension": self.width, **modes}
        else:
            config = {"embedding_dimension": self.width, "pooling_mode": list(self.modes)}
        write_json(folder / "config.json", config | {"include_prompt": self.include_prompt})
