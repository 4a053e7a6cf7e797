"""Encoding a column in blocks of like length, so that a few long texts do not pad all others."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxembed.randomness import row_keys
from jaxembed.typing import EncodeFn, Params


def by_length(encode: EncodeFn) -> EncodeFn:
    """Returns an encode function that also takes columns split by length.

    A split column holds `blocks`, tokens `[n_b t_b]` whose rows together are those of the column,
    and `rows [n]`, the row of the column that each of them is. `jaxembed.data.lengths` makes them.
    The result is that of the column in one piece, in the column's own order; a row keeps its key.
    """

    @functools.wraps(encode)
    def encode_split(params: Params, tokens: Any, *, key: Array | None = None) -> Array:
        if "blocks" not in tokens:
            return encode(params, tokens, key=key)
        rows = tokens["rows"]
        keys = None if key is None else row_keys(key, rows.size)[rows]
        embeddings, start = [], 0
        for block in tokens["blocks"]:
            stop = start + block["input_ids"].shape[0]
            block_key = None if keys is None else keys[start:stop]
            embeddings.append(encode(params, block, key=block_key))
            start = stop
        return jnp.concatenate(embeddings)[jnp.argsort(rows)]

    return encode_split
