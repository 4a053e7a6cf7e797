"""The loss of a training on batches that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from jaxembed.training.sharding import batch_sharding, replicated
from jaxembed.training.state import TrainState
from jaxembed.typing import Batch, ObjectiveFn

LossFn = Callable[[TrainState, Batch], tuple[Array, Array]]


def build_loss(objective: ObjectiveFn, mesh: Mesh) -> LossFn:
    """Builds `loss(state, batch) -> (loss, rows)`, compiled for the mesh.

    The objective gets no key, so that it draws no dropout. `rows` is the number of real rows of the
    batch, the weight of its loss in a mean over batches. State and batch lie as `build_train_step`
    wants them; the state is not donated.
    """

    def loss(state: TrainState, batch: Batch) -> tuple[Array, Array]:
        value, _ = objective(
            state.params, batch, key=None, frozen=state.frozen, carried=state.carried
        )
        return value, jnp.sum(batch["where"])

    return jax.jit(loss, in_shardings=(None, batch_sharding(mesh)), out_shardings=replicated(mesh))
