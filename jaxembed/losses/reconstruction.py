"""Reconstruction of a text from its embedding, as token logits of a decoder."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from jaxembed.losses.arguments import check_integers, check_shape, clean, takes_columns
from jaxembed.losses.elementwise import cross_entropy
from jaxembed.losses.reduction import mean
from jaxembed.similarity import as_float32
from jaxembed.typing import Where


@takes_columns
def denoising_auto_encoder_loss(
    logits: Float[Array, "n t v"],
    *,
    target_ids: Int[Array, "n t"],
    pad_id: int,
    where: Where | None = None,
) -> Array:
    """Computes the mean cross-entropy of a decoder's tokens, over all real tokens of the batch.

        value_it = -log softmax(logits_it)[target_it]    where target_it is not pad_id

    The decoder sees the one embedding of a noisy text and the clean text up to each token: `logits`
    of the inputs `tokens[:, :-1]` belong to `target_ids = tokens[:, 1:]`.

    Args:
        pad_id: the id of padding in `target_ids`; such tokens count for nothing.

    Raises:
        ValueError: shapes that do not agree, or target_ids that are no integers.

    Source: Wang et al., TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for
    Unsupervised Sentence Embedding Learning, 2021.

    >>> logits = jnp.array([[[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    >>> denoising_auto_encoder_loss(logits, target_ids=jnp.array([[0, 2]]), pad_id=2).round(4)
    Array(0.2395, dtype=float32)
    """
    check_integers(target_ids=target_ids)
    check_shape(logits.shape[:2], target_ids=target_ids)
    check_shape(logits.shape[:1], where=where)
    (logits,) = clean(where, as_float32(logits))
    real = target_ids != pad_id if where is None else (target_ids != pad_id) & where[:, None]
    targets = jnp.where(real, target_ids, 0)
    return mean(jnp.where(real, cross_entropy(logits, targets), 0), real)
