"""All that a training run changes from step to step, as one pytree."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from jaxembed.training.sharding import replicated
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
) -> TrainState:
    """Creates the state of step 0 on the mesh, from copies: the caller's arrays stay valid."""

    @jax.jit(out_shardings=replicated(mesh))
    def create(params: Params, carried: Params | None, frozen: Params | None) -> TrainState:
        params, carried, frozen = jax.tree.map(jnp.copy, (params, carried, frozen))
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), carried, frozen)

    return create(params, carried, frozen)
