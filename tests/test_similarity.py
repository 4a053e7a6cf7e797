"""Similarities against NumPy, and their gradients at the places where a formula breaks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import similarity


def angle(x, y):
    """Of vectors with an odd width: their halves are real and imaginary parts."""
    x, y = (np.append(v / np.linalg.norm(v), 0) for v in (x, y))
    half = len(x) // 2
    x, y = (v[:half] + 1j * v[half:] for v in (x, y))
    product = np.sum(x * y.conj())
    return abs(product.real + product.imag)


PAIRED = {
    similarity.paired_dot: lambda x, y: x @ y,
    similarity.paired_dot_distance: lambda x, y: -x @ y,
    similarity.paired_angle: angle,
    similarity.paired_euclidean: lambda x, y: -np.linalg.norm(x - y),
    similarity.paired_manhattan: lambda x, y: -np.abs(x - y).sum(),
    similarity.paired_cosine: lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y),
    similarity.paired_clamped_cosine: lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y),
    similarity.paired_cosine_distance: lambda x, y: (
        1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    ),
    similarity.paired_euclidean_distance: lambda x, y: np.linalg.norm(x - y),
    similarity.paired_manhattan_distance: lambda x, y: np.abs(x - y).sum(),
}


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 5)), rng.normal(size=(4, 5))


@pytest.mark.parametrize("function", PAIRED, ids=lambda f: f.__name__)
def test_paired_forms_equal_numpy(function, vectors):
    expected = [PAIRED[function](x, y) for x, y in zip(*vectors, strict=True)]
    with jax.enable_x64(True):
        actual = function(*map(jnp.asarray, vectors))
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("function", PAIRED, ids=lambda f: f.__name__)
def test_paired_forms_broadcast(function, vectors):
    left, right = map(jnp.asarray, vectors)
    expected = jnp.stack([function(left, jnp.roll(right, -k, axis=0)) for k in range(2)], axis=1)
    several = jnp.stack([right, jnp.roll(right, -1, axis=0)], axis=1)
    np.testing.assert_allclose(function(left[:, None], several), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (similarity.paired_euclidean_distance, 1e-6 * np.sqrt(3)),
        (similarity.paired_manhattan_distance, 3e-6),
    ],
)
def test_epsilon_is_added_to_every_coordinate(function, value):
    x = jnp.array([[0.5, -1.0, 2.0]])
    np.testing.assert_allclose(function(x, x, epsilon=1e-6), [value], rtol=1e-6)
    assert np.all(jax.grad(lambda a: function(a, x, epsilon=1e-6).sum())(x) > 0)


@pytest.mark.parametrize(
    "name", ["dot", "cosine", "euclidean", "manhattan", "euclidean_distance", "manhattan_distance"]
)
def test_the_diagonal_of_all_pairs_is_the_paired_form(name, vectors):
    left, right = map(jnp.asarray, vectors)
    matrix = getattr(similarity, name)(left, right[:3])
    assert matrix.shape == (4, 3)
    paired = getattr(similarity, f"paired_{name}")(left[:3], right[:3])
    np.testing.assert_allclose(jnp.diagonal(matrix[:3]), paired, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", PAIRED, ids=lambda f: f.__name__)
def test_gradients_at_zero_and_at_equal_vectors_are_finite(function):
    zero, x = jnp.zeros((1, 3)), jnp.array([[0.0, 1.0, -2.0]])
    for left, right in ((zero, x), (x, zero), (zero, zero), (x, x)):
        gradients = jax.grad(lambda a, b: function(a, b).sum(), argnums=(0, 1))(left, right)
        assert np.isfinite(gradients).all()


@pytest.mark.parametrize("name", ["euclidean_distance", "manhattan_distance", "cosine_distance"])
def test_distances_of_all_pairs_are_safe_at_equal_vectors(name):
    x = jnp.array([[0.0, 0.0, 0.0], [0.0, 1.0, -2.0], [0.0, 1.0, -2.0]])
    distance = getattr(similarity, name)
    matrix = distance(x, x)
    np.testing.assert_allclose([matrix[1, 2], matrix[2, 2]], 0, atol=1e-6)
    assert np.isfinite(jax.grad(lambda a: distance(a, x).sum())(x)).all()


def test_manhattan_distances_need_no_cube():
    x = jnp.ones((128, 64))
    gradient = jax.grad(lambda a, b: similarity.manhattan_distance(a, b).sum(), argnums=(0, 1))
    memory: Any = jax.jit(gradient).lower(x, x).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 128 * 128 * 64 * 4 / 8


def test_a_zero_vector_has_no_cosine_and_no_gradient():
    zero, x = jnp.zeros((1, 3)), jnp.array([[0.0, 1.0, -2.0]])
    value, gradient = jax.value_and_grad(lambda a: similarity.cosine(a, x).sum())(zero)
    assert value == 0
    assert np.all(np.asarray(gradient) == 0)


def test_equal_coordinates_have_slope_zero():
    x = jnp.array([[1.0, 2.0]])
    y = jnp.array([[1.0, 5.0]])
    slope = jax.grad(lambda a: similarity.paired_manhattan_distance(a, y).sum())(x)
    np.testing.assert_array_equal(slope, [[0.0, -1.0]])


def test_sixteen_bits_are_raised_and_float64_is_kept():
    x = jnp.ones((2, 3), jnp.bfloat16)
    assert similarity.cosine(x, x).dtype == jnp.float32
    with jax.enable_x64(True):
        assert similarity.cosine(jnp.ones((2, 3)), jnp.ones((2, 3))).dtype == jnp.float64
