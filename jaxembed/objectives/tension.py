"""Contrastive tension: labels from the texts themselves, and the second encoder."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxembed.losses import contrastive_tension_loss
from jaxembed.losses.arguments import check_positive
from jaxembed.losses.reduction import total
from jaxembed.similarity import paired_dot
from jaxembed.typing import Embeddings, Ids, PairedFn, Params, ReduceFn, Scalar, Scores, Where


def tension_of_pairs(
    first: Embeddings,
    second: Embeddings,
    *,
    same_text: Scores | None = None,
    ids: Ids | None = None,
    anchor_ids: Ids | None = None,
    scale: Scalar = 1.0,
    similarity_fn: PairedFn = paired_dot,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = total,
) -> Array:
    """Computes `contrastive_tension_loss` with the labels `same_text`, or else by equal ids."""
    if same_text is None:
        if ids is None or anchor_ids is None:
            raise ValueError("contrastive_tension needs same_text [n], or ids and anchor_ids [n 2]")
        same_text = jnp.all(ids == anchor_ids, axis=1)
    return contrastive_tension_loss(
        first,
        second,
        labels=same_text,
        scale=scale,
        similarity_fn=similarity_fn,
        where=where,
        reduce_fn=reduce_fn,
    )


def init_second_encoder(key: Array, *, encoder: Params) -> Params:
    """Copies the encoder."""
    return {"encoder": jax.tree.map(jnp.copy, encoder)}


def init_second_encoder_and_scale(key: Array, *, encoder: Params, scale: float) -> Params:
    """Copies the encoder; the scale is learned as its logarithm."""
    return {**init_second_encoder(key, encoder=encoder), **init_logit_scale(scale)}


def init_logit_scale(scale: float) -> Params:
    """Returns `logit_scale = log(scale)`."""
    check_positive(scale=scale)
    return {"logit_scale": jnp.log(scale)}


def learned_scale(own: Params) -> dict[str, Any]:
    """Returns `scale = exp(logit_scale)`."""
    return {"scale": jnp.exp(own["logit_scale"])}
