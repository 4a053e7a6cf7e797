"""A loss over a ring of devices: rows stay, candidates travel from device to device.

Two trips: the first gathers what is taken over the candidates, the second the gradients, of which
those of the candidates travel with them. So all entries are computed twice: 8/6 of the work of
`past_the_candidates`, with one message to a neighbour per device and trip.

Source: Liu et al., Ring Attention with Blockwise Transformers for Near-Infinite Context, 2023.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import Array, lax

from jaxembed.losses.across import Alone, Devices
from jaxembed.losses.blocks import (
    Inputs,
    Loss,
    add,
    into_blocks,
    out_of_blocks,
    variables,
    zeros_like,
)


def round_the_ring(
    loss: Loss, inputs: Inputs, weights: Array | None = None, *, across: Devices, block_size: int
) -> tuple[Array, Inputs | None]:
    """Computes what `past_the_candidates` computes, with candidates that travel.

    `block_size` of this device's rows are compared at once with the candidates of one device.
    """
    n = jax.tree.leaves(inputs.rows)[0].shape[0]
    blocks = into_blocks(inputs.rows, block_size)

    def known_from(candidates: Any) -> Any:
        def of_block(rows):
            parts = loss.parts(rows, candidates, *inputs.numbers)
            return tuple(part.statistics(Alone()) for part in parts)

        return lax.map(of_block, blocks)

    def first_trip(carry: Any, _: None) -> Any:
        known, candidates = carry
        more = known_from(candidates)
        known = tuple(old.merge(new) for old, new in zip(known, more, strict=True))
        return (known, across.onward(candidates)), None

    known = known_from(inputs.candidates)
    start = known, across.onward(inputs.candidates)
    (known, candidates), _ = lax.scan(first_trip, start, length=across.size - 1)

    floats, constants = variables(inputs)
    of_parts = [x.value() for x in out_of_blocks(known, n)]
    values, pull_values = jax.vjp(
        lambda of_parts, numbers: loss.conclude(
            of_parts, floats._replace(numbers=numbers), constants
        ),
        of_parts,
        floats.numbers,
    )
    if weights is None:
        return values, None
    cotangents, of_numbers = pull_values(weights)
    row_floats, row_constants = variables(blocks)
    block_data = row_floats, row_constants, known, into_blocks(cotangents, block_size)

    def second_trip(carry: Any, _: None) -> Any:
        gradients, candidates = carry
        candidate_floats, candidate_constants = variables(candidates)

        def of_block(sums: Inputs, block: Any) -> tuple[Inputs, Any]:
            row_floats, row_constants, known, cotangents = block
            own = Inputs(row_floats, candidate_floats, floats.numbers)
            fixed = Inputs(row_constants, candidate_constants, constants.numbers)
            parts, pull = jax.vjp(lambda own: loss.compare(own, fixed), own)
            zipped = zip(parts, known, cotangents, strict=True)
            (more,) = pull(tuple(part.gradient(x, c) for part, x, c in zipped))
            return add(sums, more._replace(rows=None)), more.rows

        sums, of_rows = lax.scan(of_block, gradients._replace(rows=None), block_data)
        gradients = Inputs(
            add(gradients.rows, of_rows), across.onward(sums.candidates), sums.numbers
        )
        return (gradients, across.onward(candidates)), None

    zeros = zeros_like(Inputs(row_floats, floats.candidates, floats.numbers))
    start = across.vary(zeros._replace(numbers=of_numbers)), candidates
    (gradients, _), _ = lax.scan(second_trip, start, length=across.size)
    return values, gradients._replace(rows=out_of_blocks(gradients.rows, n))
