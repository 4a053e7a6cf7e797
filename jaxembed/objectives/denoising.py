"""The denoising auto-encoder: a decoder rebuilds a text from the embedding of its damaged copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxembed.losses import denoising_auto_encoder_loss
from jaxembed.losses.reduction import total
from jaxembed.typing import Embeddings, EncodeFn, Params, Where


def token_costs(decoder: Any) -> EncodeFn:
    """Returns an encode function: `input_ids [n t]` and `vectors [n d]` to costs `[n 2]`.

    They are the sum of the cross-entropies of a text's tokens and the number of these, row by row,
    so that many rows can be rebuilt a few at a time.
    """

    def costs(params: Params, tokens: Any, *, key: Array | None = None) -> Array:
        ids = tokens["input_ids"]
        logits = decoder.apply(params, ids[:, :-1], tokens["vectors"], key=key)

        def of_row(logits: Array, targets: Array) -> Array:
            cost = denoising_auto_encoder_loss(
                logits[None], target_ids=targets[None], pad_id=decoder.pad_id
            )
            count = jnp.sum(targets != decoder.pad_id, dtype=cost.dtype)
            return jnp.stack([cost * count, count])

        return jax.vmap(of_row)(logits, ids[:, 1:])

    return costs


def denoise(
    damaged: Embeddings,
    *,
    reconstruct: Callable[[Array], Array],
    where: Where | None = None,
) -> Array:
    """Computes the mean cross-entropy over all tokens of the batch, of texts that are rebuilt.

    `reconstruct` turns embeddings `[n d]` into costs `[n 2]` (`token_costs`).
    """
    costs, counts = reconstruct(damaged).T
    return total(costs, where) / jnp.maximum(total(counts, where), 1)


def init_decoder(key: Array, *, decoder: Any) -> Params:
    """Takes the decoder's own parameters; a tied one shares the others with the encoder."""
    if decoder is None:
        raise ValueError("denoising_auto_encoder needs a decoder: tied_decoder(encoder)")
    return decoder.params
