"""Similarities and distances: of all pairs `[n d], [m d] -> [n m]`, and `paired_*`, row by row.

Every function raises its inputs to at least float32 first; this is the only place where losses
cast. All are safe to differentiate everywhere. The gradient of a vector that is exactly zero is 0;
where two coordinates are equal, an absolute difference has slope 0. NaN stays NaN: a model that has
diverged shows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from jaxembed.typing import Scalar, SimilarityFn

Left = Float[Array, "n d"]
Right = Float[Array, "m d"]
Matrix = Float[Array, "n m"]
Vectors = Float[Array, "*#rows d"]
Pairs = Float[Array, "*#rows"]


def as_float32(x: Array) -> Array:
    """Raises 16-bit floats to float32; leaves float32 and float64 alone.

    Raises:
        ValueError: no array, or one that does not hold floats.
    """
    if not hasattr(x, "dtype"):
        raise ValueError(f"embeddings and scores must be arrays; got a {type(x).__name__}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"embeddings and scores must be floats; got {x.dtype}")
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
    return _unit(as_float32(x), epsilon)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _unit(x: Array, epsilon: float) -> Array:
    length = norm(x)[..., None]
    return jnp.where(length == 0, 0, x / jnp.maximum(length, epsilon))


@_unit.defjvp
def _(epsilon: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """The slope in terms of the result, so that reverse mode keeps no second copy of x."""
    (x,), (tangent,) = primals, tangents
    y, length = _unit(x, epsilon), norm(x)[..., None]
    along = jnp.sum(y * tangent, axis=-1, keepdims=True)
    across = tangent - y * jnp.where(length < epsilon, 0, along)
    return y, jnp.where(length == 0, 0, across / jnp.maximum(length, epsilon))


def clamped_unit(x: Vectors, epsilon: float = 1e-8) -> Vectors:
    """Divides by `max(|x|, epsilon)` where the clamp is no part of the gradient.

    This is the normalisation of PyTorch's `cosine_similarity`; it differs from `unit` only below
    epsilon.
    """
    length = norm(x)[..., None]
    divisor = jnp.where(length == 0, 1, _clamped(length, epsilon))
    return jnp.where(length == 0, 0, as_float32(x) / divisor)


def _clamped(length: Array, epsilon: float) -> Array:
    """Raises a length to epsilon, with the gradient of the length itself."""
    return length + lax.stop_gradient(jnp.maximum(length, epsilon) - length)


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


def clamped_cosine(left: Left, right: Right) -> Matrix:
    """Computes `cosine` with norms clamped at 1e-8 outside the gradient (`clamped_unit`)."""
    return dot(clamped_unit(left), clamped_unit(right))


def cosine_distance(left: Left, right: Right) -> Matrix:
    """Computes `1 - cosine` for all pairs. Rounding may give a value just below 0."""
    return 1 - cosine(left, right)


def euclidean_distance(left: Left, right: Right) -> Matrix:
    """Computes `|x_i - y_j|` for all pairs, from norms and one matrix product.

    Points that lie very close lose digits: equal vectors may be `|x| · 3e-4` apart in float32, and
    their gradient is 0 only up to rounding. `paired_euclidean_distance` is exact.
    """
    left, right = as_float32(left), as_float32(right)
    # 16-bit products, a default on TPUs, would leave no digit of a small distance.
    products = jnp.matmul(left, right.T, precision=lax.Precision.HIGHEST)
    squares = jnp.sum(jnp.square(left), axis=1)[:, None] + jnp.sum(jnp.square(right), axis=1)[None]
    return safe_sqrt(squares - 2 * products)


def manhattan_distance(left: Left, right: Right) -> Matrix:
    """Computes `sum |x_i - y_j|` over the features for all pairs, in O(m d) memory."""
    right = as_float32(right)
    row = jax.checkpoint(lambda x: jnp.sum(absolute(x[None, :] - right), axis=-1))
    return lax.map(row, as_float32(left))


def euclidean(left: Left, right: Right) -> Matrix:
    """Computes `-|x_i - y_j|` for all pairs."""
    return -euclidean_distance(left, right)


def manhattan(left: Left, right: Right) -> Matrix:
    """Computes `-sum |x_i - y_j|` for all pairs."""
    return -manhattan_distance(left, right)


def factored(similarity_fn: SimilarityFn) -> tuple[Callable[[Array], Array], SimilarityFn]:
    """Splits a similarity into what is done to each side alone, once, and what is done to pairs.

    >>> factored(cosine) == (unit, dot)
    True
    """
    if similarity_fn is cosine:
        return unit, dot
    if similarity_fn is clamped_cosine:
        return clamped_unit, dot
    return as_float32, similarity_fn


# Row by row --------------------------------------------------------------------------------------


def paired_dot(left: Vectors, right: Vectors) -> Pairs:
    """Computes `<x_i, y_i>`."""
    left, right = as_float32(left), as_float32(right)
    if left.shape == right.shape:
        return jnp.sum(left * right, axis=-1)
    return jnp.vecdot(left, right, precision=lax.Precision.HIGHEST)  # one vector with several


def paired_cosine(left: Vectors, right: Vectors) -> Pairs:
    """Computes `<x_i, y_i> / (|x_i| |y_i|)`, as `cosine` does for all pairs."""
    return paired_dot(left, right) / _divisor(left) / _divisor(right)


def paired_clamped_cosine(left: Vectors, right: Vectors) -> Pairs:
    """Computes the cosine with norms clamped at 1e-8 outside the gradient (`clamped_unit`)."""
    return paired_dot(left, right) / _clamped_divisor(left) / _clamped_divisor(right)


def _divisor(x: Vectors, epsilon: float = 1e-12) -> Pairs:
    """What `unit` divides by; infinite for the zero vector, so that all is 0 there."""
    length = norm(x)
    return jnp.where(length == 0, jnp.inf, jnp.maximum(length, epsilon))


def _clamped_divisor(x: Vectors, epsilon: float = 1e-8) -> Pairs:
    """What `clamped_unit` divides by; infinite for the zero vector."""
    length = norm(x)
    return jnp.where(length == 0, jnp.inf, _clamped(length, epsilon))


def paired_angle(left: Vectors, right: Vectors) -> Pairs:
    """Computes `|Re(z) + Im(z)|` of the complex product `z` of the unit vectors, halves as parts.

    The first half of the features is the real part, the second the imaginary part (an odd width is
    padded by one zero): with `x = a + ib` and `y = c + id`, `|<a, c> + <b, d> + <b, c> - <a, d>|`.
    It lies in `[0, √2]` and is not symmetric. Slope 0 at 0.

    Source: Li and Li, AnglE-optimized Text Embeddings, 2023.
    """
    half = -(-left.shape[-1] // 2)

    def parts(x):
        x = as_float32(x)
        missing = [(0, 0)] * (x.ndim - 1) + [(0, 2 * half - x.shape[-1])]
        x = jnp.pad(x, missing)
        return x[..., :half], x[..., half:]

    (a, b), (c, d) = parts(left), parts(right)
    left_parts = jnp.concatenate([a, b], axis=-1)
    products = paired_dot(left_parts, jnp.concatenate([c - d, c + d], axis=-1))
    return absolute(products / _divisor(left) / _divisor(right))


def paired_cosine_distance(left: Vectors, right: Vectors) -> Pairs:
    """Computes `1 - cosine`, with the clamped cosine. Rounding may give a value just below 0."""
    return 1 - paired_clamped_cosine(left, right)


def paired_dot_distance(left: Vectors, right: Vectors) -> Pairs:
    """Computes `-<x_i, y_i>`."""
    return -paired_dot(left, right)


def paired_euclidean_distance(left: Vectors, right: Vectors, epsilon: Scalar = 0.0) -> Pairs:
    """Computes `|x_i - y_i + epsilon|`; where that vector is zero, value and gradient are 0.

    PyTorch's `pairwise_distance` adds 1e-6 to every coordinate of the difference.
    """
    return norm(as_float32(left) - as_float32(right) + epsilon)


def paired_manhattan_distance(left: Vectors, right: Vectors, epsilon: Scalar = 0.0) -> Pairs:
    """Computes `sum |x_i - y_i + epsilon|` over the features."""
    return jnp.sum(absolute(as_float32(left) - as_float32(right) + epsilon), axis=-1)


def paired_euclidean(left: Vectors, right: Vectors) -> Pairs:
    """Computes `-|x_i - y_i|`."""
    return -paired_euclidean_distance(left, right)


def paired_manhattan(left: Vectors, right: Vectors) -> Pairs:
    """Computes `-sum |x_i - y_i|` over the features."""
    return -paired_manhattan_distance(left, right)
