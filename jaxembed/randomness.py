"""Keys for rows: every row draws its own numbers, however the batch is cut or sharded."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def row_keys(key: Array, n: int) -> Array:
    """Returns one key per row, `[n]`: `fold_in(key, i)`. An array of `n` keys passes as it is.

    >>> keys = row_keys(jax.random.key(0), 3)
    >>> bool((row_keys(keys, 3) == keys).all())
    True
    """
    if key.ndim == 1:
        if key.shape[0] != n:
            raise ValueError(f"key must be one key or one per row, {n}; got {key.shape[0]}")
        return key
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(n))
