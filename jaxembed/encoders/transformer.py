"""A transformer as an encoder uses it, whatever source it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import Array

from jaxembed.typing import Params


@dataclass(frozen=True)
class Transformer:
    """Tokens to one vector per token, with what it takes to write it back."""

    apply: Callable[..., Array]  # (params, tokens, *, key=None) -> [n t d]
    all_layers: Callable[..., Array]  # the same after each layer, the embeddings first: [n l t d]
    params: Params
    width: int  # d
    vocabulary: int | None  # number of tokens that it embeds
    n_positions: int | None  # how many tokens a text may have; None for no limit
    settings: Mapping[str, Any]  # config.json
    tensors: Callable[[Params], dict[str, np.ndarray]]  # params -> tensors by published name
    packs: bool = False  # whether a row of tokens may hold several texts
    pads_left: bool = False  # whether padding before a text changes nothing
    published_type: str = "sentence_transformers.models.Transformer"
