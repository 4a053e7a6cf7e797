"""How healthy embeddings are: whether they use the space, or collapse into a corner of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float

Rows = Float[Array | np.ndarray, "n d"]
Real = Bool[Array | np.ndarray, " n"]
SAME = 0.9999  # the cosine from which on two embeddings count as one
ROUNDING = 1e-6  # the variance of unit vectors below which they count as one
SHARED_DIRECTION, FEW_DIRECTIONS = 0.95, 2.0  # where a model counts as collapsed


def embedding_health(
    embeddings: Rows,
    positives: Rows | None = None,
    *,
    where: Real | None = None,
    sample: int = 256,
) -> dict[str, Any]:
    """Computes what shows early that a training goes wrong, from the first `sample` rows.

    With the rows at unit length, u, and over pairs of different rows:

        mean_cosine      mean of u_i · u_j; 1 where all texts have one embedding
        uniformity       log mean exp(-2 |u_i - u_j|²), from 0 (all one) down to about -4
        effective_rank   (Σ_i c_i²)² / Σ_i c_i⁴, the number of directions in which they differ, from
                         1 to min(n - 1, d), with c the singular values of u less its mean; the
                         order-2 kind, which needs no SVD. 0 where all is one
        duplicates       share of rows with a cosine of 0.9999 or more to another row
        norm_min, norm_max   lengths of the embeddings themselves
        alignment        mean |u_i - v_i|² to the positives, if given: 0 (equal) to 4 (opposite)

    Args:
        embeddings: `[n d]`; of NumPy, all is computed by that, and nothing compiled.
        positives: `[n d]`, row i belonging to row i.
        where: True = a real row; others do not count, whatever they hold.
        sample: rows that are looked at: `sample² d` multiplications, little beside a step.

    Returns:
        float32 scalars, without gradient; 0 where there is no pair.

    Sources: Wang, Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere", 2020; Roy, Vetterli, "The effective rank: a measure of effective
    dimensionality", 2007.

    >>> health = embedding_health(jnp.array([[1.0, 0.0], [0.0, 2.0]]))
    >>> print(*(f"{health[name]:.1f}" for name in ("mean_cosine", "effective_rank", "norm_max")))
    0.0 1.0 2.0
    """
    x, y = embeddings[:sample], None if positives is None else positives[:sample]
    real = np.ones(len(x), bool) if where is None else where[:sample]
    if isinstance(x, np.ndarray):
        with np.errstate(divide="ignore"):  # the log of 0, where there are no pairs
            return _health(x, y, np.asarray(real), np)
    return _compiled(*lax.stop_gradient((x, y)), real)


def _health(x: Any, y: Any, real: Any, xp: Any) -> dict[str, Any]:
    """Computes it by NumPy or its namesake in JAX."""

    def units(x: Any) -> tuple[Any, Any]:  # rows at unit length, and their lengths
        x = xp.where(real[:, None], x.astype(np.float32), 0)
        lengths = xp.linalg.norm(x, axis=1)
        return x / xp.where(lengths > 0, lengths, 1)[:, None], lengths

    product = np.matmul if xp is np else partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    u, lengths = units(x)
    count = xp.maximum(xp.sum(real), 1).astype(np.float32)
    pairs = real[:, None] & real[None] & ~np.eye(len(x), dtype=bool)
    n_pairs = xp.maximum(xp.sum(pairs), 1).astype(np.float32)
    cosines = product(u, u.T)
    centred = xp.where(real[:, None], u - xp.sum(u, axis=0) / count, 0)
    spread = product(centred, centred.T)
    variance = xp.trace(spread)
    distinct = variance > ROUNDING * count
    closeness = xp.exp(4 * cosines - 4)  # |u - v|² = 2 - 2 cos
    health = {
        "mean_cosine": xp.sum(cosines, where=pairs) / n_pairs,
        "uniformity": xp.log(xp.sum(closeness, where=pairs) / n_pairs),
        "effective_rank": xp.where(
            distinct, variance**2 / xp.where(distinct, xp.sum(spread**2), 1), 0
        ),
        "duplicates": xp.sum(xp.any((cosines >= SAME) & pairs, axis=1)) / count,
        "norm_min": xp.min(lengths, where=real, initial=np.inf),
        "norm_max": xp.max(lengths, where=real, initial=0),
    }
    health = {name: xp.where(xp.any(pairs), value, 0) for name, value in health.items()}
    if y is not None:
        v, _ = units(y)
        health["alignment"] = xp.sum(xp.sum((u - v) ** 2, axis=1), where=real) / count
    return health


_compiled = jax.jit(partial(_health, xp=jnp))


def collapse(health: Mapping[str, Any]) -> str | None:
    """Says in a few words that embeddings have collapsed; None where they have not.

    They have, with a mean cosine above 0.95, or where some eight rows or more differ in fewer than
    two directions.

    >>> collapse({"mean_cosine": 0.99, "effective_rank": 7.0})
    'the embeddings collapse: mean cosine 0.990, effective rank 7.0'
    """
    cosine, rank = health["mean_cosine"], health["effective_rank"]
    if cosine <= SHARED_DIRECTION and rank >= FEW_DIRECTIONS:
        return None
    return f"the embeddings collapse: mean cosine {cosine:.3f}, effective rank {rank:.1f}"
