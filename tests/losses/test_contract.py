"""What every loss promises, tested over the table of all losses.

The loss is the unit: the richest case of each loss is tested for everything. The fast lane tests
the other cases for what their settings can break: the value, the gradient, and masks.
"""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads
from jaxtyping import config

import jaxembed.losses
import jaxembed.losses.reranking
from tests.arrays import cast
from tests.losses.cases import CASES, RICHEST, Case, loss_name

N = 8
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def of_losses(cases: list[Case]):
    """Runs a test for the richest case of each loss and, in the exhaustive lane, for all cases."""
    marks = lambda case: () if case in RICHEST else pytest.mark.exhaustive  # noqa: E731
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=case.name, marks=marks(case)) for case in cases]
    )


every_loss = of_losses(CASES)
every_row_loss = of_losses([case for case in CASES if case.reduction])


def inputs(case: Case, n: int = N, seed: int = 0):
    """Returns what is differentiated (embeddings and own parameters), and the entries per row."""
    embeddings, rows = case.inputs(n, seed)
    return (embeddings, case.parameters(np.random.default_rng(seed))), rows


def take(arrays, rows, choice):
    """The chosen rows of the embeddings and of the entries per row; parameters stay."""
    embeddings, parameters = arrays
    chosen, rows = jax.tree.map(lambda x: x[choice], (embeddings, rows))
    return (chosen, parameters), rows


def where_of(case: Case, mask, arrays, rows):
    return jnp.asarray(case.expand_where(np.asarray(mask), (arrays[0], rows)))


def value_and_grad(case: Case, arrays, rows):
    def loss(arrays):
        embeddings, parameters = arrays
        return case.loss(*embeddings, **rows, **parameters, **case.settings)

    return jax.value_and_grad(loss)(arrays)


@functools.lru_cache(maxsize=1)  # the tests run case by case
def compiled(case: Case):
    """The jitted `value_and_grad` of a case: `(arrays, rows) -> value, gradients`."""
    return jax.jit(functools.partial(value_and_grad, case))


def assert_close(actual, expected, tolerance):
    """Equal relative to the greatest entry."""

    def compare(a, e):
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance * (np.abs(e).max() + 1e-2))

    jax.tree.map(compare, actual, expected)


def all_are(condition, arrays) -> bool:
    return all(np.all(condition(np.asarray(x))) for x in jax.tree.leaves(arrays))


def test_every_public_loss_has_a_case():
    public = {
        prefix + name
        for prefix, module in (("", jaxembed.losses), ("reranking.", jaxembed.losses.reranking))
        for name, value in vars(module).items()
        if name.endswith("_loss") and inspect.isfunction(value)
    }
    assert public == {loss_name(case) for case in CASES}


@every_case
@pytest.mark.parametrize("n", [1, 2, N])
def test_value_equals_the_reference(case, n):
    (embeddings, parameters), rows = inputs(case, n)
    expected = case.reference(*embeddings, **rows, **parameters, **case.settings)
    with jax.enable_x64(True):
        arrays, rows = cast(((embeddings, parameters), rows), jnp.float64)
        actual = jax.jit(lambda a, r: case.loss(*a[0], **r, **a[1], **case.settings))(arrays, rows)
        assert actual.dtype == jnp.float64
    assert actual.shape == ()
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.differentiable], ids=lambda case: case.name
)
def test_gradient_equals_finite_differences(case):
    with jax.enable_x64(True):
        arrays, rows = cast(inputs(case), jnp.float64)
        check_grads(
            jax.jit(lambda a: case.loss(*a[0], **rows, **a[1], **case.settings)),
            (arrays,),
            order=1,
            modes=("fwd", "rev"),
            eps=1e-5,
            rtol=1e-5,
            atol=1e-6,
        )


@every_loss
def test_jit_equals_eager(case):
    arrays, rows = cast(inputs(case), jnp.float32)
    assert_close(compiled(case)(arrays, rows), value_and_grad(case, arrays, rows), 2e-5)


