"""Pearson and Spearman against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxembed.metrics import pearson, spearman
from jaxembed.metrics.correlation import average_ranks

RTOL = 2e-5  # float32
PAIRS = {pearson: scipy.stats.pearsonr, spearman: scipy.stats.spearmanr}


def samples(kind, n=57):
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    y = 0.6 * x + rng.normal(size=n)
    return {
        "plain": (x, y),
        "tied": (np.round(x), np.round(2 * y)),
        "two values": (x, (y > 0).astype(float)),
        "opposite": (x, -(x**3)),
        "far from zero": (x + 300, 0.01 * y - 40),
    }[kind]


@pytest.mark.parametrize("kind", ["plain", "tied", "two values", "opposite", "far from zero"])
@pytest.mark.parametrize("function", PAIRS, ids=lambda function: function.__name__)
def test_correlation_equals_scipy(function, kind):
    x, y = (value.astype(np.float32) for value in samples(kind))
    expected = PAIRS[function](x.astype(np.float64), y.astype(np.float64)).statistic
    found = jax.jit(function)(jnp.array(x), jnp.array(y))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=RTOL)


@pytest.mark.parametrize("function", PAIRS, ids=lambda function: function.__name__)
def test_float64_keeps_its_precision(function):
    x, y = samples("tied")
    with jax.enable_x64(True):
        found = function(jnp.array(x), jnp.array(y))
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, PAIRS[function](x, y).statistic, rtol=1e-9)


@pytest.mark.parametrize("function", PAIRS, ids=lambda function: function.__name__)
def test_vmap_correlates_row_by_row(function):
    x, y = (jnp.array(value, jnp.float32).reshape(3, 19) for value in samples("tied"))
    expected = [function(*row) for row in zip(x, y, strict=True)]
    np.testing.assert_allclose(jax.vmap(function)(x, y), expected, rtol=1e-6)


@pytest.mark.parametrize("function", PAIRS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("bad", [[0.1] * 7, [np.nan, 1, 2, 3, 4, 5, 6]], ids=["constant", "nan"])
def test_a_constant_or_nan_input_has_no_correlation(function, bad):
    varying, bad = jnp.arange(7.0), jnp.array(bad, jnp.float32)
    assert jnp.isnan(function(varying, bad))
    assert jnp.isnan(function(bad, varying))


def test_equal_values_share_the_mean_of_their_ranks():
    x = np.random.default_rng(0).integers(-3, 3, 40).astype(np.float32)
    np.testing.assert_array_equal(average_ranks(jnp.array(x)), scipy.stats.rankdata(x))


@pytest.mark.parametrize("function", PAIRS, ids=lambda function: function.__name__)
def test_fewer_than_two_values_are_refused(function):
    with pytest.raises(ValueError, match=r"same length, 2 or more; got \(1,\) and \(1,\)"):
        function(jnp.ones(1), jnp.ones(1))
