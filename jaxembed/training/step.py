"""The training step: the only place where a step is compiled, sharded and its state donated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import optax
from jax import Array
from jax.sharding import Mesh

from jaxembed.training.sharding import batch_sharding, replicated
from jaxembed.training.state import TrainState
from jaxembed.typing import Batch, ObjectiveFn

StepFn = Callable[[TrainState, Batch, Array | None], tuple[TrainState, dict[str, Array]]]


def build_train_step(
    objective: ObjectiveFn,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    mesh: Mesh,
) -> StepFn:
    """Builds `step(state, batch, root_key) -> (state, metrics)`, compiled for the mesh.

    The batch is sharded by rows over `data`, so its size must be a multiple of the devices. The key
    of a step is folded from the root, so that a resumed run needs no more than the step; without a
    root key the objective is deterministic. The state that goes in is donated.

    Metrics are `loss`, `grad_norm` (before clipping), `learning_rate` and the objective's own.
    """

    def step(
        state: TrainState, batch: Batch, root_key: Array | None
    ) -> tuple[TrainState, dict[str, Array]]:
        key = None if root_key is None else jax.random.fold_in(root_key, state.step)

        def scalar(params):
            return objective(params, batch, key=key, frozen=state.frozen, carried=state.carried)

        gradient_fn = jax.value_and_grad(scalar, has_aux=True)
        (loss, (metrics, carried)), gradients = gradient_fn(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(gradients),
            "learning_rate": schedule(state.step),
            **metrics,
        }
        params = optax.apply_updates(state.params, updates)
        new_state = replace(
            state, step=state.step + 1, params=params, opt_state=opt_state, carried=carried
        )
        return new_state, metrics

    everywhere = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, batch_sharding(mesh), everywhere),
        out_shardings=(everywhere, everywhere),
        donate_argnums=0,
    )
