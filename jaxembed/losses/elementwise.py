"""Errors of single predictions against their targets, for the `loss_fn` of regressions and more."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from jaxembed.similarity import absolute
from jaxembed.typing import Scalar


def identity(values: Array) -> Array:
    """Returns the values as they are: the default of `score_transform`."""
    return values


def squared_error(predictions: Array, targets: Array) -> Array:
    """Computes `(x - y)²`."""
    return jnp.square(predictions - targets)


def absolute_error(predictions: Array, targets: Array) -> Array:
    """Computes `|x - y|`, slope 0 where they are equal."""
    return absolute(predictions - targets)


def huber_error(predictions: Array, targets: Array, delta: Scalar = 1.0) -> Array:
    """Computes `½ (x - y)²` up to a difference of `delta`, `delta (|x - y| - ½ delta)` beyond."""
    difference = absolute(predictions - targets)
    quadratic = jnp.minimum(difference, delta)
    return 0.5 * jnp.square(quadratic) + delta * (difference - quadratic)


def smooth_l1_error(predictions: Array, targets: Array, beta: Scalar = 1.0) -> Array:
    """Computes the Huber error divided by `beta`, its turning point."""
    return huber_error(predictions, targets, delta=beta) / beta


def binary_cross_entropy(logits: Array, targets: Array) -> Array:
    """Computes `-y log σ(x) - (1 - y) log(1 - σ(x))` from logits, for targets in [0, 1]."""
    return jax.nn.softplus(logits) - targets * logits


def cross_entropy(logits: Float[Array, "*rows c"], labels: Int[Array, "*rows"]) -> Array:
    """Computes `logsumexp(logits) - logits[label]` of the last axis; NaN for labels out of range.

    The logit is picked by a sum, whose gradient joins the softmax; an index would scatter.
    """
    classes = lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    picked = jnp.sum(jnp.where(classes == labels[..., None], logits, 0), axis=-1)
    in_range = (labels >= 0) & (labels < logits.shape[-1])
    return jnp.where(in_range, jax.nn.logsumexp(logits, axis=-1) - picked, jnp.nan)