@every_loss
def test_vmap_equals_a_loop(case):
    batches = [cast(inputs(case, seed=seed), jnp.float32) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    mapped = jax.jit(jax.vmap(functools.partial(value_and_grad, case)))(*stacked)
    looped = jax.tree.map(lambda *x: jnp.stack(x), *[compiled(case)(*b) for b in batches])
    assert_close(mapped, looped, 2e-5)


@every_loss
def test_order_of_rows_does_not_matter(case):
    arrays, rows = cast(inputs(case), jnp.float32)
    order = np.random.default_rng(1).permutation(N)
    value, (gradient, own_gradient) = compiled(case)(arrays, rows)
    expected = value, (jax.tree.map(lambda x: x[order], gradient), own_gradient)
    assert_close(compiled(case)(*take(arrays, rows, order)), expected, 2e-5)


def spoil(arrays, where, filler):
    """Puts `filler` into every float entry of the rows that are not real."""

    def one(x):
        mask = where.reshape(-1, *[1] * (x.ndim - 1))
        return np.where(mask, x, filler) if x.dtype.kind == "f" else x

    return jax.tree.map(one, arrays)


def masked(case, arrays, rows, where, filler):
    """The inputs with fillers in the rows that are not real, and the mask of real rows."""
    (embeddings, parameters), mask = arrays, where_of(case, where, arrays, rows)
    embeddings, rows = cast(spoil((embeddings, rows), where, filler), jnp.float32)
    return (embeddings, cast(parameters, jnp.float32)), {**rows, "where": mask}


def all_real(case):
    """The inputs with a mask that is True everywhere and, of the richest case, without a mask too.

    In the fast lane other cases are differentiated with a mask alone, which saves a program.
    """
    yield masked(case, *inputs(case), np.ones(N, bool), np.nan)
    if case in RICHEST:
        yield cast(inputs(case), jnp.float32)


@every_loss
@pytest.mark.parametrize("filler", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["11111000", "01101101"])
def test_masked_rows_have_no_effect_and_no_gradient(case, where, filler):
    where = np.array([letter == "1" for letter in where])
    arrays, rows = inputs(case)
    expected = compiled(case)(*cast(take(arrays, rows, where), jnp.float32))
    value, (gradient, own_gradient) = compiled(case)(*masked(case, arrays, rows, where, filler))
    assert all_are(lambda g: g[~where] == 0, gradient)
    actual = value, (jax.tree.map(lambda g: g[where], gradient), own_gradient)
    assert_close(actual, expected, 3e-5)


@every_case
def test_nothing_real_costs_nothing(case):
    value, gradient = compiled(case)(*masked(case, *inputs(case), np.zeros(N, bool), np.nan))
    assert value == 0
    assert all_are(lambda g: g == 0, gradient)


@every_case
@given(where=st.lists(st.booleans(), min_size=N, max_size=N).filter(any), seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_any_mask_gives_the_reference_on_the_rows_that_are_left(case, where, seed):
    where = np.array(where)
    arrays, rows = inputs(case, seed=seed)
    (embeddings, parameters), left = take(arrays, rows, where)
    expected = case.reference(*embeddings, **left, **parameters, **case.settings)
    value, (gradient, _) = compiled(case)(*masked(case, arrays, rows, where, np.nan))
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    assert all_are(lambda g: g[~where] == 0, gradient)
    assert all_are(np.isfinite, gradient)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.loss.__module__.startswith("jaxembed.")],
    ids=lambda case: case.name,
)
def test_a_mask_of_another_length_is_refused(case, request):
    config.update("jaxtyping_disable", True)  # to reach the losses' own checks
    request.addfinalizer(lambda: config.update("jaxtyping_disable", False))
    arrays, rows = masked(case, *inputs(case), np.ones(N, bool), np.nan)
    for n in (N - 1, N + 1):
        rows["where"] = jnp.ones((n, *rows["where"].shape[1:]), bool)
        with pytest.raises(ValueError, match="where"):
            jax.eval_shape(functools.partial(value_and_grad, case), arrays, rows)


def taught(case) -> list[str]:
    """The arrays of a case that a teacher or guide gives."""
    names = ["teacher", "guide", "margins"]
    if "distill" in case.name or "margin_mse" in case.name:
        names.append("scores")
    return [name for name in case.inputs(N)[1] if name.startswith(tuple(names))]


