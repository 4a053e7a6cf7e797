"""All that a training run changes from step to step, as one pytree."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from jaxembed.training.sharding import TensorAxis, no_tensor_axis, place, state_shardings
from jaxembed.typing import Params


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Steps done, parameters that learn, values carried without gradient, frozen networks."""

    step: Array
    params: Params
    opt_state: optax.OptState
    carried: Params | None = None
    frozen: Params | None = None


def create_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    carried: Params | None = None,
    frozen: Params | None = None,
    tensor_axis: TensorAxis = no_tensor_axis,
) -> TrainState:
    """Creates the state of step 0 on the mesh, from copies: the caller's arrays stay valid.

    Every device gets its part of the parameters, as `state_shardings` says, and makes its part of
    the optimizer's state.
    """

    given = params, carried, frozen
    options = {"carried": carried, "frozen": frozen, "tensor_axis": tensor_axis}
    shapes = abstract_state(params, optimizer, mesh, **options)
    placed = place(given, state_shardings(given, mesh, tensor_axis))

    def create(*given: Params) -> TrainState:
        params, carried, frozen = jax.tree.map(jnp.copy, given)
        return _first_state(params, carried, frozen, optimizer)

    shardings = jax.tree.map(lambda leaf: leaf.sharding, shapes)
    return jax.jit(create, out_shardings=shardings)(*placed)


def abstract_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    carried: Params | None = None,
    frozen: Params | None = None,
    tensor_axis: TensorAxis = no_tensor_axis,
) -> TrainState:
    """Returns the shapes and places of what `create_state` creates, without creating it."""
    shapes = jax.eval_shape(partial(_first_state, optimizer=optimizer), params, carried, frozen)
    shardings = state_shardings(shapes, mesh, tensor_axis)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def _first_state(
    params: Params, carried: Params, frozen: Params, optimizer: optax.GradientTransformation
) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), carried, frozen)
