"""Dropout: a key per row, so that a row's mask depends on nothing but its own key."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxembed
from jaxembed.randomness import row_keys
from jaxembed.transforms import by_length

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
TEXTS = ["a cat", "a dog", "the cat sat on the mat with the dog", "a cat"]


@pytest.fixture(scope="module")
def encoder():
    return jaxembed.load(TINY)


@pytest.fixture(scope="module")
def tokens(encoder):
    return {name: jnp.asarray(array) for name, array in encoder.tokenizer(TEXTS).items()}


def test_no_key_is_deterministic_and_a_key_is_not(encoder, tokens):
    plain = encoder.apply(encoder.params, tokens)
    np.testing.assert_array_equal(plain, encoder.apply(encoder.params, tokens))
    dropped = encoder.apply(encoder.params, tokens, key=jax.random.key(0))
    assert np.abs(dropped - plain).max() > 1e-3


def test_equal_texts_in_two_rows_get_two_masks(encoder, tokens):
    dropped = encoder.apply(encoder.params, tokens, key=jax.random.key(0))
    assert np.abs(dropped[0] - dropped[3]).max() > 1e-3


def test_rows_encoded_apart_with_their_keys_are_those_of_the_whole(encoder, tokens):
    keys = row_keys(jax.random.key(0), 4)
    whole = encoder.apply(encoder.params, tokens, key=jax.random.key(0))
    half = jax.tree.map(lambda x: x[2:], tokens)
    np.testing.assert_allclose(
        encoder.apply(encoder.params, half, key=keys[2:]), whole[2:], atol=1e-6
    )


def test_dropout_can_be_taken_out(tokens):
    encoder = jaxembed.load(TINY, dropout=False)
    np.testing.assert_allclose(
        encoder.apply(encoder.params, tokens, key=jax.random.key(0)),
        encoder.apply(encoder.params, tokens),
        atol=1e-6,
    )


def test_columns_split_by_length_give_the_same_embeddings_and_gradients(encoder):
    from jaxembed.data.lengths import split_by_length

    whole = encoder.tokenizer(TEXTS)
    split = split_by_length(whole, buckets=(8, 16))
    assert [block["input_ids"].shape for block in split["blocks"]] == [(3, 8), (1, 16)]
    encode = by_length(encoder.apply)

    def total(params, tokens):
        embeddings = encode(params, tokens)
        return jnp.sum(embeddings * jnp.arange(4.0)[:, None]), embeddings

    gradient = jax.grad(total, has_aux=True)
    expected, embeddings = gradient(encoder.params, whole)
    actual, split_embeddings = gradient(encoder.params, split)
    np.testing.assert_allclose(split_embeddings, embeddings, atol=2e-6)
    close = lambda a, e: np.testing.assert_allclose(a, e, atol=2e-5, rtol=5e-5)  # noqa: E731
    jax.tree.map(close, actual, expected)


def test_bfloat16_computes_near_float32_and_returns_float32():
    exact, fast = (jaxembed.load("all-MiniLM-L6-v2", dtype=d) for d in (jnp.float32, jnp.bfloat16))
    tokens = {name: jnp.asarray(array) for name, array in exact.tokenizer(TEXTS).items()}
    embeddings = fast.apply(fast.params, tokens)
    assert embeddings.dtype == jnp.float32
    cosines = jnp.sum(embeddings * exact.apply(exact.params, tokens), axis=1)
    assert cosines.min() > 0.9999
