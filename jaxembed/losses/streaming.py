"""Losses over all candidates in bounded memory: rows in blocks, on one device or on many.

A loss states what it takes over the candidates (`parts`), and from that its value per row
(`values`). It is a sum over rows, so the gradients of a block of rows are taken while its entries
are there: one pass, nothing recomputed, nothing kept. Memory is O(block m), the matrix products are
those of the plain loss.

Over the devices of a mesh, inside `jax.shard_map`, candidates stay and rows come by: a block of
rows is gathered from all devices, each compares it with its own candidates, and the gradients of
the rows go home. With a `Ring` it is the candidates that travel (`jaxembed.losses.ring`).

Derivatives in the forward direction are inner products with the gradients. Second derivatives go
through the loop and keep O(n m).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxembed.losses.across import across_of
from jaxembed.losses.blocks import Inputs, Loss, divide, inner, is_array, join, past_the_candidates
from jaxembed.losses.over_candidates import OverCandidates
from jaxembed.losses.reduction import mean, reduce, total
from jaxembed.losses.ring import round_the_ring
from jaxembed.mesh_axes import Axis, Ring
from jaxembed.typing import ReduceFn, Where


def reduce_over_candidates(
    parts: Callable[..., Sequence[OverCandidates]],
    values: Callable[..., Array],
    rows: Any,
    candidates: Any,
    numbers: Sequence[Any] = (),
    *,
    where: Where | None,
    reduce_fn: ReduceFn | Callable[..., Array] | None,
    reduce_numbers: Sequence[Any] = (),
    block_size: int | None = None,
    axis_name: Axis | None = None,
) -> Array:
    """Computes a loss whose value per row is a function of the row and all candidates.

    Args:
        parts: from rows, candidates and `*numbers` to what is taken over the candidates.
        values: from a list of what these give, `[n]` each, and `*numbers` to one value per row.
        rows, candidates: trees of arrays with leading n and m; those of this device.
        numbers: what belongs to no row. The functions must not close over differentiated arrays.
        reduce_fn: with blocks any but `mean` and `total` costs a second pass, since the weight of a
            row is not known before its value. Like the others it must not close over differentiated
            arrays: those go in `reduce_numbers`, its further arguments.
        block_size: how many rows are compared with all candidates at once; None: all.
        axis_name: the mesh axis over which rows and candidates are spread, or a `Ring`.

    Raises:
        ValueError: a block size that is no positive integer, or values per row asked for in blocks.
    """
    if block_size is None and axis_name is None:
        of_parts = [part.of_all() for part in parts(rows, candidates, *numbers)]
        whole = reduce_fn and functools.partial(_with_numbers, reduce_fn, reduce_numbers)
        return reduce(values(of_parts, *numbers), where, whole)
    if block_size is not None and (not isinstance(block_size, int) or block_size < 1):
        raise ValueError(f"block_size must be a positive integer or None; got {block_size!r}")
    if reduce_fn is None:
        raise ValueError(
            "reduce_fn=None needs all rows at once: in blocks only the gradient of one number is"
            " kept; leave out block_size and axis_name, or reduce to a number"
        )
    across = across_of(axis_name)
    inputs = Inputs(rows, candidates, tuple(numbers))
    arrays, rest = divide((inputs, tuple(reduce_numbers)), is_array)
    strategy = round_the_ring if isinstance(axis_name, Ring) else past_the_candidates
    run = functools.partial(
        strategy,
        Loss(parts, values),
        across=across,
        block_size=block_size or jax.tree.leaves(rows)[0].shape[0] * across.size,
    )

    def reduced(values, numbers, where):
        """Reduces the values of all devices."""
        numbers = join(numbers, rest[1])
        whole = functools.partial(_with_numbers, reduce_fn, numbers)
        return reduce(values, across.gather(where), whole)

    @in_one_piece
    def run_whole(arrays, weights):
        return run(join(arrays, rest[0]), weights)

    @jax.custom_jvp
    def streamed(arrays, where):
        values, _ = run(join(arrays[0], rest[0]))
        return across.agree(reduced(across.gather(values), arrays[1], where))

    @streamed.defjvp
    def with_gradients(primals, tangents):
        (arrays, where), (tangent, _) = primals, tangents
        inputs = join(arrays[0], rest[0])
        if reduce_fn in (mean, total):  # a row weighs the same whatever the values are
            shapes = jax.eval_shape(run, inputs)[0]
            at = across.vary(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
        else:
            at, _ = run(inputs)
        slopes = jax.grad(reduced, argnums=(0, 1))
        weights, of_numbers = slopes(across.gather(at), arrays[1], where)
        values, gradients = run_whole(arrays[0], across.mine(weights))
        value = across.agree(reduced(across.gather(values), arrays[1], where))
        of_numbers = across.agree(inner(of_numbers, tangent[1]))
        return value, across.total(inner(gradients, tangent[0])) + of_numbers

    return streamed(across.vary(arrays), where)


def _with_numbers(reduce_fn: Callable[..., Array], numbers: Sequence[Any], *values: Any) -> Array:
    return reduce_fn(*values, *numbers)


def in_one_piece(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps reverse-mode differentiation from taking a function of constants apart.

    It would move what is constant in a loop in front of it, such as matrices of `-inf` as large as
    a block.
    """
    whole = jax.custom_jvp(function)
    whole.defjvp(lambda primals, tangents: jax.jvp(function, primals, tangents))
    return whole
