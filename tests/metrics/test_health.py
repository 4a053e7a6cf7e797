"""Embedding health against NumPy, masks, limits, and what counts as a collapse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed.metrics import collapse, embedding_health


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 5)).astype(np.float32)
    return x, x + 0.3 * rng.normal(size=(12, 5)).astype(np.float32)


def reference(x, y):
    u, v = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    others = ~np.eye(len(u), dtype=bool)
    squares = np.sum((u[:, None] - u[None]) ** 2, axis=-1)
    values = np.linalg.svd(u - u.mean(axis=0), compute_uv=False) ** 2
    return {
        "mean_cosine": (u @ u.T)[others].mean(),
        "uniformity": np.log(np.exp(-2 * squares[others]).mean()),
        "effective_rank": values.sum() ** 2 / np.sum(values**2),
        "duplicates": np.mean(((u @ u.T > 0.9999) & others).any(axis=1)),
        "norm_min": np.linalg.norm(x, axis=1).min(),
        "norm_max": np.linalg.norm(x, axis=1).max(),
        "alignment": np.mean(np.sum((u - v) ** 2, axis=1)),
    }


@pytest.mark.parametrize("array", [jnp.asarray, np.asarray])
def test_it_is_what_numpy_computes(pairs, array):
    health = embedding_health(*map(array, pairs))
    expected = reference(*pairs)
    assert health.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(health[name], value, rtol=2e-5, err_msg=name)


def test_padding_and_rows_behind_the_sample_do_not_count(pairs):
    in_numpy = [np.concatenate([z, np.full((4, 5), np.nan, np.float32)]) for z in pairs]
    x, y = map(jnp.asarray, in_numpy)
    real = jnp.arange(16) < 12
    for health in (
        embedding_health(x, y, where=real),
        embedding_health(x, y, sample=12),
        jax.jit(embedding_health)(x, y, where=real),
        embedding_health(*in_numpy, where=np.asarray(real)),
        embedding_health(*in_numpy, sample=12),
    ):
        for name, value in reference(*pairs).items():
            np.testing.assert_allclose(health[name], value, rtol=2e-5, err_msg=name)


def test_equal_rows_are_a_collapse_and_duplicates():
    health = embedding_health(jnp.ones((6, 4)) * jnp.arange(1, 7)[:, None])
    assert health["duplicates"] == 1
    assert health["effective_rank"] == 0
    assert collapse(jax.device_get(health)) == (
        "the embeddings collapse: mean cosine 1.000, effective rank 0.0"
    )


def test_rows_on_a_line_are_a_collapse_too():
    health = embedding_health(jnp.array([[1.0, 0, 0], [-1, 0, 0]]).repeat(4, axis=0))
    np.testing.assert_allclose(health["effective_rank"], 1, rtol=1e-5)
    assert "effective rank 1.0" in str(collapse(jax.device_get(health)))


def test_a_cone_is_none():
    directions = jnp.concatenate([jnp.full((9, 1), 3.0), jnp.eye(9)], axis=1)
    health = jax.device_get(embedding_health(directions))
    assert health["mean_cosine"] > 0.85
    np.testing.assert_allclose(health["effective_rank"], 8, rtol=1e-4)
    assert collapse(health) is None


def test_bounds_of_a_collapse_are_none():
    assert collapse({"mean_cosine": 0.95, "effective_rank": 2.0}) is None
    assert collapse({"mean_cosine": 0.951, "effective_rank": 2.0})
    assert collapse({"mean_cosine": 0.95, "effective_rank": 1.99})


def test_spread_rows_are_none():
    health = jax.device_get(embedding_health(jnp.eye(6)))
    np.testing.assert_allclose(health["effective_rank"], 5, rtol=1e-5)
    assert health["duplicates"] == 0
    assert collapse(health) is None


@pytest.mark.parametrize("n", [1, 3])
def test_without_pairs_all_is_finite(n):
    health = embedding_health(jnp.ones((n, 2)), where=jnp.arange(n) < 1)
    assert all(np.isfinite(value) for value in health.values())


def test_no_gradient_flows(pairs):
    gradient = jax.grad(lambda x: sum(embedding_health(x, x).values()))(jnp.asarray(pairs[0]))
    assert not gradient.any()
