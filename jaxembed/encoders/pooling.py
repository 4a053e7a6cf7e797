"""Pooling: from one vector per token to one per text, `[n t d] -> [n d]`.

`attention [n t]` is 1 for real tokens; `pooled [n t]` is 1 for those that count, which leaves out
the tokens of a prompt where a model asks for it. Padding may stand on either side. An empty row
gives zeros. Of rows that hold `k` texts each, `[n k d]`; inside, every row holds `k`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from jaxembed.similarity import as_float32

Hidden = Float[Array, "n t d"]
Mask = Int[Array, "n k t"]
Pooled = Float[Array, "n k d"]


def cls(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Takes the first token that counts."""
    return _token(hidden, jnp.argmax(pooled, axis=-1))


def lasttoken(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Takes the last token that counts."""
    last = pooled.shape[-1] - 1 - jnp.argmax(pooled[..., ::-1], axis=-1)
    return jnp.where(pooled.any(axis=-1)[..., None], _token(hidden, last), 0)


def maximum(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Takes the greatest value of each feature."""

    def of_one(pooled: Int[Array, "n t"]) -> Float[Array, "n d"]:
        greatest = jnp.max(jnp.where(pooled[..., None] > 0, hidden, -jnp.inf), axis=1)
        return jnp.where(pooled.any(axis=1)[:, None], greatest, 0)

    return jax.vmap(of_one, 1, 1)(pooled)


def mean(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Computes the mean over the tokens."""
    return _weighted_sum(hidden, pooled) / _count(pooled)


def mean_sqrt_len(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Computes the sum over the tokens divided by the square root of their number."""
    return _weighted_sum(hidden, pooled) / jnp.sqrt(_count(pooled))


def weightedmean(hidden: Hidden, attention: Mask, pooled: Mask) -> Pooled:
    """Computes the mean weighted by position, 1 for the first real token of the text."""
    weights = jnp.cumsum(attention, axis=-1) * pooled
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
    hidden: Hidden,
    attention: Int[Array, "n t"],
    pooled: Int[Array, "n t"] | None = None,
    *,
    modes: Sequence[str] = ("mean",),
    segments: Int[Array, "n t"] | None = None,
    n_segments: int = 1,
) -> Float[Array, "n e"] | Float[Array, "n k e"]:
    """Computes all `modes` in float32 and joins them along the features.

    With `segments`, the number of each token's text in its row, from 1 to `n_segments` and 0 for
    padding, every row gives `[k e]`.
    """
    hidden, pooled = as_float32(hidden), attention if pooled is None else pooled
    attention, pooled = attention[:, None], pooled[:, None]
    if segments is not None:
        of_text = segments[:, None] == jnp.arange(1, n_segments + 1)[:, None]  # [n k t]
        attention, pooled = attention * of_text, pooled * of_text
    vectors = [MODES[mode](hidden, attention, pooled) for mode in modes]
    joined = jnp.concatenate(vectors, axis=-1)
    return joined[:, 0] if segments is None else joined


def _token(hidden: Hidden, position: Int[Array, "n k"]) -> Pooled:
    return jnp.take_along_axis(hidden, position[..., None], axis=1)


def _weighted_sum(hidden: Hidden, weights: Mask) -> Pooled:
    return jnp.einsum("ntd,nkt->nkd", hidden, weights.astype(hidden.dtype))


def _count(weights: Mask) -> Float[Array, "n k 1"]:
    return jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1).astype(jnp.float32)
