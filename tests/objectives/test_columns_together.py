"""Columns of one shape are encoded together, with the results of each alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed.objectives.columns import encode_column, encode_columns
from jaxembed.randomness import row_keys

CALLS = []


def encode(params, tokens, *, key=None):
    """Stands for an encoder: the vectors of a row depend on its tokens and its key alone."""
    ids = tokens["input_ids"]
    CALLS.append(ids.shape)
    vectors = jnp.sin(ids @ params)
    if key is None:
        return vectors
    noise = jax.vmap(lambda key: jax.random.normal(key, params.shape[1:]))
    return vectors * noise(row_keys(key, len(ids)))


def column(seed, *shape):
    return {"input_ids": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}


@pytest.mark.parametrize("key", [None, jax.random.key(0)], ids=["no key", "key"])
def test_columns_of_one_shape_are_encoded_in_one_call(key):
    columns = {
        "anchors": column(0, 5, 4),
        "positives": column(1, 5, 4),
        "other": column(2, 5, 6),
        "negatives": column(3, 5, 2, 4),
        "third": column(4, 5, 4),
    }
    params = {4: jnp.ones((4, 3)), 6: jnp.ones((6, 3))}
    of_width = lambda params, tokens, *, key=None: encode(  # noqa: E731
        params[tokens["input_ids"].shape[-1]], tokens, key=key
    )
    keys = {
        name: None if key is None else jax.random.fold_in(key, number)
        for number, name in enumerate(columns)
    }
    CALLS.clear()
    together = encode_columns(of_width, params, columns, keys)
    assert CALLS == [(15, 4), (5, 6), (10, 4)]
    assert list(together) == list(columns)
    for name, tokens in columns.items():
        alone = encode_column(of_width, params, tokens, key=keys[name])
        np.testing.assert_allclose(together[name], alone, rtol=1e-6)
