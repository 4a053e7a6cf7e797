"""What every loss promises, tested over the table of all losses."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

import jaxembed.losses
from tests.losses.cases import CASES, Case

N = 7
every_loss = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_row_loss = pytest.mark.parametrize(
    "case", [case for case in CASES if case.reducible], ids=lambda case: case.name
)


def cast(arrays, dtype):
    """To JAX, floats as `dtype`."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if x.dtype.kind == "f" else None), arrays)


def value_and_grad(case: Case, embeddings, rows):
    def loss(embeddings):
        return case.loss(*embeddings, **rows, **case.settings)

    return jax.value_and_grad(loss)(tuple(embeddings))


@functools.cache
def compiled(case: Case):
    """The jitted `value_and_grad` of a case: `(embeddings, rows) -> value, gradients`."""
    return jax.jit(functools.partial(value_and_grad, case))


def assert_close(actual, expected, tolerance):
    """Equal relative to the greatest entry."""

    def compare(a, e):
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance * (np.abs(e).max() + 1e-2))

    jax.tree.map(compare, actual, expected)


def test_every_public_loss_has_a_case():
    public = {
        name
        for name, value in vars(jaxembed.losses).items()
        if name.endswith("_loss") and inspect.isfunction(value)
    }
    assert public == {case.name.split("-")[0] for case in CASES}


@every_loss
@pytest.mark.parametrize("n", [1, 2, N])
def test_value_equals_the_reference(case, n):
    embeddings, rows = case.inputs(n)
    expected = case.reference(*embeddings, **rows, **case.settings)
    with jax.enable_x64(True):
        actual = case.loss(
            *cast(embeddings, jnp.float64), **cast(rows, jnp.float64), **case.settings
        )
        assert actual.dtype == jnp.float64
    assert actual.shape == ()
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.differentiable], ids=lambda case: case.name
)
def test_gradient_equals_finite_differences(case):
    with jax.enable_x64(True):
        embeddings, rows = cast(case.inputs(N), jnp.float64)
        check_grads(
            jax.jit(lambda *e: case.loss(*e, **rows, **case.settings)),
            embeddings,
            order=1,
            modes=("fwd", "rev"),
            rtol=1e-5,
            atol=1e-6,
        )


@every_loss
def test_jit_equals_eager(case):
    embeddings, rows = cast(case.inputs(N), jnp.float32)
    assert_close(compiled(case)(embeddings, rows), value_and_grad(case, embeddings, rows), 2e-5)


