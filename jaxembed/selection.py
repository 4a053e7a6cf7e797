"""Sorting and picking the greatest, where the ready-made functions are slow on CPUs."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

GROUPS = 32  # of entries that are counted in a byte: less than 128


def first_max(
    values: Float[Array, "n m"], where: Bool[Array, "#n #m"] | None = None
) -> Float[Array, " n"]:
    """Takes the greatest real entry of each row; the first of equals gets the gradient.

    `jnp.max` would split it among them, and `jnp.argmax` is slow on CPUs.

    >>> first_max(jnp.array([[1.0, 3.0, 3.0], [5.0, 2.0, 4.0]]))
    Array([3., 5.], dtype=float32)
    """
    constant = lax.stop_gradient(values)
    if where is not None:
        constant = jnp.where(where, constant, -jnp.inf)
    greatest = jnp.max(constant, axis=1, keepdims=True)
    columns = lax.broadcasted_iota(jnp.int32, values.shape, 1)
    first = jnp.min(jnp.where(constant == greatest, columns, values.shape[1]), axis=1)
    # A sum over one entry: its gradient is a `where`, that of an index a slower scatter.
    chosen = jnp.sum(jnp.where(columns == first[:, None], values, 0), axis=1)
    return jnp.where(jnp.isnan(greatest[:, 0]), greatest[:, 0], chosen)


def sort(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """Sorts numbers as `jnp.sort` does, by their bits: CPUs compare integers faster.

    >>> sort(jnp.array([0.5, -2.0, jnp.inf, -0.25]))
    Array([-2.  , -0.25,  0.5 ,   inf], dtype=float32)
    """
    return lax.bitcast_convert_type(_flip(jnp.sort(_ordered_bits(x))), x.dtype)


def among_greatest(x: Float[Array, "n m"], k: int) -> Bool[Array, "n m"]:
    """Says which entries of each row are no smaller than the k-th greatest; NaN is the greatest.

    More than k entries of a row are, where several equal the k-th.

    >>> among_greatest(jnp.array([[0.1, 0.7, -2.0, 0.7, 0.9]]), 2)
    Array([[False,  True, False,  True,  True]], dtype=bool)
    """
    bits = _ordered_bits(_nan_as_inf(x))
    return bits >= _kth_greatest(bits, k)


def greatest(x: Float[Array, "n m"], k: int) -> Bool[Array, "n m"]:
    """Says which entries of each row are the k greatest, the first of equals; NaN is the greatest.

    >>> greatest(jnp.array([[0.1, 0.7, -2.0, 0.7, 0.9]]), 2)
    Array([[False,  True, False, False,  True]], dtype=bool)
    """
    bits = _ordered_bits(_nan_as_inf(x))
    kth = _kth_greatest(bits, k)
    chosen = bits >= kth

    def first_of_equals():
        above, m = bits > kth, x.shape[1]
        room = k - jnp.sum(above, axis=1, dtype=jnp.int32)
        from_the_end = m - lax.broadcasted_iota(jnp.int32, x.shape, 1)
        place = jnp.where(bits == kth, from_the_end, 0)
        return above | (place >= _kth_greatest(place, room, range(m + 2)))

    too_many = jnp.any(jnp.sum(chosen, axis=1) > k)  # rare, and takes longer
    return lax.cond(too_many, first_of_equals, lambda: chosen)


def _kth_greatest(
    x: Int[Array, "n m"], k: int | Int[Array, " n"], within: range | None = None
) -> Int[Array, "n 1"]:
    """Returns the k-th greatest integer of each row; all are `within` a range and below its last.

    Halves the range until one is left: `lax.top_k` is slow in long rows on CPUs.
    """
    limits = jnp.iinfo(x.dtype)
    least, most = (within[0], within[-1]) if within else (limits.min, limits.max)
    padding = -x.shape[1] % GROUPS
    padded = jnp.pad(x, ((0, 0), (0, padding)), constant_values=limits.min)
    groups = padded.reshape(x.shape[0], GROUPS, -1)

    def count(least):  # first in bytes, of which CPUs add many at once
        by_group = jnp.sum(groups >= least[:, None, None], axis=1, dtype=jnp.int8)
        return jnp.sum(by_group, axis=1, dtype=jnp.int32)

    def halve(_, bounds):
        low, high = bounds  # k entries or more are at least low; fewer are at least high
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, without overflow
        enough = count(middle) >= k
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    bounds = [jnp.full_like(x[:, 0], bound) for bound in (least, most)]
    low, _ = lax.fori_loop(0, (most - least).bit_length(), halve, tuple(bounds))
    return low[:, None]


def _nan_as_inf(x: Array) -> Array:
    return jnp.where(jnp.isnan(x), jnp.inf, x)


def _ordered_bits(x: Array) -> Array:
    """The bits of 32- or 64-bit floats, as integers that are in the order of the floats."""
    return _flip(lax.bitcast_convert_type(x, jnp.int64 if x.dtype == jnp.float64 else jnp.int32))


def _flip(bits: Array) -> Array:
    """Turns the order of the numbers below 0 round; twice is the identity."""
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)
