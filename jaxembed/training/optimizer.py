"""AdamW as it is used to fine-tune text encoders, and its learning-rate schedules."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxembed.training.freezing import restricted, scaled
from jaxembed.typing import Params

DECAYS = ("linear", "cosine", "constant")


def warmup_schedule(
    peak: float, *, steps: int, warmup_steps: int, decay: str = "linear"
) -> optax.Schedule:
    """Builds the learning rate of a step: linearly from 0 to `peak`, then down to 0 at `steps`.

    Raises:
        ValueError: an unknown decay, or a warm-up that is not shorter than the training.
    """
    if decay not in DECAYS:
        raise ValueError(f"decay must be one of {DECAYS}; got {decay!r}")
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"warmup_steps must lie in [0, {steps}); got {warmup_steps}")
    after = {
        "linear": optax.linear_schedule(peak, 0.0, steps - warmup_steps),
        "cosine": optax.cosine_decay_schedule(peak, steps - warmup_steps),
        "constant": optax.constant_schedule(peak),
    }[decay]
    if warmup_steps == 0:
        return after
    return optax.join_schedules(
        [optax.linear_schedule(0.0, peak, warmup_steps), after], [warmup_steps]
    )


def adamw(
    schedule: optax.Schedule,
    *,
    weight_decay: float = 0.01,
    clip_norm: float | None = 1.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    trainable: Params | None = None,
    scales: Params | None = None,
) -> optax.GradientTransformation:
    """Builds AdamW with clipping by the global norm, and no weight decay on biases and norms.

    Args:
        trainable: which parameters learn, as the function of that name says; all if None. The norm
            is of their gradients, and the others have no moments.
        scales: numbers to multiply the learning rate with by parameter, such as `layer_scales`.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019.
    """
    optimizer = optax.adamw(
        schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=decayed
    )
    if clip_norm is not None:
        optimizer = optax.chain(clip_by_global_norm(clip_norm), optimizer)
    if trainable is not None:
        optimizer = restricted(optimizer, trainable)
    return optimizer if scales is None else scaled(optimizer, scales)


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformationExtraArgs:
    """Builds the clipping of optax as a product with one number, which costs no pass of its own.

    A quotient per entry is dear enough for XLA to compute all of them first, and keep them. The
    norm is not computed again where `update` gets it, as `grad_norm`.
    """

    def clip(
        updates: Params,
        state: Any,
        params: Params | None = None,
        *,
        grad_norm: jax.Array | None = None,
        **_: Any,
    ) -> tuple[Params, Any]:
        norm = optax.tree.norm(updates) if grad_norm is None else grad_norm
        factor = max_norm / jnp.maximum(norm, max_norm)
        return jax.tree.map(lambda update: update * factor.astype(update.dtype), updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, clip)


def decayed(params: Params) -> Params:
    """Says of every parameter whether it decays: matrices and embeddings do."""

    def decays(path: tuple, parameter: jax.Array) -> bool:
        return path[-1].key in ("kernel", "embedding")

    return jax.tree_util.tree_map_with_path(decays, params)
