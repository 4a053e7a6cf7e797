"""The one place where the entries of a batch become arguments of a loss."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxembed.randomness import row_keys
from jaxembed.typing import Batch, EncodeFn, Params, Roles

MASKS_AND_IDS = ("where", "negatives_where", "ids", "anchor_ids", "negative_ids")


def encode_columns(
    encode: EncodeFn, params: Params, batch: Batch, roles: Roles, *, key: Array | None
) -> list[Array]:
    """Encodes the text columns in the order of the roles: `[n d]` each, negatives `[n k d]` last.

    Every text has its own key, folded from the column, the row and, for negatives, the position.
    """
    names = [*roles.texts, *(["negatives"] if "negatives" in batch else [])]
    embeddings = []
    for column, name in enumerate(names):
        column_key = None if key is None else jax.random.fold_in(key, column)
        if name != "negatives":
            embeddings.append(encode(params, batch[name], key=column_key))
            continue
        n, k = batch[name]["input_ids"].shape[:2]
        flat = {entry: tokens.reshape(n * k, -1) for entry, tokens in batch[name].items()}
        if column_key is not None:
            fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
            column_key = fold(row_keys(column_key, n), jnp.arange(k)).reshape(n * k)
        embeddings.append(encode(params, flat, key=column_key).reshape(n, k, -1))
    return embeddings


def loss_keywords(batch: Batch, roles: Roles) -> dict[str, Any]:
    """Returns what of the batch goes into the loss by keyword: labels, masks and ids."""
    names = (*roles.labels, *(MASKS_AND_IDS if roles.ids else MASKS_AND_IDS[:1]))
    return {name: jnp.asarray(batch[name]) for name in names if name in batch}