@every_loss
def test_vmap_equals_a_loop(case):
    batches = [cast(case.inputs(N, seed), jnp.float32) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    mapped = jax.jit(jax.vmap(functools.partial(value_and_grad, case)))(*stacked)
    looped = jax.tree.map(lambda *x: jnp.stack(x), *[compiled(case)(*b) for b in batches])
    assert_close(mapped, looped, 2e-5)


@every_loss
def test_order_of_rows_does_not_matter(case):
    embeddings, rows = cast(case.inputs(N), jnp.float32)
    order = np.random.default_rng(1).permutation(N)
    permuted = jax.tree.map(lambda x: x[order], (embeddings, rows))
    value, gradient = compiled(case)(embeddings, rows)
    expected = value, jax.tree.map(lambda x: x[order], gradient)
    assert_close(compiled(case)(*permuted), expected, 2e-5)


def spoil(arrays, where, filler):
    """Puts `filler` into every float entry of the rows that are not real."""

    def one(x):
        mask = where.reshape(-1, *[1] * (x.ndim - 1))
        return np.where(mask, x, filler) if x.dtype.kind == "f" else x

    return jax.tree.map(one, arrays)


@every_loss
@pytest.mark.parametrize("filler", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["1111100", "0101101"])
def test_masked_rows_have_no_effect_and_no_gradient(case, where, filler):
    where = np.array([letter == "1" for letter in where])
    inputs = case.inputs(N)
    expected = compiled(case)(*cast(jax.tree.map(lambda x: x[where], inputs), jnp.float32))
    embeddings, rows = cast(spoil(inputs, where, filler), jnp.float32)
    value, gradient = compiled(case)(embeddings, {**rows, "where": jnp.asarray(where)})
    assert all(np.all(np.asarray(g)[~where] == 0) for g in gradient)
    assert_close((value, jax.tree.map(lambda g: g[where], gradient)), expected, 3e-5)


@every_loss
def test_nothing_real_costs_nothing(case):
    where = np.zeros(N, bool)
    embeddings, rows = cast(spoil(case.inputs(N), where, np.nan), jnp.float32)
    value, gradient = compiled(case)(embeddings, {**rows, "where": jnp.asarray(where)})
    assert value == 0
    assert all(np.all(np.asarray(g) == 0) for g in gradient)


@every_loss
@given(where=st.lists(st.booleans(), min_size=N, max_size=N).filter(any), seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_any_mask_gives_the_reference_on_the_rows_that_are_left(case, where, seed):
    where = np.array(where)
    inputs = case.inputs(N, seed)
    embeddings, rows = jax.tree.map(lambda x: x[where], inputs)
    expected = case.reference(*embeddings, **rows, **case.settings)
    embeddings, rows = cast(inputs, jnp.float32)
    value, _ = compiled(case)(embeddings, {**rows, "where": jnp.asarray(where)})
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@every_row_loss
def test_unreduced_values_are_zero_where_masked_and_their_mean_is_the_loss(case):
    embeddings, rows = cast(case.inputs(N), jnp.float32)
    where = jnp.arange(N) % 3 != 0
    values = case.loss(*embeddings, **rows, **case.settings, where=where, reduce_fn=None)
    assert values.shape == (N,)
    assert np.all(np.asarray(values)[~np.asarray(where)] == 0)
    loss = case.loss(*embeddings, **rows, **case.settings, where=where)
    np.testing.assert_allclose(np.asarray(values).sum() / np.asarray(where).sum(), loss, rtol=1e-5)


@every_loss
@pytest.mark.parametrize("size", [1e4, 1e-9, 0.0])
def test_gradients_are_finite_at_any_size(case, size):
    embeddings, rows = cast(case.inputs(N), jnp.float32)
    value, gradient = compiled(case)(tuple(size * x for x in embeddings), rows)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradient)
    if size == 0:
        assert all(np.all(np.asarray(g) == 0) for g in gradient)


@every_loss
def test_not_a_number_shows_in_the_loss(case):
    embeddings, rows = cast(case.inputs(N), jnp.float32)
    value, _ = compiled(case)(tuple(x.at[0].set(jnp.nan) for x in embeddings), rows)
    assert np.isnan(value)


@every_loss
def test_bfloat16_inputs_are_raised_to_float32(case):
    embeddings, rows = case.inputs(N)
    rounded = cast(embeddings, jnp.bfloat16)
    rows = cast(rows, jnp.float32)
    value, gradient = compiled(case)(rounded, rows)
    assert value.dtype == jnp.float32
    assert all(g.dtype == jnp.bfloat16 for g in gradient)
    raised = tuple(x.astype(jnp.float32) for x in rounded)
    expected_value, expected_gradient = compiled(case)(raised, rows)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    assert_close(gradient, expected_gradient, 1e-2)


@every_loss
def test_two_devices_compute_what_one_does(case):
    embeddings, rows = cast(case.inputs(8), jnp.float32)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put((embeddings, rows), NamedSharding(mesh, PartitionSpec("data")))
    assert_close(compiled(case)(*sharded), compiled(case)(embeddings, rows), 2e-5)


@every_loss
def test_new_values_do_not_recompile(case):
    jitted = jax.jit(functools.partial(case.loss, **case.settings))
    for seed in range(3):
        embeddings, rows = cast(case.inputs(N, seed), jnp.float32)
        jitted(*embeddings, **rows)
    assert jitted._cache_size() == 1  # pyright: ignore
