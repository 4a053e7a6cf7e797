"""The activations of PyTorch's modules, element by element, with their default settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import Array

from jaxembed.encoders.families.activations import gelu

SHRINK = 0.5  # lambda of the two shrinking functions


def _hardshrink(x: Array) -> Array:
    return jnp.where(jnp.abs(x) > SHRINK, x, 0)


def _softshrink(x: Array) -> Array:
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - SHRINK, 0)


# By the class in torch.nn. Others have parameters, take arguments, draw random numbers (RReLU), or
# mix features.
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "CELU": jax.nn.celu,
    "ELU": jax.nn.elu,
    "GELU": gelu,
    "Hardshrink": _hardshrink,
    "Hardsigmoid": jax.nn.hard_sigmoid,
    "Hardswish": jax.nn.hard_swish,
    "Hardtanh": jax.nn.hard_tanh,
    "Identity": lambda x: x,
    "LeakyReLU": jax.nn.leaky_relu,
    "LogSigmoid": jax.nn.log_sigmoid,
    "Mish": jax.nn.mish,
    "ReLU": jax.nn.relu,
    "ReLU6": jax.nn.relu6,
    "SELU": jax.nn.selu,
    "SiLU": jax.nn.silu,
    "Sigmoid": jax.nn.sigmoid,
    "Softplus": jax.nn.softplus,
    "Softshrink": _softshrink,
    "Softsign": jax.nn.soft_sign,
    "Tanh": jnp.tanh,
    "Tanhshrink": lambda x: x - jnp.tanh(x),
}
