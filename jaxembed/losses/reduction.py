"""From one value per row to the loss: the reductions over the rows that are real."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from jaxembed.typing import ReduceFn, Where

Entries = Float[Array, "*rows"]
Columns = Float[Array, "n *columns"]
Real = Bool[Array, "*rows"]


def mean(values: Entries, where: Real | None = None) -> Array:
    """Computes the mean over the rows where `where` is True; 0 if there is none.

    >>> mean(jnp.array([1.0, 3.0, 8.0]), jnp.array([True, True, False]))
    Array(2., dtype=float32)
    """
    if where is None:
        return jnp.sum(values) / max(values.size, 1)
    return total(values, where) / jnp.maximum(jnp.sum(where, dtype=values.dtype), 1)


def total(values: Entries, where: Real | None = None) -> Array:
    """Computes the sum over the rows where `where` is True."""
    return jnp.sum(values, where=where)


def reduce(values: Columns, where: Where | None, reduce_fn: ReduceFn | None) -> Array:
    """Applies `reduce_fn`, or returns one value per row, 0 for masked rows, where it is None."""
    if where is not None:
        real = jnp.expand_dims(where, tuple(range(1, values.ndim)))
        values = jnp.where(real, values, 0)
    return values if reduce_fn is None else reduce_fn(values, where)
