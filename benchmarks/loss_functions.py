"""The workloads as functions of JAX: value and gradient, ready to be compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from loss_workloads import Workload

from jaxembed import late_interaction, losses, similarity
from jaxembed.losses import reranking

Inputs = tuple[dict[str, Any], dict[str, Any]]  # what is differentiated, and what is not


def compile_value_and_gradient(workload: Workload, dtype: str = "float32") -> Any:
    """Compiles value and gradient from shapes alone; takes the two dictionaries of `inputs`."""
    shapes = {
        name: jax.ShapeDtypeStruct(drawn.shape, dtype_of(workload, name, dtype))
        for name, drawn in workload.drawn.items()
    }
    function = jax.jit(jax.value_and_grad(loss_function(workload)))
    return function.lower(*split(workload, shapes)).compile()


def inputs(workload: Workload, dtype: str = "float32") -> Inputs:
    """Draws the arrays and puts them on the device."""
    arrays: dict[str, Any] = workload.arrays()
    for name in arrays:  # one by one, so that no two copies of all are alive
        array = jnp.asarray(arrays[name], dtype_of(workload, name, dtype))
        arrays[name] = array.block_until_ready()
    return split(workload, arrays)


def dtype_of(workload: Workload, name: str, dtype: str) -> str:
    """What is differentiated has the given one."""
    return workload.drawn[name].dtype if name in workload.keywords else dtype


def split(workload: Workload, arrays: Mapping[str, Any]) -> Inputs:
    """Parts the arrays into those that are differentiated and the others."""
    keywords = {name: arrays[name] for name in workload.keywords}
    return {name: arrays[name] for name in arrays if name not in keywords}, keywords


def loss_function(workload: Workload) -> Callable[[Any, Any], Array]:
    """Makes one function of the two dictionaries of the workload."""
    settings = {name: _setting(name, value) for name, value in workload.settings.items()}
    path = workload.loss
    loss: Any = COMPOSED.get(path) or reduce(getattr, path.split("."), losses)

    def compute(differentiated: dict[str, Array], keywords: dict[str, Array]) -> Array:
        embeddings = [differentiated[name] for name in workload.embeddings]
        parameters = {name: differentiated[name] for name in workload.parameters}
        return loss(*embeddings, **parameters, **keywords, **settings)

    return compute


def losses_without_workload(table: list[Workload]) -> list[str]:
    """Names the public losses that no row of the table computes."""
    public = [*dir(losses), *(f"reranking.{name}" for name in dir(reranking))]
    computed = {row.loss for row in table}
    return [name for name in public if name.endswith("_loss") and name not in computed]


def _setting(name: str, value: Any) -> Any:
    """Looks a function up by its name, in settings that are functions."""
    if not name.endswith("_fn"):
        return value
    function, keywords = (value, {}) if isinstance(value, str) else value
    modules = (similarity, late_interaction, losses)
    found = next(getattr(m, function) for m in modules if hasattr(m, function))
    return partial(found, **{key: _setting(key, inner) for key, inner in keywords.items()})


def _classified_pairs(
    left: Array, right: Array, *, weight: Array, bias: Array, labels: Array
) -> Array:
    logits = losses.pair_features(left, right) @ weight.T + bias
    return losses.softmax_loss(logits, labels=labels)


def _scaled_tension(first: Array, second: Array, *, logit_scale: Array) -> Array:
    return losses.contrastive_tension_in_batch_negatives_loss(
        first, second, scale=jnp.exp(logit_scale)
    )


def _sparse_coded(
    loss: str,
    *embeddings: Array,
    last_nonzero: Array,
    weight: Array,
    pre_bias: Array,
    latent_bias: Array,
    k: int,
    k_aux: int,
    **settings: Any,
) -> Array:
    """The auto-encoder is computed too, column by column, as in a training step."""
    params = {"weight": weight, "pre_bias": pre_bias, "latent_bias": latent_bias}
    codes = []
    for column in embeddings:
        code, last_nonzero = losses.sparse_auto_encode(
            params, column, last_nonzero, k=k, k_aux=k_aux
        )
        codes.append(code)
    return getattr(losses, loss)(*codes, **settings)


# Losses that take more than the embeddings of texts.
COMPOSED: dict[str, Callable[..., Array]] = {
    "softmax_loss": _classified_pairs,
    "contrastive_tension_in_batch_negatives_loss": _scaled_tension,
    "csr_loss": partial(_sparse_coded, "csr_loss"),
    "csr_reconstruction_loss": partial(_sparse_coded, "csr_reconstruction_loss"),
}
