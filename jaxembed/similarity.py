"""Similarities and distances: of all pairs `[n d], [m d] -> [n m]`, and `paired_*`, row by row.

Every function raises its inputs to at least float32 first; this is the only place where losses
cast. All are safe to differentiate everywhere. The gradient of a vector that is exactly zero is 0;
where two coordinates are equal, an absolute difference has slope 0. NaN stays NaN: a model that has
diverged shows.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

Left = Float[Array, "n d"]
Right = Float[Array, "m d"]
Matrix = Float[Array, "n m"]
Vectors = Float[Array, "*rows d"]
Pairs = Float[Array, "*rows"]


def as_float32(x: Array) -> Array:
    """Raises 16-bit floats to float32; leaves float32 and float64 alone."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


def absolute(x: Array) -> Array:
    """Computes `|x|` with slope 0 at 0 (`jnp.abs` has slope 1 there)."""
    return x * lax.stop_gradient(jnp.sign(x))


def safe_sqrt(x: Array) -> Array:
    """Computes `sqrt(max(x, 0))` with value and gradient 0 where `x <= 0`."""
    zero = x <= 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


def norm(x: Vectors) -> Pairs:
    """Computes the Euclidean length of the last axis, with gradient 0 at the zero vector."""
    return safe_sqrt(jnp.sum(jnp.square(as_float32(x)), axis=-1))


def unit(x: Vectors, epsilon: float = 1e-12) -> Vectors:
    """Divides by `max(|x|, epsilon)`. A zero vector stays zero and passes no gradient."""
    length = norm(x)[..., None]
    return jnp.where(length == 0, 0, as_float32(x) / jnp.maximum(length, epsilon))


def clamped_unit(x: Vectors, epsilon: float = 1e-8) -> Vectors:
    """Divides by `max(|x|, epsilon)` where the clamp is no part of the gradient.

    This is the normalisation of PyTorch's `cosine_similarity`; it differs from `unit` only below
    epsilon.
    """
    length = norm(x)[..., None]
    clamped = length + lax.stop_gradient(jnp.maximum(length, epsilon) - length)
    return jnp.where(length == 0, 0, as_float32(x) / jnp.where(length == 0, 1, clamped))


# All pairs ---------------------------------------------------------------------------------------


def dot(left: Left, right: Right) -> Matrix:
    """Computes `<x_i, y_j>` for all pairs."""
    return as_float32(left) @ as_float32(right).T


def cosine(left: Left, right: Right) -> Matrix:
    """Computes `<x_i, y_j> / (|x_i| |y_j|)` for all pairs; 0 where a vector is zero.

    >>> x = jnp.array([[3.0, 4.0], [0.0, 2.0]])
    >>> cosine(x, x)
    Array([[1. , 0.8],
           [0.8, 1. ]], dtype=float32)
    """
    return dot(unit(left), unit(right))


# Row by row --------------------------------------------------------------------------------------


def paired_dot(left: Vectors, right: Vectors) -> Pairs:
    """Computes `<x_i, y_i>`."""
    return jnp.sum(as_float32(left) * as_float32(right), axis=-1)


def paired_cosine(left: Vectors, right: Vectors) -> Pairs:
    """Computes `<x_i, y_i> / (|x_i| |y_i|)`, as `cosine` does for all pairs."""
    return paired_dot(unit(left), unit(right))


def paired_clamped_cosine(left: Vectors, right: Vectors) -> Pairs:
    """Computes the cosine with norms clamped at 1e-8 outside the gradient (`clamped_unit`)."""
    return paired_dot(clamped_unit(left), clamped_unit(right))


def paired_euclidean_distance(left: Vectors, right: Vectors) -> Pairs:
    """Computes `|x_i - y_i|`; at equal vectors value and gradient are 0."""
    return norm(as_float32(left) - as_float32(right))


def paired_manhattan_distance(left: Vectors, right: Vectors) -> Pairs:
    """Computes `sum |x_i - y_i|` over the features."""
    return jnp.sum(absolute(as_float32(left) - as_float32(right)), axis=-1)


def paired_cosine_distance(left: Vectors, right: Vectors) -> Pairs:
    """Computes `1 - cosine`, with the clamped cosine. Rounding may give a value just below 0."""
    return 1 - paired_clamped_cosine(left, right)
