"""Sorting and picking against NumPy, with what bits make difficult: signs, zeros, infinities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxembed.selection import among_greatest, first_max, greatest, sort

rows = st.lists(st.floats(width=32, allow_nan=False, allow_subnormal=False), min_size=1, max_size=9)


@given(rows)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_sort_equals_numpys(row):
    np.testing.assert_array_equal(sort(jnp.asarray(row, jnp.float32)), np.sort(np.float32(row)))


def test_sort_keeps_float64():
    with jax.enable_x64(True):
        row = jnp.array([1e-300, -2.0, np.inf, -0.0, 3.0])
        np.testing.assert_array_equal(sort(row), np.sort(np.asarray(row)))


@given(rows, st.integers(1, 9))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_among_greatest_are_those_no_smaller_than_the_kth(row, k):
    row, k = np.float32(row), min(k, len(row))
    chosen = among_greatest(jnp.asarray(row)[None], k)[0]
    np.testing.assert_array_equal(chosen, row >= np.sort(row)[-k])


@given(st.lists(st.sampled_from([0.0, 1.0, -3.0, 2.5]), min_size=1, max_size=80), st.data())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_greatest_are_k_and_the_first_of_equals(row, data):
    k = data.draw(st.integers(1, len(row)))
    expected = np.zeros(len(row), bool)
    expected[np.argsort(-np.float32(row), kind="stable")[:k]] = True
    np.testing.assert_array_equal(greatest(jnp.asarray(row)[None], k)[0], expected)


def test_each_row_has_its_own_number_of_equals():
    rows = np.random.default_rng(0).integers(0, 4, (64, 100)).astype(np.float32)
    order = np.argsort(-rows, axis=1, kind="stable")[:, :30]
    expected = np.zeros(rows.shape, bool)
    np.put_along_axis(expected, order, True, axis=1)
    np.testing.assert_array_equal(greatest(jnp.asarray(rows), 30), expected)


def test_what_is_not_a_number_is_the_greatest():
    row = jnp.array([[0.5, jnp.nan, 2.0]])
    np.testing.assert_array_equal(greatest(row, 1), [[False, True, False]])


def test_the_first_of_equals_gets_the_gradient():
    x = jnp.array([[1.0, 3.0, 3.0], [-jnp.inf, -jnp.inf, -jnp.inf], [2.0, 9.0, 2.0]])
    where = jnp.array([[True, True, True], [True, True, True], [True, False, True]])
    value, vjp = jax.vjp(lambda x: first_max(x, where), x)
    np.testing.assert_array_equal(value, [3.0, -jnp.inf, 2.0])
    np.testing.assert_array_equal(vjp(jnp.ones(3))[0], [[0, 1, 0], [1, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("place", [0, 2])
def test_a_number_that_is_none_is_the_greatest(place):
    x = jnp.array([[1.0, 3.0, 2.0]]).at[0, place].set(jnp.nan)
    assert jnp.isnan(first_max(x)[0])
    assert among_greatest(x, 1)[0, place]
