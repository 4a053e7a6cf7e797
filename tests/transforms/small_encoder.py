"""A transformer of few lines for tests: one scan over its layers, so that it compiles fast."""

import jax
import jax.numpy as jnp
from jax import lax


def init(key, *, layers=6, d=384, hidden=1536, vocabulary=1024):
    """Returns parameters; by default of the size of MiniLM, but for the vocabulary."""
    shapes = {
        "embedding": (vocabulary, d),
        "attention": (layers, d, 3 * d),
        "output": (layers, d, d),
        "up": (layers, d, hidden),
        "down": (layers, hidden, d),
    }
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.normal(key, shape) / shape[-2] ** 0.5
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def encode(params, tokens, *, key=None, heads=12):
    """Embeds `input_ids [n t]` by the mean over tokens, `[n d]`; it has no dropout."""
    x = params["embedding"][tokens["input_ids"]]
    n, t, d = x.shape

    def layer(x, weights):
        mixed = (norm(x) @ weights["attention"]).reshape(n, t, 3, heads, d // heads)
        query, key, value = jnp.moveaxis(mixed, 2, 0)
        scores = jnp.einsum("nshd,nthd->nhst", query, key) * (d // heads) ** -0.5
        attended = jnp.einsum("nhst,nthd->nshd", jax.nn.softmax(scores), value)
        x = x + attended.reshape(n, t, d) @ weights["output"]
        return x + jax.nn.gelu(norm(x) @ weights["up"]) @ weights["down"], None

    weights = {name: stack for name, stack in params.items() if name != "embedding"}
    return norm(lax.scan(layer, x, weights)[0].mean(1))


def norm(x):
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)
