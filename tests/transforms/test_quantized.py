"""Quantisation: the values that are stored, gradients straight through, masks, composition."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from numpy.testing import assert_allclose, assert_array_equal

from jaxembed import losses
from jaxembed.similarity import dot, euclidean, unit
from jaxembed.transforms.matryoshka import matryoshka
from jaxembed.transforms.quantized import binary_levels, int8_levels, quantized, ranges_of

pytestmark = pytest.mark.usefixtures("strict_promotion")

N, K, D = 6, 3, 8
ranking = losses.multiple_negatives_ranking_loss
PRECISIONS = ("int8", "binary")
bits_of, int8, span = jax.jit(binary_levels), jax.jit(int8_levels), jax.jit(ranges_of)


def value_and_grad(function):
    return jax.jit(jax.value_and_grad(function))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def columns(n=N):
    anchors = normal(n, D)
    return anchors, 0.7 * anchors + normal(n, D, seed=1), normal(n, K, D, seed=2)


def stored_codes(embeddings, ranges):
    """The codes of sentence-transformers 6.2, and how far each value is from a bucket's edge."""
    starts, steps = ranges[0], (ranges[1] - ranges[0]) / 255
    buckets = (embeddings - starts) / np.where(steps == 0, 1, steps)
    codes = np.clip(np.floor(buckets), 0, 255) - 128
    return codes, np.abs(buckets - np.round(buckets))


def codes_of(levels, ranges):
    steps = (ranges[1] - ranges[0]) / 255
    return np.round((np.asarray(levels, np.float64) - ranges[0]) / steps - 128.5)


# The functions -----------------------------------------------------------------------------------


def test_ranges_are_those_of_the_real_rows():
    x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    where = np.array([True, False, True, True, False])
    slots = np.random.default_rng(1).random((5, 3)) < 0.7
    expected = x[where].reshape(-1, 4)
    dirty = jnp.asarray(np.where(where[:, None, None], x, np.nan))
    assert_array_equal(
        span(dirty, jnp.asarray(where)), [expected.min(axis=0), expected.max(axis=0)]
    )
    dirty = jnp.asarray(np.where(slots[..., None], x, np.nan))
    assert_array_equal(
        span(dirty, jnp.asarray(slots)), [x[slots].min(axis=0), x[slots].max(axis=0)]
    )
    assert_array_equal(span(jnp.asarray(x)), [x.min(axis=(0, 1)), x.max(axis=(0, 1))])


def test_ranges_of_nothing_are_zero_and_those_of_nan_are_nan():
    assert_array_equal(span(jnp.full((2, 3), jnp.nan), jnp.zeros(2, bool)), np.zeros((2, 3)))
    assert np.isnan(span(jnp.array([[jnp.nan, 1.0], [0.0, 1.0]]))[:, 0]).all()


