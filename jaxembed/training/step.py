"""The training step: the only place where a step is compiled, sharded and its state donated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from jaxembed.training.sharding import (
    TensorAxis,
    batch_sharding,
    no_tensor_axis,
    replicated,
    row_parts,
    state_shardings,
)
from jaxembed.training.state import TrainState
from jaxembed.typing import SAMPLE, Batch, ObjectiveFn

StepFn = Callable[[TrainState, Batch, Array | None], tuple[TrainState, dict[str, Any]]]


def build_train_step(
    objective: ObjectiveFn,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    mesh: Mesh,
    *,
    tensor_axis: TensorAxis = no_tensor_axis,
    accumulation_steps: int = 1,
) -> StepFn:
    """Builds `step(state, batch, root_key) -> (state, metrics)`, compiled for the mesh.

    The batch is spread by rows, so its size must be a multiple of the devices along `data` and
    `fsdp`; the state lies as `create_state` puts it, with the same `tensor_axis`. The key of a step
    is folded from the root, so that a resumed run needs no more than the step; without a root key
    the objective is deterministic. The state that goes in is donated.

    With `accumulation_steps` the gradient is the sum of those of so many parts of the batch, one
    after the other, each with its share of the real rows. That is the gradient of the whole batch
    only for a loss that is a mean over rows of what depends on the row alone; dropout draws anew.

    Where the loss or a gradient is not finite, the step leaves parameters and optimizer as they
    were; it counts as a step all the same, so that the next one has other rows and draws.

    The optimizer also gets the norm of the gradients, as `grad_norm`.

    Metrics are `loss`, `grad_norm` (before clipping), `learning_rate`, `skipped` (1 or 0) and the
    objective's own, as they are: with a `sample` also the arrays of that.
    """

    optimizer = optax.with_extra_args_support(optimizer)

    def step(
        state: TrainState, batch: Batch, root_key: Array | None
    ) -> tuple[TrainState, dict[str, Any]]:
        key = None if root_key is None else jax.random.fold_in(root_key, state.step)

        def scalar(params, batch, key):
            return objective(params, batch, key=key, frozen=state.frozen, carried=state.carried)

        gradient_fn = jax.value_and_grad(scalar, has_aux=True)
        if accumulation_steps > 1:
            gradient_fn = accumulated(gradient_fn, accumulation_steps, row_parts(mesh))
        (loss, (metrics, carried)), gradients = gradient_fn(state.params, batch, key)
        gradients = stay(gradients)
        grad_norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        metrics = {
            "loss": loss,
            "grad_norm": grad_norm,
            "learning_rate": schedule(state.step),
            "skipped": 1 - finite.astype(jnp.float32),
            **metrics,
        }

        def updated() -> TrainState:
            updates, opt_state = optimizer.update(
                gradients, state.opt_state, state.params, grad_norm=grad_norm
            )
            params = optax.apply_updates(state.params, updates)
            return replace(state, params=params, opt_state=opt_state, carried=carried)

        new_state = updated_if(finite, updated, state, mesh.devices.flat[0].platform)
        return stay(replace(new_state, step=state.step + 1)), metrics

    def stay(tree: Any) -> Any:
        """Keeps parameters, or what belongs to them, where they lie."""
        shardings = state_shardings(tree, mesh, tensor_axis)
        return jax.lax.with_sharding_constraint(tree, shardings)

    everywhere = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(None, batch_sharding(mesh), everywhere),
        out_shardings=(None, everywhere),
        donate_argnums=0,
    )


def updated_if(
    condition: Array, updated: Callable[[], TrainState], state: TrainState, platform: str
) -> TrainState:
    """Computes `updated()` in the place of the state if the condition holds, or leaves that."""
    if platform == "gpu":  # a branch there would wait for the host
        return jax.tree.map(lambda new, old: jnp.where(condition, new, old), updated(), state)
    # To XLA, parts of a selected state might be written before others are computed from the old
    # ones: it would copy the moments first.
    return jax.lax.cond(condition, updated, lambda: state)


def accumulated(gradient_fn: Callable[..., Any], steps: int, devices: int) -> Callable[..., Any]:
    """Returns the mean of `gradient_fn` over `steps` parts of a batch, by their real rows.

    Raises:
        ValueError: when called, a batch that the parts and devices cannot share evenly, or whose
            columns are in blocks.
    """

    def split(x: Array) -> Array:  # [n, …] -> [steps, rows, …], each part with rows of all devices
        if len(x) % (steps * devices):
            raise ValueError(
                f"{len(x)} rows cannot be shared evenly by {devices} devices in {steps} steps of"
                " accumulation; choose another batch_size"
            )
        return x.reshape(-1, steps, *x.shape[1:]).swapaxes(0, 1)

    def mean_of_parts(params: Any, batch: Batch, key: Array | None) -> Any:
        columns = [column for column in batch.values() if isinstance(column, dict)]
        if "where" not in batch or any("blocks" in column for column in columns):
            raise ValueError("accumulation takes one task whose columns are in one piece each")
        parts = jax.tree.map(split, dict(batch))
        real = jnp.maximum(jnp.sum(batch["where"]), 1)

        def weighted(numbered: tuple[Array, Any]) -> tuple[Any, Any]:
            number, part = numbered
            its_key = None if key is None else jax.random.fold_in(key, number)
            weight = jnp.sum(part["where"]) / real
            (loss, (metrics, carried)), gradients = gradient_fn(params, part, its_key)
            sample = metrics.pop(SAMPLE, None)
            result = (loss, (metrics, carried)), gradients
            return jax.tree.map(lambda x: x * weight, result), sample

        def add(sums: Any, numbered: tuple[Array, Any]) -> tuple[Any, Any]:
            result, sample = weighted(numbered)
            return jax.tree.map(jnp.add, sums, result), sample

        numbered = jnp.arange(steps), parts
        shapes, _ = jax.eval_shape(weighted, jax.tree.map(lambda x: x[0], numbered))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        result, samples = jax.lax.scan(add, zeros, numbered)
        (loss, (metrics, carried)), gradients = result
        if samples is not None:  # that of the first part
            metrics[SAMPLE] = jax.tree.map(lambda x: x[0], samples)
        return (loss, (metrics, carried)), gradients

    return mean_of_parts
