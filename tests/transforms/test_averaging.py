"""Averages of parameters: moving ones, soups and spherical ones, leaf by leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal

from jaxembed.transforms.averaging import ema, ema_decay, init_ema, slerp, soup

pytestmark = pytest.mark.usefixtures("strict_promotion")


def tree(seed=0, dtype=jnp.float32, step=0):
    rng = np.random.default_rng(seed)
    return {
        "encoder": {"w": jnp.asarray(rng.normal(size=(3, 4)), dtype)},
        "layers": [jnp.asarray(rng.normal(size=5), dtype)],
        "scale": jnp.asarray(rng.normal() + 3, dtype),
        "step": jnp.asarray(step, jnp.int32),
        "key": jax.random.key(step),
        "none": None,
    }


def floats(params):
    leaves = jax.tree.leaves(params)
    return [np.asarray(x, np.float64) for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]


def close(actual, expected, **tolerance):
    for one, other in zip(floats(actual), floats(expected), strict=True):
        assert_allclose(one, other, **tolerance)


# Moving average ----------------------------------------------------------------------------------


def test_the_moving_average_is_the_weighted_sum_over_all_steps():
    decay, start, later = 0.9, tree(0), [tree(i) for i in range(1, 5)]
    average = init_ema(start)
    for params in later:
        average = jax.jit(ema)(average, params, decay)
    powers = 0.9 ** np.arange(4, -1, -1)
    weights = powers * np.array([1, 0.1, 0.1, 0.1, 0.1])
    for i, leaf in enumerate(floats(average)):
        each = [floats(params)[i] for params in (start, *later)]
        expected = sum(weight * x for weight, x in zip(weights, each, strict=True))
        assert_allclose(leaf, expected, rtol=1e-5, atol=1e-6)


def test_one_step_is_that_of_optax():
    old, new = (tree(i)["encoder"] for i in range(2))
    expected = optax.incremental_update(new, old, step_size=0.25)
    close(ema(old, new, decay=0.75), expected, rtol=1e-6, atol=1e-7)


def test_what_does_not_change_stays_exactly():
    params = tree(0)
    average = ema(init_ema(params), params, 0.9999)
    jax.tree.map(assert_array_equal, floats(average), floats(params))


def test_leaves_without_floats_are_those_of_the_parameters():
    average = ema(init_ema(tree(0, step=3)), tree(1, step=7), 0.9)
    assert average["step"] == 7
    assert average["key"] == jax.random.key(7)
    assert average["none"] is None


def test_the_average_of_16_bit_parameters_is_kept_in_float32():
    start, end = {"w": jnp.ones(1, jnp.bfloat16)}, {"w": jnp.full(1, 2, jnp.bfloat16)}
    average = init_ema(start)
    for _ in range(3):
        average = ema(average, end, 0.999)
    assert average["w"].dtype == jnp.float32
    assert_allclose(average["w"], 2 - 0.999**3, rtol=1e-6)  # bfloat16 would still be at 1
    with pytest.raises(ValueError, match=r"average at \['w'\] is bfloat16.* init_ema"):
        ema(start, end, 0.999)


def test_the_first_average_is_a_copy():
    params = tree(0)
    average = init_ema(params)
    jax.jit(lambda params: jax.tree.map(lambda x: x, params), donate_argnums=0)(params)
    assert params["encoder"]["w"].is_deleted()
    close(average, tree(0), rtol=0)


def test_a_traced_decay_warms_up():
    @jax.jit
    def step(average, params, step):
        return ema(average, params, ema_decay(step, 0.99))

    old, new = tree(0), tree(1)
    for number, decay in ((0, 0.1), (8, 0.5), (10_000, 0.99)):
        expected = [
            decay * a + (1 - decay) * b for a, b in zip(floats(old), floats(new), strict=True)
        ]
        actual = floats(step(old, new, number))
        for one, other in zip(actual, expected, strict=True):
            assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_outside_0_to_1_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\]"):
        ema(tree(), tree(), decay)


# Soup --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        (None, [1 / 3, 1 / 3, 1 / 3]),
        ([1, 2, 5], [1 / 8, 2 / 8, 5 / 8]),
        ((0.0, 0.5, 0.0), [0, 1, 0]),
        (np.array([3.0, 1.0, 0.0]), [3 / 4, 1 / 4, 0]),
    ],
)
def test_a_soup_is_the_weighted_average(weights, shares):
    trees = [tree(i, step=i) for i in range(3)]
    mixed = soup(trees, weights)
    for i, leaf in enumerate(floats(mixed)):
        expected = sum(share * floats(t)[i] for share, t in zip(shares, trees, strict=True))
        assert_allclose(leaf, expected, rtol=1e-5, atol=1e-6)
    assert mixed["step"] == 0
    assert mixed["key"] == jax.random.key(0)


def test_a_soup_adds_up_in_float32():
    trees = [{"w": jnp.full(1, x, jnp.bfloat16)} for x in [256.0] + [1.0] * 7]
    mixed = soup(trees)["w"]
    assert mixed.dtype == jnp.bfloat16
    assert mixed[0] == jnp.asarray(32.875, jnp.bfloat16)  # added up in bfloat16 it were 32


def test_weights_of_a_soup_can_be_learnt():
    trees, target = [tree(i) for i in range(3)], tree(1)

    def distance(logits):
        mixed = soup(trees, jax.nn.softmax(logits))
        return sum(jnp.sum((mixed[k] - target[k]) ** 2) for k in ("scale",))

    gradient = jax.jit(jax.grad(distance))(jnp.zeros(3))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e-3


@pytest.mark.parametrize(
    ("trees", "weights", "message"),
    [
        ([], None, "at least one tree"),
        ([tree(), tree()], [1.0], r"one per tree, 2; got \(1,\)"),
        ([tree(), tree()], [1.0, -1.0], r"more than 0; got \[1.0, -1.0\]"),
        ([tree(), tree()], (0, 0), r"more than 0; got \(0, 0\)"),
    ],
)
def test_a_soup_of_nothing_is_refused(trees, weights, message):
    with pytest.raises(ValueError, match=message):
        soup(trees, weights)


# Spherical ---------------------------------------------------------------------------------------


def spherical(left, right, t):
    """Shoemake's formula in float64; mergekit's without its linear region."""
    cosine = left.ravel() @ right.ravel() / np.linalg.norm(left) / np.linalg.norm(right)
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * left + np.sin(t * angle) * right) / np.sin(angle)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 1.5])
def test_slerp_is_the_formula_leaf_by_leaf(t):
    left, right = tree(0, step=3), tree(1)
    actual = jax.jit(slerp)(left, right, t)
    for one, a, b in zip(floats(actual), floats(left), floats(right), strict=True):
        expected = spherical(a, b, t) if a.ndim else (1 - t) * a + t * b  # one number: parallel
        assert_allclose(one, expected, rtol=1e-5, atol=1e-6)
    assert actual["step"] == 3
    assert actual["key"] == jax.random.key(3)


def test_the_ends_are_exact():
    left, right = tree(0), tree(1)
    jax.tree.map(assert_array_equal, floats(slerp(left, right, 0.0)), floats(left))
    jax.tree.map(assert_array_equal, floats(slerp(left, right, 1.0)), floats(right))


@pytest.mark.parametrize("angle", [1e-6, 1e-3, 0.02, 1.0, 3.0])
def test_slerp_keeps_the_length_and_divides_the_angle(angle):
    left = np.array([3.0, 0.0, 4.0])
    across = np.array([0.0, 5.0, 0.0])
    at = lambda angle: np.cos(angle) * left + np.sin(angle) * across  # noqa: E731
    trees = [{"w": jnp.asarray(x, jnp.float32)} for x in (left, at(angle))]
    for t in (0.25, 0.5):
        middle = np.asarray(slerp(trees[0], trees[1], t)["w"])
        assert_allclose(middle, at(t * angle), rtol=1e-5, atol=1e-5 * angle)
        assert_allclose(np.linalg.norm(middle), 5, rtol=1e-6)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0, 2.0], [2.0, 4.0]),
        ([1.0, 2.0], [-2.0, -4.0]),
        ([0.0, 0.0], [1.0, 2.0]),
        ([1.0, 2.0], [0.0, 0.0]),
        ([0.0, 0.0], [0.0, 0.0]),
    ],
    ids=["equal", "parallel", "opposite", "left zero", "right zero", "both zero"],
)
def test_without_an_angle_slerp_is_linear_and_has_gradients(left, right):
    left, right = jnp.array(left), jnp.array(right)
    out, pullback = jax.vjp(jax.jit(lambda a, b: slerp(a, b, 0.25)), left, right)
    assert_allclose(out, 0.75 * left + 0.25 * right, rtol=1e-6)
    of_left, of_right = pullback(jnp.array([1.0, -3.0]))
    assert_allclose(of_left, [0.75, -2.25], rtol=1e-6)
    assert_allclose(of_right, [0.25, -0.75], rtol=1e-6)


def test_slerp_has_gradients_of_trees_and_of_t():
    with jax.enable_x64(True):
        left, right = (jnp.asarray(np.random.default_rng(i).normal(size=4)) for i in range(2))
        check_grads(jax.jit(slerp), (left, right, jnp.asarray(0.3)), order=1, modes=["rev"])


def test_slerp_keeps_the_dtypes_of_the_left_tree():
    merged = slerp(tree(0, jnp.bfloat16), tree(1), 0.5)
    assert merged["encoder"]["w"].dtype == jnp.bfloat16
    close(merged, slerp(tree(0, jnp.bfloat16), tree(1, jnp.bfloat16), 0.5), rtol=2e-2, atol=2e-2)


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "merge",
    [lambda a, b: ema(a, b, 0.9), lambda a, b: soup([a, b]), lambda a, b: slerp(a, b, 0.5)],
    ids=["ema", "soup", "slerp"],
)
def test_trees_that_differ_are_refused_by_the_name_of_the_leaf(merge):
    params = tree()
    more = params | {"encoder": params["encoder"] | {"b": jnp.zeros(2)}}
    leaf = r"\['encoder'\]\['b'\]"
    with pytest.raises(ValueError, match=f"tree 1 has a leaf {leaf}, tree 0 has none"):
        merge(params, more)
    with pytest.raises(ValueError, match=f"tree 0 has a leaf {leaf}, tree 1 has none"):
        merge(more, params)
    other = params | {"layers": [jnp.zeros((5, 2))]}
    with pytest.raises(ValueError, match=r"\['layers'\]\[0\].*; got \(5,\) and \(5, 2\)"):
        merge(params, other)


def test_trees_of_numpy_arrays_are_taken_too():
    left, right = ({"w": np.full(3, x, np.float32), "scale": x} for x in (1.0, 3.0))
    for mean in (ema(init_ema(left), right, 0.5), soup([left, right]), slerp(left, right, 0.5)):
        close(mean, {"w": jnp.full(3, 2.0), "scale": jnp.asarray(2.0)}, rtol=1e-6)


def test_averages_work_on_sharded_trees():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    left, right = ({"w": jnp.asarray(np.random.default_rng(i).normal(size=(4, 3)))} for i in (0, 1))
    spread = jax.device_put((left, right), sharding)

    @jax.jit
    def all_of_them(left, right):
        return ema(left, right, 0.9), soup([left, right]), slerp(left, right, 0.3)

    for one, other in zip(all_of_them(*spread), all_of_them(left, right), strict=True):
        assert one["w"].sharding.is_equivalent_to(sharding, 2)
        assert_allclose(one["w"], other["w"], rtol=1e-5, atol=1e-6)
