"""The one place where the entries of a batch become arguments of a loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxembed.randomness import row_keys
from jaxembed.typing import Batch, EncodeFn, Params, Roles

MASKS_AND_IDS = ("where", "negatives_where", "ids", "anchor_ids", "negative_ids")
NEGATIVES = "negatives"


def text_columns(batch: Batch, roles: Roles) -> list[str]:
    """Names the text columns of a batch in the order of the roles, negatives last."""
    names = list(roles.texts)
    if roles.several:
        further = (f"{roles.texts[-1]}_{number}" for number in range(2, len(batch) + 2))
        names += [name for name in further if name in batch]
    return [*names, NEGATIVES] if NEGATIVES in batch else names


def encode_column(
    encode: EncodeFn, params: Params, batch: Batch, name: str, *, key: Array | None
) -> Array:
    """Encodes one text column: `[n d]`, or `[n k d]` where a row has several texts.

    Every text has its own key, folded from the row and, of several texts, the position.
    """
    tokens = batch[name]
    if "blocks" in tokens or tokens["input_ids"].ndim == 2:
        return encode(params, tokens, key=key)
    n, k = tokens["input_ids"].shape[:2]
    flat = {entry: array.reshape(n * k, -1) for entry, array in tokens.items()}
    if key is not None:
        fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
        key = fold(row_keys(key, n), jnp.arange(k)).reshape(n * k)
    embeddings = encode(params, flat, key=key)
    return embeddings.reshape(n, k, *embeddings.shape[1:])


def embed_by_network(encode: EncodeFn | None, params: Params, batch: Batch, name: str) -> Array:
    """Returns embeddings of a frozen network: stored ones as they are, tokens encoded.

    Raises:
        ValueError: the batch has neither.
    """
    network, _, role = name.partition("_")
    if name not in batch:
        raise ValueError(
            f"the batch has no {name}: give the {network}'s embeddings of the {role}, or its own"
            f" tokens of them, {network}.tokenizer(texts); tokens of another tokenizer mean nothing"
            f" to it"
        )
    if not isinstance(batch[name], Mapping):
        return jnp.asarray(batch[name])
    if encode is None:
        raise ValueError(f"the batch has tokens for a {network}, but build(…) got no {network}=")
    return lax.stop_gradient(encode_column(encode, params, batch, name, key=None))


def batch_keywords(batch: Batch, names: Mapping[str, Any], roles: Roles) -> dict[str, Any]:
    """Returns what of the batch goes into the loss by keyword: labels, masks and ids."""
    ids = MASKS_AND_IDS if roles.ids else MASKS_AND_IDS[:2]
    wanted = [name for name in (*roles.labels, *ids) if name in names and name in batch]
    return {
        name: jnp.asarray(batch[name]) for name in wanted if not isinstance(batch[name], Mapping)
    }
