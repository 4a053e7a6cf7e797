"""A loss over blocks of rows: values and, given the weights of the rows, gradients in one pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxembed.losses.across import Across
from jaxembed.losses.over_candidates import OverCandidates


class Inputs(NamedTuple):
    """What a loss is computed of: trees of arrays with leading n and leading m, and numbers."""

    rows: Any
    candidates: Any
    numbers: tuple[Any, ...]


class Loss(NamedTuple):
    """A loss by its two functions."""

    parts: Callable[..., Sequence[OverCandidates]]  # of rows, candidates, *numbers
    values: Callable[..., Array]  # of a list with the [n] of each part, *numbers

    def compare(self, floats: Inputs, constants: Inputs) -> tuple[OverCandidates, ...]:
        """Compares rows with candidates."""
        rows, candidates, numbers = join(floats, constants)
        return tuple(self.parts(rows, candidates, *numbers))

    def conclude(self, of_parts: Sequence[Array], floats: Inputs, constants: Inputs) -> Array:
        """Returns the value of each row."""
        return self.values(of_parts, *join(floats, constants).numbers)


def past_the_candidates(
    loss: Loss, inputs: Inputs, weights: Array | None = None, *, across: Across, block_size: int
) -> tuple[Array, Inputs | None]:
    """Takes the rows of all devices, block by block, past the candidates of each.

    Returns this device's values `[n]` and, where the weights of its rows are given, the gradients
    of the weighted sum over the rows of all devices.
    """
    n = jax.tree.leaves(inputs.rows)[0].shape[0]
    blocks = into_blocks((inputs.rows, weights), max(block_size // across.size, 1))
    floats, constants = variables(inputs._replace(rows=None))

    def step(sums: Inputs | None, block: Any) -> tuple[Inputs | None, tuple[Array, Any]]:
        rows, weights = across.gather(block)
        row_floats, row_constants = variables(rows)
        own_floats = floats._replace(rows=row_floats)
        own_constants = constants._replace(rows=row_constants)
        parts, pull = jax.vjp(lambda floats: loss.compare(floats, own_constants), own_floats)
        statistics: list[Any] = [across.vary(part.statistics(across)) for part in parts]
        of_parts = [known.value() for known in statistics]
        values, pull_values = jax.vjp(
            lambda of_parts, floats: loss.conclude(of_parts, floats, own_constants),
            of_parts,
            own_floats._replace(rows=None, candidates=None),
        )
        if weights is None:
            return None, (across.mine(values), None)
        cotangents, concluding = pull_values(weights)
        zipped = zip(parts, statistics, cotangents, strict=True)
        (gradients,) = pull(tuple(part.gradient(s, c) for part, s, c in zipped))
        # Every device concludes for all rows, but its numbers count once.
        once = jax.tree.map(lambda x: x / across.size, concluding.numbers)
        numbers = add(gradients.numbers, once)
        sums = add(sums, gradients._replace(rows=None, numbers=numbers))
        return sums, (across.mine(values), across.scatter(gradients.rows))

    start = None if weights is None else across.vary(zeros_like(floats))
    sums, (values, of_rows) = lax.scan(step, start, blocks)
    values, of_rows = out_of_blocks((values, of_rows), n)
    return values, None if sums is None else sums._replace(rows=of_rows)


def into_blocks(rows: Any, size: int) -> Any:
    """Cuts the leading axis into equal blocks of at most `size`, filled up with zeros."""
    n = jax.tree.leaves(rows)[0].shape[0]
    count = max(-(-n // size), 1)
    size = -(-n // count)

    def one(x):
        padding = [(0, count * size - n)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding).reshape(count, size, *x.shape[1:])

    return jax.tree.map(one, rows)


def out_of_blocks(blocks: Any, n: int) -> Any:
    """Joins blocks, without what they were filled up with."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], blocks)


# Trees with holes --------------------------------------------------------------------------------


class Constant(NamedTuple):
    """Arrays of which no gradient is wanted, though they hold floats."""

    value: Any


def is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray)


def divide(tree: Any, chosen: Callable[[Any], bool], whole: type | None = None) -> tuple[Any, Any]:
    """Returns the tree with the chosen leaves alone and with the others alone, None elsewhere.

    What is `whole` counts as one leaf.
    """
    is_leaf = None if whole is None else lambda x: isinstance(x, whole)
    return (
        jax.tree.map(lambda x: x if chosen(x) else None, tree, is_leaf=is_leaf),
        jax.tree.map(lambda x: None if chosen(x) else x, tree, is_leaf=is_leaf),
    )


def variables(tree: Any) -> tuple[Any, Any]:
    """Divides into what is differentiated and what is constant."""
    is_variable = lambda x: is_array(x) and jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
    return divide(tree, is_variable, whole=Constant)


def join(left: Any, right: Any) -> Any:
    """Puts together again what `divide` divided."""
    missing = lambda x: x is None  # noqa: E731
    return jax.tree.map(lambda x, y: y if x is None else x, left, right, is_leaf=missing)


def add(left: Any, right: Any) -> Any:
    return jax.tree.map(jnp.add, left, right)


def zeros_like(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)


def inner(gradients: Any, tangents: Any) -> Array | float:
    """Sums the products of all gradients with their tangents."""
    missing = lambda x: x is None  # noqa: E731
    products = jax.tree.map(
        lambda g, t: None if g is None else jnp.sum(g * t), gradients, tangents, is_leaf=missing
    )
    return functools.reduce(jnp.add, jax.tree.leaves(products), 0.0)
