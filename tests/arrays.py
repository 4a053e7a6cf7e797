"""Trees of arrays in tests."""

import jax
import jax.numpy as jnp


def cast(arrays, dtype):
    """To JAX, floats as `dtype`."""
    floating = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if floating(x) else None), arrays)
