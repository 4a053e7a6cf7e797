"""Encoding a column in blocks of like length, so that a few long texts do not pad all others."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxembed.calls import checks_call
from jaxembed.randomness import row_keys
from jaxembed.typing import EncodeFn, Params


@checks_call
def by_length(encode: EncodeFn) -> EncodeFn:
    """Returns an encode function that also takes columns in blocks, split by length or packed.

    Such a column holds `blocks` and `places`. A block is tokens `[r t]` with `texts [r]`, the text
    of the column in each of its rows, or `texts [r k]` where rows hold several, -1 for none; of
    these `encode` returns `[r k d]`. `places`, `[n]` or of any shape, says where each text stands
    among those of all blocks. `split_by_length` of `jaxembed.data` makes them, and `pack` of
    `jaxembed.encoders`. The result is that of the column in one piece, in the shape of `places`. A
    text keeps its key; in a packed row, that of the first text is for all.
    """

    @functools.wraps(encode)
    def encode_blocks(params: Params, tokens: Any, *, key: Array | None = None) -> Array:
        if "blocks" not in tokens:
            return encode(params, tokens, key=key)
        places = tokens["places"]
        keys = None if key is None else row_keys(key, places.size)
        embeddings = []
        for block in tokens["blocks"]:
            texts = block["texts"]
            first = texts[:, 0] if texts.ndim == 2 else texts
            block_keys = None if keys is None else keys[jnp.maximum(first, 0)]
            of_block = encode(params, block, key=block_keys)
            embeddings.append(of_block.reshape(-1, *of_block.shape[texts.ndim :]))
        return jnp.concatenate(embeddings)[places]

    return encode_blocks