@pytest.mark.parametrize("compiled", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_levels_have_the_codes_that_are_stored(compiled):
    x = np.random.default_rng(0).normal(size=(300, D))
    queries = 1.5 * np.random.default_rng(1).normal(size=(300, D))  # some are clipped
    ranges = np.stack([x.min(axis=0), x.max(axis=0)])
    codes, from_edge = stored_codes(queries, ranges)
    levels = compiled(int8_levels)(
        jnp.asarray(queries, jnp.float32), jnp.asarray(ranges, jnp.float32)
    )
    clear = from_edge > 1e-3
    assert clear.mean() > 0.99
    assert codes.min() == -128
    assert codes.max() == 127
    assert_array_equal(codes_of(levels, ranges)[clear], codes[clear])


def test_a_level_has_the_same_level_again():
    ranges = jnp.array([[-0.3, 0.0], [0.3, 1e-3]], jnp.float32)
    low, high = np.asarray(ranges, np.float64)
    every_code = low + (np.arange(256)[:, None] + 0.5) * (high - low) / 255
    levels = int8(jnp.asarray(every_code, jnp.float32), ranges)
    assert_array_equal(codes_of(levels, np.asarray(ranges)), np.arange(256)[:, None] - [128, 128])
    assert_array_equal(int8(levels, ranges), levels)


def test_levels_are_at_most_half_a_step_off_and_right_on_average():
    ranges = jnp.array([[-1.0], [1.0]])
    x = jnp.linspace(-1, 1, 10_001)[:, None]
    error = np.asarray(int8(x, ranges) - x)
    step = 2 / 255
    assert np.abs(error).max() <= step / 2 * 1.001
    assert abs(error.mean()) < step / 500


def test_gradients_are_one_within_the_range_and_zero_outside():
    ranges = jnp.array([[-1.0, -1.0, -1.0, -1.0, -1.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    x = jnp.array([[-1.01, -1.0, 0.3, 1.0, 1.01]])
    weights = jnp.array([[3.0, -2.0, 5.0, 7.0, 11.0]])
    gradient = jax.grad(lambda x: jnp.sum(weights * int8(x, ranges)))(x)
    assert_array_equal(gradient, [[0, -2, 5, 7, 0]])
    _, tangent = jax.jvp(lambda x: int8(x, ranges), (x,), (weights,))
    assert_array_equal(tangent, [[0, -2, 5, 7, 0]])


def test_ranges_are_constants():
    ranges = jnp.array([[-1.0], [1.0]])
    gradient = jax.grad(lambda r: jnp.sum(int8(jnp.array([[0.3], [2.0]]), r)))(ranges)
    assert_array_equal(gradient, np.zeros((2, 1)))


def test_a_constant_feature_keeps_its_value_and_gradient():
    x = jnp.array([[0.25, 1.0], [0.25, 2.0]])
    levels, pullback = jax.vjp(lambda x: int8(x, span(x)), x)
    assert_array_equal(levels[:, 0], [0.25, 0.25])
    assert_array_equal(pullback(jnp.ones_like(x))[0], np.ones((2, 2)))
    assert_array_equal(int8(jnp.array([[0.5]]), jnp.array([[0.25], [0.25]])), [[0.25]])


def test_infinite_values_are_clipped_and_nan_stays():
    ranges = jnp.array([[-1.0] * 3, [1.0] * 3])
    levels = int8(jnp.array([[-jnp.inf, jnp.inf, jnp.nan]]), ranges)
    assert_allclose(levels[0, :2], [-1 + 1 / 255, 1 + 1 / 255], rtol=1e-6)
    assert np.isnan(levels[0, 2])
    assert np.isnan(bits_of(jnp.array([[jnp.nan, 1.0]]))).any()


def test_bits_are_those_of_packbits_and_have_length_one():
    x = normal(20, 16).at[0, :3].set(jnp.array([0.0, -0.0, 1e-30]))
    levels = bits_of(x)
    bits = np.unpackbits(np.packbits(np.asarray(x) > 0, axis=-1), axis=-1)
    assert_array_equal(levels > 0, bits.astype(bool))
    assert_array_equal(np.abs(levels), np.full((20, 16), 0.25))
    hamming = (bits[:, None] != bits[None]).sum(axis=-1)
    assert_allclose(dot(levels, levels), 1 - 2 * hamming / 16, atol=1e-6)


def test_gradients_of_bits_are_those_of_the_unit_vector():
    x, weights = 3 * normal(5, D), normal(5, D, seed=1)
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    u = np.asarray(x) / length
    expected = (weights - u * np.sum(weights * u, axis=-1, keepdims=True)) / length
    gradient = jax.grad(lambda x: jnp.sum(weights * bits_of(x)))(x)
    assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_a_zero_vector_has_bits_and_no_gradient():
    levels, pullback = jax.vjp(bits_of, jnp.zeros((1, 4)))
    assert_array_equal(levels, [[-0.5] * 4])
    assert_array_equal(pullback(jnp.ones((1, 4)))[0], np.zeros((1, 4)))


@pytest.mark.parametrize(
    "levels", [bits_of, partial(int8, ranges=jnp.ones((2, D)))], ids=PRECISIONS[::-1]
)
def test_levels_are_float32_at_least(levels):
    assert levels(normal(2, D).astype(jnp.bfloat16)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert levels(jnp.ones((2, D), jnp.float64)).dtype == jnp.float64


def test_ranges_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"ranges must be \[2 d\], \(2, 8\); got \(2, 4\)"):
        int8(normal(2, D), jnp.zeros((2, 4)))


# The transform -----------------------------------------------------------------------------------


plain = jax.jit(ranking)


def expected_columns(arrays, precision, chosen=(0, 1, 2)):
    ranges = span(jnp.concatenate([arrays[i].reshape(-1, arrays[i].shape[-1]) for i in chosen]))
    levels = bits_of if precision == "binary" else partial(int8, ranges=ranges)
    return [levels(x) if i in chosen else x for i, x in enumerate(arrays)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_loss_sees_the_levels_of_all_columns(precision):
    arrays = columns()
    expected = plain(*expected_columns(arrays, precision))
    assert_allclose(jax.jit(quantized(ranking, precision))(*arrays), expected, rtol=1e-5)
    assert abs(expected - plain(*arrays)) > 1e-5


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_the_named_columns_are_quantised(precision):
    arrays = columns()
    documents = quantized(ranking, precision, columns=("positives", "negatives"))
    expected = plain(*expected_columns(arrays, precision, chosen=(1, 2)))
    assert_allclose(jax.jit(documents)(*arrays), expected, rtol=1e-5)
    assert abs(expected - plain(*expected_columns(arrays, precision))) > 1e-5


@pytest.mark.parametrize("precision", PRECISIONS)
def test_columns_by_keyword_are_columns(precision):
    anchors, positives, negatives = columns()
    loss = jax.jit(quantized(ranking, precision))
    expected = loss(anchors, positives, negatives)
    assert_allclose(loss(anchors, positives, negatives=negatives), expected, rtol=1e-6)
    by_name = loss(negatives=negatives, positives=positives, anchors=anchors)
    assert_allclose(by_name, expected, rtol=1e-6)


def test_given_ranges_are_used_and_shown_in_the_signature():
    arrays = columns()
    ranges = jnp.array([[-0.5] * D, [0.4] * D])
    loss = quantized(ranking)
    expected = plain(*[int8(x, ranges) for x in arrays])
    assert_allclose(jax.jit(loss)(*arrays, ranges=ranges), expected, rtol=1e-5)
    assert inspect.signature(loss).parameters["ranges"].default is None
    assert list(inspect.signature(loss).parameters)[:3] == ["anchors", "positives", "negatives"]
    assert "ranges" not in inspect.signature(quantized(ranking, "binary")).parameters
    assert getattr(loss, "__name__", "") == ranking.__name__


@pytest.mark.parametrize("precision", PRECISIONS)
def test_masked_rows_change_nothing_and_have_no_gradient(precision):
    arrays = columns(N + 2)
    where = jnp.arange(N + 2) < N
    slots = jnp.asarray(np.random.default_rng(3).random((N + 2, K)) < 0.6)

    def loss(arrays, where, slots):
        return quantized(ranking, precision)(*arrays, where=where, negatives_where=slots)

    anchors, positives, negatives = arrays
    dirty = (
        anchors.at[N:].set(jnp.nan),
        positives.at[N:].set(jnp.inf),
        jnp.where((where[:, None] & slots)[..., None], negatives, jnp.nan),
    )
    value, gradients = value_and_grad(loss)(dirty, where, slots)
    short = jax.tree.map(lambda x: x[:N], (arrays, slots))
    expected, expected_gradients = value_and_grad(loss)(short[0], None, short[1])
    assert_allclose(value, expected, rtol=1e-5)
    for gradient, of_short in zip(gradients, expected_gradients, strict=True):
        assert_allclose(gradient[:N], of_short, rtol=1e-4, atol=1e-6)
        assert_array_equal(gradient[N:], np.zeros_like(gradient[N:]))
    assert_array_equal(np.asarray(gradients[2])[~np.asarray(slots)], 0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_batch_without_real_rows_is_zero(precision):
    loss = lambda arrays: quantized(ranking, precision)(*arrays, where=jnp.zeros(N, bool))  # noqa: E731
    value, gradients = value_and_grad(loss)([jnp.full_like(x, jnp.nan) for x in columns()])
    assert value == 0
    assert all((gradient == 0).all() for gradient in gradients)


def test_a_column_without_real_rows_does_not_widen_the_ranges():
    anchors, positives, negatives = columns()
    anchors, positives = jnp.abs(anchors) + 3, jnp.abs(positives) + 3
    loss = jax.jit(quantized(ranking))
    nowhere = jnp.zeros((N, K), bool)
    value = loss(anchors, positives, negatives, negatives_where=nowhere)
    assert_allclose(value, loss(anchors, positives), rtol=1e-5)


def test_tokens_that_are_not_real_do_not_count():
    loss = losses.multi_vector_multiple_negatives_ranking_loss
    queries, documents = normal(4, 3, D), normal(4, 2, 5, D, seed=1)
    masks = {
        "query_mask": jnp.arange(3)[None, :] < jnp.array([3, 2, 1, 3])[:, None],
        "document_mask": jnp.arange(5)[None, None, :] < jnp.array([[5, 4]] * 4)[..., None],
    }
    huge = (
        jnp.where(masks["query_mask"][..., None], queries, 1e9),
        jnp.where(masks["document_mask"][..., None], documents, jnp.nan),
    )
    for precision in PRECISIONS:
        run = value_and_grad(lambda x, precision=precision: quantized(loss, precision)(*x, **masks))
        value, gradients = run((queries, documents))
        dirty, dirty_gradients = run(huge)
        assert_allclose(dirty, value, rtol=1e-6)
        for one, other in zip(gradients, dirty_gradients, strict=True):
            assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_gradients_are_those_of_the_loss_at_the_levels(precision):
    """Straight through: the loss's gradient at the levels, times that of clip or unit vector."""
    arrays = columns()
    ranges = jnp.array([[-1.0] * D, [1.2] * D])
    rest = {"ranges": ranges} if precision == "int8" else {}
    loss = quantized(partial(ranking, similarity_fn=euclidean), precision)
    gradients = value_and_grad(lambda arrays: loss(*arrays, **rest))(arrays)[1]
    levels = [int8(x, ranges) if rest else bits_of(x) for x in arrays]
    at_levels = value_and_grad(lambda x: ranking(*x, similarity_fn=euclidean))(levels)[1]
    for x, gradient, g in zip(arrays, gradients, at_levels, strict=True):
        if precision == "int8":
            expected = np.where((x >= -1.0) & (x <= 1.2), g, 0)
            assert (expected == 0).any()
        else:
            length = np.linalg.norm(x, axis=-1, keepdims=True)
            u = x / length
            expected = (g - u * np.sum(g * u, axis=-1, keepdims=True)) / length
        assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_binary_gradients_shrink_with_the_length_like_those_of_the_floats():
    anchors, positives, _ = columns()
    for loss in (ranking, quantized(ranking, "binary")):
        gradient = jax.jit(jax.grad(loss))
        assert_allclose(
            gradient(10 * anchors, positives), gradient(anchors, positives) / 10, atol=1e-6
        )


def test_layers_pass_through():
    def loss(left, right, *, where=None):  # [n l d]
        return jnp.mean(jnp.exp(jnp.sum(left * right, axis=-1)))

    left, right = normal(4, 2, D), normal(4, 2, D, seed=1)
    expected = loss(bits_of(left), bits_of(right))
    assert_allclose(jax.jit(quantized(loss, "binary"))(left, right), expected, rtol=1e-5)
    ranges = span(jnp.concatenate([left, right]))
    expected = loss(int8(left, ranges), int8(right, ranges))
    assert_allclose(jax.jit(quantized(loss))(left, right), expected, rtol=1e-5)


def test_keys_and_other_keywords_reach_the_loss():
    def loss(left, right, *, key, scale=1.0, **rest):
        return scale * jnp.sum(left * jax.random.normal(key, left.shape)) + rest["extra"]

    arrays, key = columns()[:2], jax.random.key(0)
    for precision in PRECISIONS:
        value = jax.jit(quantized(loss, precision))(*arrays, key=key, scale=2.0, extra=100.0)
        levels = expected_columns(arrays, precision, chosen=(0, 1))
        assert_allclose(value, loss(*levels, key=key, scale=2.0, extra=100.0), rtol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_width_of_a_matryoshka_loss_is_quantised(precision):
    arrays = columns()
    dirty, where = [x.at[-1].set(jnp.nan) for x in arrays], jnp.arange(N) < N - 1
    outside = jax.jit(quantized(matryoshka(ranking, dims=(4, D)), precision))(*dirty, where=where)
    inside = jax.jit(matryoshka(quantized(ranking, precision), dims=(4, D)))(*dirty, where=where)
    short = [x[:-1] for x in arrays]
    expected_outside = sum(
        plain(*[unit(x[..., :k]) for x in expected_columns(short, precision)]) for k in (4, D)
    )
    expected_inside = sum(
        plain(*expected_columns([unit(x[..., :k]) for x in short], precision)) for k in (4, D)
    )
    assert_allclose(outside, expected_outside, rtol=1e-4)
    assert_allclose(inside, expected_inside, rtol=1e-4)


def test_queries_in_int8_search_documents_in_bits():
    anchors, positives, negatives = columns()
    mixed = quantized(
        quantized(ranking, "int8", ("anchors",)), "binary", ("positives", "negatives")
    )
    ranges = jnp.array([[-2.0] * D, [2.0] * D])
    expected = plain(int8(anchors, ranges), bits_of(positives), bits_of(negatives))
    value = jax.jit(mixed)(anchors, positives, negatives, ranges=ranges)
    assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_vmap_gives_the_same(precision):
    loss, arrays = quantized(ranking, precision), columns()
    two = jax.tree.map(lambda x: np.stack([x, 2 * x[::-1]]), arrays)
    each = [jax.jit(loss)(*[x[i] for x in two]) for i in range(2)]
    assert_allclose(jax.jit(jax.vmap(loss))(*two), np.stack(each), rtol=1e-5)


def test_numpy_arrays_are_columns_and_masks_too():
    def loss(embeddings, *, where=None):
        return embeddings[where]

    embeddings, where = normal(4, D), jnp.arange(4) < 3
    value = quantized(loss)(np.asarray(embeddings), where=np.asarray(where))
    assert_allclose(value, int8(embeddings[:3], span(embeddings[:3])), rtol=1e-6)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_two_devices_give_the_same(axis_type):
    loss = value_and_grad(lambda x: quantized(ranking)(*x))
    arrays = columns()
    expected = loss(arrays)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        spread = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data")))
        actual = loss(spread)
    jax.tree.map(partial(assert_allclose, rtol=1e-4, atol=1e-6), actual, expected)


def test_ranges_span_all_devices_along_the_axis_name():
    loss, arrays, where = quantized(ranking), columns(), jnp.arange(N) != 4
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("data")
    over_devices = jax.shard_map(
        lambda x, where: loss(*x, where=where, axis_name="data"),
        mesh=mesh,
        in_specs=(rows, rows),
        out_specs=PartitionSpec(),
    )
    actual = value_and_grad(over_devices)(arrays, where)
    expected = value_and_grad(lambda x, where: loss(*x, where=where))(arrays, where)
    jax.tree.map(partial(assert_allclose, rtol=1e-4, atol=1e-6), actual, expected)


def test_training_with_bits_brings_the_bits_of_pairs_together():
    anchors, positives, _ = columns(8)

    def objective(params):
        a, p = anchors @ params, positives @ params
        return ranking(a, p) + quantized(ranking, "binary")(a, p)

    @jax.jit
    def step(params):
        return jax.tree.map(lambda p, g: p - 0.3 * g, params, jax.grad(objective)(params))

    def loss_of_bits(params):
        return float(quantized(ranking, "binary")(anchors @ params, positives @ params))

    start = params = normal(D, 16, seed=5)
    for _ in range(30):
        params = step(params)
    assert loss_of_bits(params) < 0.5 * loss_of_bits(start)


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("int4",), r"precision must be one of \['int8', 'binary'\]; got 'int4'"),
        (
            ("int8", ("queries",)),
            r"columns must be some of multiple_.*'anchors'.*; got \('queries',\)",
        ),
        (("int8", "anchors"), r"columns must be some of .*; got 'anchors'"),
        (("int8", ()), r"columns must be some of .*; got \(\)"),
        (("int8", ("where",)), r"columns must be some of .*; got \('where',\)"),
    ],
)
def test_unknown_choices_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        quantized(ranking, *arguments)


def test_a_loss_without_named_columns_is_refused():
    with pytest.raises(ValueError, match=r"splade_loss has columns without names, \*doc"):
        quantized(losses.splade_loss)


def test_a_second_int8_is_refused():
    with pytest.raises(ValueError, match="quantised to int8 already"):
        quantized(quantized(ranking, columns=("anchors",)), columns=("positives",))


def test_columns_of_different_widths_need_ranges():
    loss = quantized(lambda left, right: jnp.sum(left) + jnp.sum(right))
    with pytest.raises(ValueError, match=r"different widths need ranges .*'right': 4"):
        loss(normal(2, D), normal(2, 4))


def test_what_the_loss_refuses_stays_its_own_error():
    loss = partial(jax.eval_shape, quantized(ranking))
    with pytest.raises(ValueError, match=r"takes the arrays anchors.*; got 1"):
        loss(normal(N, D))
    with pytest.raises(ValueError, match=r"takes the arrays anchors.*; got 4"):
        loss(*columns(), normal(N, D))
    with pytest.raises(ValueError, match="where must be booleans"):
        loss(*columns(), where=jnp.ones(N))
    with pytest.raises(ValueError, match="multiple_negatives_ranking_loss takes no ranges"):
        quantized(ranking, "binary")(*columns(), ranges=jnp.ones((2, D)))

    def picky(embeddings, *, where):
        raise ValueError(f"where is {where.shape}")

    with pytest.raises(ValueError, match=r"where is \(5,\)"):
        quantized(picky, "binary")(normal(N, D), where=jnp.ones(N - 1, bool))
