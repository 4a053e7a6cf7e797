"""The activations of feed-forward networks, by the names that transformers gives them.

Those with parameters of their own, "prelu" and "xielu", are not among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax


@jax.custom_jvp
def erf(x: Array) -> Array:
    """Computes the error function; JAX 0.12 cannot take its gradient over several devices."""
    return lax.erf(x)


@erf.defjvp
def _erf_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    return lax.erf(x), 2 / math.sqrt(math.pi) * (tangent * jnp.exp(-jnp.square(x)))


def gelu(x: Array) -> Array:
    """Computes `x Φ(x)` by erf, cheaper than erfc, in float32: fewer bits cancel in 1 + erf."""
    wide = x.astype(jnp.float32)
    return (wide * (0.5 + 0.5 * erf(wide * 0.5**0.5))).astype(x.dtype)


def laplace(x: Array) -> Array:
    """Computes `(1 + erf((x - μ) / (σ √2))) / 2`, whose μ and σ make it near to a squared ReLU.

    Source: Ma et al., Mega: Moving Average Equipped Gated Attention, 2022.
    """
    mean, deviation = 0.707107, 0.282095
    return 0.5 * (1 + erf((x - mean) / (deviation * 2**0.5)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_10": lambda x: jnp.clip(gelu(x), -10, 10),
    "gelu_accurate": jax.nn.gelu,
    "gelu_fast": jax.nn.gelu,
    "gelu_new": jax.nn.gelu,
    "gelu_python": gelu,
    "gelu_python_tanh": jax.nn.gelu,
    "gelu_pytorch_tanh": jax.nn.gelu,
    "hardswish": jax.nn.hard_swish,
    "laplace": laplace,
    "leaky_relu": jax.nn.leaky_relu,
    "linear": lambda x: x,
    "mish": jax.nn.mish,
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "relu6": jax.nn.relu6,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "sqrtsoftplus": lambda x: jnp.sqrt(jax.nn.softplus(x)),
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}
