"""Correlation of two lists of numbers, equal to SciPy's `pearsonr` and `spearmanr`.

Both return a scalar in at least float32, NaN where the correlation is not defined: one input is
constant or holds a NaN. Fewer than two values raise `ValueError`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jaxembed.similarity import as_float32, norm


def pearson(x: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, ""]:
    """Computes the cosine of `x - mean(x)` and `y - mean(y)`: 1 where y grows linearly with x.

    Source: Pearson, "Notes on Regression and Inheritance in the Case of Two Parents", 1895.

    >>> print(f"{pearson(jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([1.0, 3.0, 2.0, 4.0])):.3f}")
    0.800
    """
    if x.shape != y.shape or x.shape[0] < 2:
        raise ValueError(
            f"a correlation needs two lists of the same length, 2 or more; "
            f"got {x.shape} and {y.shape}"
        )
    x, y = as_float32(x), as_float32(y)
    # Rounding of the mean would turn a constant input into noise, hence the exact comparison.
    constant = jnp.all(x == x[0]) | jnp.all(y == y[0])
    x, y = x - jnp.mean(x), y - jnp.mean(y)
    r = jnp.sum(x * y) / (norm(x) * norm(y))
    return jnp.where(constant, jnp.nan, jnp.clip(r, -1, 1))


def spearman(x: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, ""]:
    """Computes `pearson` of the ranks, ties sharing their average rank: 1 where y grows with x.

    Source: Spearman, "The Proof and Measurement of Association between Two Things", 1904.

    >>> print(f"{spearman(jnp.array([0.1, 0.2, 0.3, 0.4]), jnp.array([1.0, 2.0, 2.0, 50.0])):.3f}")
    0.949
    """
    return pearson(average_ranks(x), average_ranks(y))


def average_ranks(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """Computes the rank of each value, from 1. Equal values get the mean of the ranks they occupy.

    A NaN has rank NaN.

    >>> average_ranks(jnp.array([30.0, 10.0, 30.0, 20.0]))
    Array([3.5, 1. , 3.5, 2. ], dtype=float32)
    """
    x = as_float32(x)
    ascending = jnp.sort(x)
    smaller = jnp.searchsorted(ascending, x, side="left")
    not_larger = jnp.searchsorted(ascending, x, side="right")
    ranks = (smaller + not_larger + 1).astype(x.dtype) / 2
    return jnp.where(jnp.isnan(x), jnp.nan, ranks)
