"""Wrappers of losses with the published names of their settings."""

from __future__ import annotations

from collections.abc import Sequence

from jaxembed.transforms import adaptive_layer, matryoshka
from jaxembed.typing import LossFn, Scalar


def at_dims(
    loss: LossFn,
    *,
    matryoshka_dims: Sequence[int] | None = None,
    matryoshka_weights: Sequence[Scalar] | None = None,
    n_dims_per_step: int = -1,
    truncate: Sequence[str] = (),
) -> LossFn:
    """Wraps a loss by `matryoshka`."""
    if not matryoshka_dims:
        raise ValueError("matryoshka needs matryoshka_dims, such as 256 128 64; got none")
    return matryoshka(loss, matryoshka_dims, matryoshka_weights, n_dims_per_step, truncate)


def at_layers(
    loss: LossFn,
    *,
    n_layers_per_step: int = 1,
    last_layer_weight: Scalar = 1.0,
    prior_layers_weight: Scalar = 1.0,
    kl_div_weight: Scalar = 1.0,
    kl_temperature: Scalar = 0.3,
    layer_weighting: str = "uniform",
    truncate: Sequence[str] = (),
) -> LossFn:
    """Wraps a loss by `adaptive_layer`."""
    return adaptive_layer(
        loss,
        n_layers_per_step,
        last_layer_weight,
        prior_layers_weight,
        kl_div_weight,
        kl_temperature,
        layer_weighting,
    )


def at_layers_and_dims(
    loss: LossFn,
    *,
    matryoshka_dims: Sequence[int] | None = None,
    matryoshka_weights: Sequence[Scalar] | None = None,
    n_dims_per_step: int = 1,
    n_layers_per_step: int = 1,
    last_layer_weight: Scalar = 1.0,
    prior_layers_weight: Scalar = 1.0,
    kl_div_weight: Scalar = 1.0,
    kl_temperature: Scalar = 0.3,
    layer_weighting: str = "uniform",
    truncate: Sequence[str] = (),
) -> LossFn:
    """Wraps a loss by `adaptive_layer` of `matryoshka`."""
    return at_layers(
        at_dims(
            loss,
            matryoshka_dims=matryoshka_dims,
            matryoshka_weights=matryoshka_weights,
            n_dims_per_step=n_dims_per_step,
            truncate=truncate,
        ),
        n_layers_per_step=n_layers_per_step,
        last_layer_weight=last_layer_weight,
        prior_layers_weight=prior_layers_weight,
        kl_div_weight=kl_div_weight,
        kl_temperature=kl_temperature,
        layer_weighting=layer_weighting,
    )
