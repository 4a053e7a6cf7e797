"""Around or inside other transforms, over two devices, a loss is what it is on one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxembed.losses import mega_batch_margin_loss, multiple_negatives_ranking_loss
from jaxembed.transforms import adaptive_layer, matryoshka, over_mesh, quantized

N, LAYERS, D = 8, 3, 6
WHERE = np.arange(N) != 2
ranking = multiple_negatives_ranking_loss


def widths(loss):
    return matryoshka(loss, (D, 4), (1.0, 0.5))


def layers(loss):
    return adaptive_layer(loss, -1, layer_weighting="linear")


# What is around, what is inside, and which of them are of layers.
NESTED = {
    "matryoshka": (widths, False),
    "adaptive_layer": (layers, True),
    "int8": (quantized, False),
    "binary": (functools.partial(quantized, precision="binary"), False),
    "2d": (lambda loss: layers(widths(loss)), True),
    "matryoshka of int8": (lambda loss: widths(quantized(loss)), False),
    "int8 of matryoshka": (lambda loss: quantized(widths(loss)), False),
    "int8 of layers": (lambda loss: quantized(layers(loss)), True),
    "layers of int8": (lambda loss: layers(quantized(loss)), True),
}


def columns(of_layers):
    rng = np.random.default_rng(0)
    shape = (N, LAYERS, D) if of_layers else (N, D)
    arrays = rng.normal(size=(3, *shape))
    negatives = np.stack([arrays[2], rng.normal(size=shape)], axis=1)  # [n 2 ...]
    made = arrays[0], arrays[0] + arrays[1], negatives
    return [jnp.asarray(x, jnp.float32).at[2].set(jnp.nan) for x in made]  # where says False


def value_and_grad(loss, arrays, **keywords):
    run = lambda arrays: loss(*arrays, where=jnp.asarray(WHERE), **keywords)  # noqa: E731
    return jax.jit(jax.value_and_grad(run))(arrays)


def mesh(axis_type=AxisType.Auto):
    return jax.make_mesh((2,), ("data",), axis_types=(axis_type,))


def assert_equal(actual, expected):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), actual, expected
    )


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("name", NESTED)
def test_over_mesh_goes_around_every_wrapper(name, ring):
    wrap, of_layers = NESTED[name]
    arrays = columns(of_layers)
    around = over_mesh(wrap(ranking), mesh(), block_size=4, ring=ring)
    assert_equal(value_and_grad(around, arrays), value_and_grad(wrap(ranking), arrays))


@pytest.mark.parametrize("name", NESTED)
def test_every_wrapper_goes_around_over_mesh(name):
    wrap, of_layers = NESTED[name]
    arrays = columns(of_layers)
    inside = wrap(over_mesh(ranking, mesh(), block_size=4))
    assert_equal(value_and_grad(inside, arrays), value_and_grad(wrap(ranking), arrays))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_arrays_of_no_row_are_those_of_every_device(axis_type):
    ranges = jnp.array([[-2.0] * D, [2.0] * D])
    key = jax.random.PRNGKey(0)  # two words, which are no rows
    loss = matryoshka(quantized(ranking), (D,), n_dims_per_step=-1)
    arrays, keywords = columns(False), {"ranges": ranges, "key": key, "scale": jnp.array(5.0)}
    expected = value_and_grad(loss, arrays, **keywords)
    with jax.set_mesh(mesh(axis_type)):
        around = over_mesh(loss, mesh(axis_type), block_size=4)
        assert_equal(value_and_grad(around, arrays, **keywords), expected)


def test_columns_by_keyword_and_in_numpy():
    anchors, positives, negatives = columns(False)
    loss = over_mesh(ranking, mesh())
    named = loss(
        where=WHERE,
        positives=np.asarray(positives),
        anchors=np.asarray(anchors),
        negatives=np.asarray(negatives),
    )
    expected = ranking(anchors, positives, negatives, where=WHERE)
    np.testing.assert_allclose(named, expected, rtol=1e-6)
    assert_equal(
        loss(anchors, positives, None, where=WHERE), ranking(anchors, positives, where=WHERE)
    )


def test_no_columns_are_refused_by_the_loss():
    with pytest.raises(ValueError, match="takes the arrays anchors, positives; got 0"):
        over_mesh(mega_batch_margin_loss, mesh())()


def test_a_block_size_and_arrays_that_are_bound_or_in_the_call_are_kept():
    arrays = columns(False)
    ids = jnp.arange(2 * N, dtype=jnp.uint32).reshape(N, 2)
    bound = {"block_size": 4, "where": jnp.asarray(WHERE), "anchor_ids": ids}
    partial = functools.partial
    several = {
        "over_mesh": (over_mesh(ranking, mesh(), block_size=4), bound | {"block_size": None}),
        "partial": (over_mesh(partial(ranking, **bound), mesh()), {}),
        "partials": (over_mesh(partial(partial(ranking, **bound), scale=20.0), mesh()), {}),
        "call": (over_mesh(ranking, mesh()), bound),
        "call before over_mesh": (over_mesh(ranking, mesh(), block_size=2), bound),
    }
    programs = {
        name: jax.jit(lambda *x, of=of, more=more: of(*x, **more)).lower(*arrays).as_text()
        for name, (of, more) in several.items()
    }
    assert len({*programs.values()}) == 1
    assert "while" in programs["call"]
    inside = over_mesh(widths(partial(ranking, block_size=4)), mesh())
    expected = over_mesh(widths(ranking), mesh(), block_size=4)
    texts = [jax.jit(lambda *x, of=of: of(*x)).lower(*arrays) for of in (inside, expected)]
    assert texts[0].as_text() == texts[1].as_text()


def test_an_axis_name_of_the_loss_is_refused():
    for loss, more in (
        (functools.partial(ranking, axis_name="data"), {}),
        (ranking, {"axis_name": "data"}),
    ):
        with pytest.raises(ValueError, match=r"over_mesh sets the axis_name .* got 'data'"):
            over_mesh(loss, mesh())(*columns(False), **more)


@pytest.mark.parametrize("name", ["int8", "adaptive_layer", "matryoshka"])
def test_a_mask_bound_by_partial_is_a_mask(name):
    wrap, of_layers = NESTED[name]
    arrays = columns(of_layers)
    bound = wrap(functools.partial(ranking, where=jnp.asarray(WHERE)))
    expected = wrap(ranking)(*arrays, where=jnp.asarray(WHERE))
    np.testing.assert_allclose(bound(*arrays), expected, rtol=1e-6)