@pytest.mark.parametrize(
    "case", [case for case in RICHEST if taught(case)], ids=lambda case: case.name
)
def test_what_a_teacher_gives_is_a_constant(case):
    arrays, rows = cast(inputs(case), jnp.float32)
    lessons = {name: rows.pop(name) for name in taught(case)}
    value = lambda lessons: value_and_grad(case, arrays, {**rows, **lessons})[0]  # noqa: E731
    assert all_are(lambda g: g == 0, jax.jit(jax.grad(value))(lessons))


def eager(function):
    return function


@every_row_loss
@pytest.mark.parametrize("transform", [jax.jit, pytest.param(eager, marks=pytest.mark.exhaustive)])
def test_unreduced_values_are_zero_where_masked_and_reduce_to_the_loss(case, transform):
    (embeddings, parameters), rows = arrays, rows = cast(inputs(case), jnp.float32)
    mask = np.arange(N) % 3 != 0
    keywords = {**rows, **parameters, **case.settings, "where": where_of(case, mask, arrays, rows)}

    def computed(**reduction):
        return transform(lambda *x: case.loss(*x, **keywords, **reduction))(*embeddings)

    values, loss = np.asarray(computed(reduce_fn=None)), computed()
    assert values.shape == (N,)
    assert np.all(values[~mask] == 0)
    if case.reduction == "total":
        np.testing.assert_allclose(values.sum(), loss, rtol=1e-5)
    elif "negatives_where" not in rows and "candidates_where" not in rows:
        np.testing.assert_allclose(values.sum() / mask.sum(), loss, rtol=1e-5)


@every_case
@pytest.mark.parametrize("size", [1e4, 1e-9, 0.0])
def test_gradients_are_finite_at_any_size(case, size):
    for (embeddings, parameters), rows in all_real(case):
        embeddings = jax.tree.map(lambda x: size * x, embeddings)
        value, gradient = compiled(case)((embeddings, parameters), rows)
        assert np.isfinite(value)
        assert all_are(np.isfinite, gradient)


@every_case
def test_not_a_number_shows_in_the_loss(case):
    for (embeddings, parameters), rows in all_real(case):
        embeddings = jax.tree.map(lambda x: x.at[0].set(jnp.nan), embeddings)
        value, _ = compiled(case)((embeddings, parameters), rows)
        assert np.isnan(value)


@every_loss
def test_bfloat16_inputs_are_raised_to_float32(case):
    (embeddings, parameters), rows = inputs(case)
    rounded = cast(embeddings, jnp.bfloat16)
    parameters, rows = cast((parameters, rows), jnp.float32)
    value, (gradient, _) = compiled(case)((rounded, parameters), rows)
    assert value.dtype == jnp.float32
    assert all(g.dtype == jnp.bfloat16 for g in jax.tree.leaves(gradient))
    raised = cast(rounded, jnp.float32)
    expected_value, (expected_gradient, _) = compiled(case)((raised, parameters), rows)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    assert_close(gradient, expected_gradient, 1e-2)


@every_loss
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_two_devices_compute_what_one_does(case, axis_type):
    (embeddings, parameters), rows = cast(inputs(case), jnp.float32)
    expected = compiled(case)((embeddings, parameters), rows)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(axis_type,))
    sharded = NamedSharding(mesh, PartitionSpec("data"))
    embeddings, rows = jax.device_put((embeddings, rows), sharded)
    parameters = jax.device_put(parameters, NamedSharding(mesh, PartitionSpec()))
    with jax.set_mesh(mesh):
        actual = jax.jit(functools.partial(value_and_grad, case))((embeddings, parameters), rows)
    assert_close(actual, expected, 2e-5)


@every_loss
def test_new_values_do_not_recompile(case):
    jitted: Any = compiled(case)
    jitted(*cast(inputs(case), jnp.float32))
    programs = jitted._cache_size()
    for seed in (1, 2):
        jitted(*cast(inputs(case, seed=seed), jnp.float32))
    assert jitted._cache_size() == programs
