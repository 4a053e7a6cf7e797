"""Errors of single predictions against their targets, for the `loss_fn` of regressions and more."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from jaxembed.losses.over_candidates import LogSumExp, excess
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
    *rows, c = logits.shape
    flat, labels = logits.reshape(-1, c), labels.reshape(-1)
    others = LogSumExp(((flat, ~_chosen(flat, labels)),)).of_all()
    in_range = (labels >= 0) & (labels < c)
    values = jnp.where(in_range, excess(others, _picked(flat, labels)), jnp.nan)
    return values.reshape(rows)


def log_softmax(logits: Float[Array, "n k"], where: Bool[Array, "n k"] | None = None) -> Array:
    """Computes `logits - logsumexp(logits)` over the real entries of each row, -inf at the others.

    The greatest entry, of probability 1 - ε, gets `-ε` however small it is.
    """
    if where is not None:
        logits = jnp.where(where, logits, -jnp.inf)
    best = jnp.argmax(logits, axis=1)
    below = logits - _picked(logits, best)[:, None]
    return jnp.where(_chosen(logits, best), 0, below) - cross_entropy(logits, best)[:, None]


def _picked(logits: Float[Array, "n k"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    return jnp.sum(jnp.where(_chosen(logits, labels), logits, 0), axis=1)


def _chosen(logits: Float[Array, "n k"], labels: Int[Array, " n"]) -> Bool[Array, "n k"]:
    return lax.broadcasted_iota(labels.dtype, logits.shape, 1) == labels[:, None]
