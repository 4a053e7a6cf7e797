"""Errors of single predictions against their targets, for the `loss_fn` of regressions and more."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from jaxembed.losses.over_candidates import excess
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
    return targets * jax.nn.softplus(-logits) + (1 - targets) * jax.nn.softplus(logits)


def cross_entropy(logits: Float[Array, "*rows c"], labels: Int[Array, "*rows"]) -> Array:
    """Computes `logsumexp(logits) - logits[label]` of the last axis; NaN for labels out of range.

    The logit is picked by a sum, whose gradient joins the softmax; an index would scatter.
    """
    chosen = _chosen(logits, labels)
    lowest = jnp.finfo(logits.dtype).min  # not -inf: there may be no other class
    others = jax.nn.logsumexp(jnp.where(chosen, lowest, logits), axis=-1)
    in_range = (labels >= 0) & (labels < logits.shape[-1])
    return jnp.where(in_range, excess(others, _picked(logits, chosen)), jnp.nan)


def log_softmax(logits: Float[Array, "n k"], where: Bool[Array, "n k"] | None = None) -> Array:
    """Computes `logits - logsumexp(logits)` over the real entries of each row, -inf at the others.

    The greatest entry, of probability 1 - ε, gets `-ε` however small it is.
    """
    if where is not None:
        logits = jnp.where(where, logits, -jnp.inf)
    best = jnp.argmax(logits, axis=1)
    chosen = _chosen(logits, best)
    below = logits - _picked(logits, chosen)[:, None]
    return jnp.where(chosen, 0, below) - cross_entropy(logits, best)[:, None]


def _chosen(logits: Float[Array, "*rows k"], labels: Int[Array, "*rows"]) -> Array:
    return lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1) == labels[..., None]


def _picked(logits: Float[Array, "*rows k"], chosen: Bool[Array, "*rows k"]) -> Array:
    return jnp.sum(jnp.where(chosen, logits, 0), axis=-1)
