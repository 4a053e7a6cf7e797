"""Pooling: from one vector per token to one per text, `[n t d] -> [n d]`.

`attention [n t]` is 1 for real tokens; `pooled [n t]` is 1 for those that count, which leaves out
the tokens of a prompt where a model asks for it. Padding may stand on either side. An empty row
gives zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from jaxembed.similarity import as_float32

Hidden = Float[Array, "n t d"]
Mask = Int[Array, "n t"]
Pooled = Float[Array, "n d"]


def cls(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Takes the first token that counts."""
    return _token(hidden, jnp.argmax(pooled, axis=1))


def lasttoken(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Takes the last token that counts."""
    last = pooled.shape[1] - 1 - jnp.argmax(pooled[:, ::-1], axis=1)
    return jnp.where(pooled.any(axis=1)[:, None], _token(hidden, last), 0)


def maximum(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Takes the greatest value of each feature."""
    greatest = jnp.max(jnp.where(pooled[..., None] > 0, hidden, -jnp.inf), axis=1)
    return jnp.where(pooled.any(axis=1)[:, None], greatest, 0)


def mean(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Computes the mean over the tokens."""
    return _weighted_sum(hidden, pooled) / _count(pooled)


def mean_sqrt_len(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Computes the sum over the tokens divided by the square root of their number."""
    return _weighted_sum(hidden, pooled) / jnp.sqrt(_count(pooled))


def weightedmean(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Computes the mean weighted by position, 1 for the first real token of the row."""
    weights = jnp.cumsum(attention, axis=1) * pooled
    return _weighted_sum(hidden, weights) / _count(weights)


# By their published names, in the order in which older folders join several.
MODES: dict[str, Callable[[Hidden, Mask, Mask], Pooled]] = {
    "cls": cls,
    "max": maximum,
    "mean": mean,
    "mean_sqrt_len_tokens": mean_sqrt_len,
    "weightedmean": weightedmean,
    "lasttoken": lasttoken,
}


def pool(
    hidden: Hidden, attention: Mask, pooled: Mask | None = None, *, modes: Sequence[str] = ("mean",)
) -> Float[Array, "n e"]:
    """Computes all `modes` in float32 and joins them along the features."""
    hidden, pooled = as_float32(hidden), attention if pooled is None else pooled
    return jnp.concatenate([MODES[mode](hidden, attention, pooled) for mode in modes], axis=-1)


def _token(hidden: Hidden, position: Int[Array, " n"]) -> Pooled:
    return jnp.take_along_axis(hidden, position[:, None, None], axis=1)[:, 0]


def _weighted_sum(hidden: Hidden, weights: Mask) -> Pooled:
    return jnp.einsum("ntd,nt->nd", hidden, weights.astype(hidden.dtype))


def _count(weights: Mask) -> Float[Array, "n 1"]:
    return jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), 1).astype(jnp.float32)
