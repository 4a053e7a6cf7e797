"""Columns of one shape are encoded together, with the results of each alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed.objectives.columns import encode_column, encode_columns
from jaxembed.randomness import row_keys
from jaxembed.transforms import by_length

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


@pytest.mark.parametrize("key", [None, jax.random.key(0)], ids=["no key", "key"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "split"])
def test_blocks_of_one_shape_are_encoded_in_one_call(key, packed):
    def blocks(seed):
        """Six texts in two blocks: of two rows with two texts each or none, or one text a row."""
        rng = np.random.default_rng(seed)
        numbers = rng.permutation(6).astype(np.int32)
        if packed:
            texts = [np.array([[*numbers[:2]], [numbers[2], -1]]), numbers[3:].reshape(3, 1)]
            places = np.argsort([*numbers[:3], 9, *numbers[3:]])[:6]
        else:
            texts, places = [numbers[:2], numbers[2:]], np.argsort(numbers)
        made = [
            {**column(seed + number, *its.shape, 4), "texts": its.astype(np.int32)}
            for number, its in enumerate(texts)
        ]
        return {"blocks": made, "places": places.astype(np.int32)}

    def encode_rows(params, tokens, *, key=None):
        CALLS.append(tokens["input_ids"].shape)
        vectors = jnp.sin(tokens["input_ids"] @ params)
        if key is None:
            return vectors
        drawn = jax.vmap(lambda key: jax.random.normal(key, params.shape[1:]))
        noise = drawn(row_keys(key, len(vectors)))
        return vectors * (noise[:, None] if packed else noise)

    columns = {"anchors": blocks(0), "positives": blocks(10)}
    keys = {
        name: None if key is None else jax.random.fold_in(key, number)
        for number, name in enumerate(columns)
    }
    encoded, params = by_length(encode_rows), jnp.ones((4, 3)) + jnp.arange(3)
    CALLS.clear()
    together = encode_columns(encoded, params, columns, keys)
    assert len(CALLS) == 2  # one for each block, of both columns
    for name, tokens in columns.items():
        alone = encode_column(encoded, params, tokens, key=keys[name])
        np.testing.assert_allclose(together[name], alone, rtol=1e-6)


@pytest.mark.parametrize("key", [None, jax.random.key(0)], ids=["no key", "key"])
def test_columns_that_share_blocks_are_encoded_in_one_call(key):
    """Twelve texts of three rows: an anchor, a positive and two negatives of each."""
    numbers = np.random.default_rng(0).permutation(12).astype(np.int32)
    places = np.argsort(numbers).astype(np.int32).reshape(3, 4)
    shared = {"blocks": [{**column(1, 12, 4), "texts": numbers}]}
    columns = {
        "anchors": {"places": places[:, 0]},
        "alone": column(2, 3, 4),
        "positives": {"places": places[:, 1]},
        "negatives": {"places": places[:, 2:]},
    }
    keys = {
        name: None if key is None else jax.random.fold_in(key, number)
        for number, name in enumerate(columns)
    }
    encoded, params = by_length(encode), jnp.ones((4, 3)) + jnp.arange(3)
    CALLS.clear()
    together = encode_columns(encoded, params, columns, keys, shared)
    assert CALLS == [(12, 4), (3, 4)]
    assert list(together) == list(columns)
    for name, tokens in columns.items():
        if name != "alone":
            tokens = {"input_ids": shared["blocks"][0]["input_ids"][tokens["places"]]}
        alone = encode_column(encode, params, tokens, key=keys[name])
        np.testing.assert_allclose(together[name], alone, atol=1e-5)
    with pytest.raises(ValueError, match=r"no packed, .* of anchors, positives, neg"):
        encode_columns(encoded, params, columns, keys)
