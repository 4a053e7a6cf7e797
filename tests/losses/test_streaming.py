"""In blocks of rows, over devices and in a ring, every in-batch loss is what it is in one piece."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads
from jaxtyping import config

from jaxembed import similarity
from jaxembed.late_interaction import xtr
from jaxembed.losses import (
    contrastive_loss,
    gist_embed_loss,
    mega_batch_margin_loss,
    multi_vector_multiple_negatives_ranking_loss,
    multiple_negatives_ranking_loss,
    sigmoid_loss,
)
from jaxembed.losses.reduction import total
from jaxembed.mesh_axes import Ring
from jaxembed.transforms import over_mesh
from tests.losses.cases import CASES, RICHEST

N = 8
WHERE = np.array([True, True, False, True, False, True, True, True])
IN_BATCH = [case for case in CASES if "block_size" in inspect.signature(case.loss).parameters]
PLAIN: dict = {}  # the program of the case that is tested


def two_devices(axis_type=AxisType.Auto):
    return jax.make_mesh((2,), ("data",), axis_types=(axis_type,))


def inputs(case, dtype, seed=0):
    """Embeddings, own parameters and entries per row, with a mask and rubbish where it is False."""
    embeddings, rows = case.inputs(N, seed)
    where = case.expand_where(WHERE, (embeddings, rows))

    def to_jax(x):
        if x.dtype.kind != "f":
            return jnp.asarray(x)
        rubbish = np.where(WHERE.reshape(-1, *[1] * (x.ndim - 1)), x, np.nan)
        return jnp.asarray(rubbish, dtype)

    embeddings, rows = jax.tree.map(to_jax, (embeddings, rows))
    parameters = case.parameters(np.random.default_rng(seed))
    parameters = {name: jnp.asarray(x, dtype) for name, x in parameters.items()}
    return embeddings, parameters, {**rows, "where": jnp.asarray(where)}


def value_and_grad(case, loss, embeddings, parameters, rows, **keywords):
    def value(embeddings, parameters):
        return loss(*embeddings, **rows, **parameters, **case.settings, **keywords)

    return jax.value_and_grad(value, (0, 1))(embeddings, parameters)


def assert_equal(actual, expected, tolerance):
    def compare(a, e):
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        scale = np.abs(e).max() if e.size else 0
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance * (scale + 1e-3))

    jax.tree.map(compare, actual, expected)


def test_all_losses_over_the_batch_are_here():
    assert {case.name.split("-")[0] for case in IN_BATCH} == {
        "multiple_negatives_ranking_loss",
        "multiple_negatives_symmetric_ranking_loss",
        "gist_embed_loss",
        "mega_batch_margin_loss",
        "sigmoid_loss",
        "contrastive_tension_in_batch_negatives_loss",
        "angle_loss",
        "global_orthogonal_regularization_loss",
        "multi_vector_multiple_negatives_ranking_loss",
    }


def in_blocks(case):
    return case.loss, {"block_size": 3}


def gathered(case):
    return over_mesh(case.loss, two_devices(), block_size=4), {}


def in_a_ring(case):
    return over_mesh(case.loss, two_devices(), block_size=3, ring=True), {}


def ways_of(case):
    """The ways to compute a case; the fast lane takes the richest of each loss over devices."""
    for way in (in_blocks, gathered, in_a_ring):
        if "xtr" in case.name and way is not in_blocks:
            continue  # it looks at the documents of the whole batch
        fast = way is in_blocks or case in RICHEST
        marks = () if fast else pytest.mark.exhaustive
        yield pytest.param(case, way, id=f"{case.name}-{way.__name__}", marks=marks)


@pytest.mark.parametrize(("case", "way"), [param for case in IN_BATCH for param in ways_of(case)])
def test_blocks_devices_and_rings_compute_what_one_piece_does(case, way):
    with jax.enable_x64(True):
        arrays = inputs(case, jnp.float64)
        loss, keywords = way(case)
        run = jax.jit(functools.partial(value_and_grad, case, loss, **keywords))
        assert_equal(run(*arrays), unblocked(case, *arrays), 1e-10)


def unblocked(case, *arrays):
    """Value and gradients of the plain loss, compiled once for all ways."""
    if case not in PLAIN:
        PLAIN.clear()
        PLAIN[case] = jax.jit(functools.partial(value_and_grad, case, case.loss))
    return PLAIN[case](*arrays)


@pytest.mark.parametrize(
    "case", {case.loss: case for case in IN_BATCH}.values(), ids=lambda case: case.name
)
def test_not_a_number_in_a_real_row_shows(case):
    for row in (0, N - 1):  # of the first device, and of the last, in the first block and the last
        embeddings, parameters, rows = inputs(case, jnp.float32)
        embeddings = jax.tree.map(lambda x, row=row: x.at[row].set(jnp.nan), embeddings)
        losses = [functools.partial(case.loss, block_size=3)]
        if "xtr" not in case.name:
            losses += [over_mesh(case.loss, two_devices(), ring=ring) for ring in (False, True)]
        for loss in losses:
            value = jax.jit(functools.partial(loss, **rows, **parameters, **case.settings))(
                *embeddings
            )
            assert np.isnan(value)


@pytest.mark.parametrize("block_size", [1, 3, 5, N, 100])
def test_any_block_size_is_right_in_float32(block_size):
    for case in IN_BATCH:
        if case.name.endswith(("all_directions", "sigmoid_loss-default", "gist_embed_loss-ids")):
            arrays = inputs(case, jnp.float32)
            expected = jax.jit(functools.partial(value_and_grad, case, case.loss))(*arrays)
            run = functools.partial(value_and_grad, case, case.loss, block_size=block_size)
            assert_equal(jax.jit(run)(*arrays), expected, 1e-5)


@pytest.mark.parametrize("case", IN_BATCH[::6], ids=lambda case: case.name)
@pytest.mark.parametrize("check_vma", [True, False])
def test_gradients_inside_the_users_own_shard_map_are_right(case, check_vma):
    """A sum over devices that the types do not see is where others are silently wrong."""
    with jax.enable_x64(True):
        arrays = inputs(case, jnp.float64)
        expected = jax.jit(functools.partial(value_and_grad, case, case.loss))(*arrays)
        rows = PartitionSpec("data")
        for axis_name in ("data", Ring("data")):

            def per_device(embeddings, parameters, rows, axis_name=axis_name):
                keywords = {**rows, **parameters, **case.settings}
                return case.loss(*embeddings, **keywords, block_size=4, axis_name=axis_name)

            loss = jax.shard_map(
                per_device,
                mesh=two_devices(),
                in_specs=(rows, PartitionSpec(), rows),
                out_specs=PartitionSpec(),
                check_vma=check_vma,
            )
            actual = jax.jit(jax.value_and_grad(loss, (0, 1)))(*arrays)
            assert_equal(actual, expected, 1e-10)


def pair(n=N, d=6, dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    anchors = rng.normal(size=(n, d))
    return jnp.asarray(anchors, dtype), jnp.asarray(anchors + rng.normal(size=(n, d)), dtype)


ranking = functools.partial(multiple_negatives_ranking_loss, block_size=3)


def test_derivatives_of_either_mode_and_of_second_order():
    with jax.enable_x64(True):
        anchors, positives = pair(dtype=jnp.float64)
        directions = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
        streamed = functools.partial(ranking, directions=directions)
        check_grads(jax.jit(streamed), (anchors, positives), 2, modes=("fwd", "rev"), rtol=1e-4)

        def curvature(loss):
            slopes = lambda *x: jax.jvp(jax.grad(loss), x, (positives, anchors))[1]  # noqa: E731
            return jax.jit(slopes)(anchors, positives)

        plain = functools.partial(multiple_negatives_ranking_loss, directions=directions)
        assert_equal(curvature(streamed), curvature(plain), 1e-9)


def test_vmap_checkpoint_and_a_traced_scale():
    batches = [pair(seed=seed) for seed in range(3)]
    anchors, positives = (jnp.stack(x) for x in zip(*batches, strict=True))
    scales = jnp.array([1.0, 10.0, 20.0])

    def gradients(loss):
        one = lambda a, p, s: loss(a, p, scale=s)  # noqa: E731
        return jax.vmap(jax.value_and_grad(jax.checkpoint(one), (0, 1, 2)))(
            anchors, positives, scales
        )

    assert_equal(gradients(ranking), gradients(multiple_negatives_ranking_loss), 1e-5)


def test_vmap_over_masks_ids_and_margins():
    anchors, positives = pair()
    ids = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, N, 2)), jnp.uint32)
    where = jnp.asarray(np.random.default_rng(1).random((2, N)) < 0.7)
    margins = jnp.array([-0.5, 0.0])

    def gradients(loss):
        def one(ids, where, margin):
            value = lambda a: loss(  # noqa: E731
                a, positives, ids=ids, where=where, false_negative_margin=margin
            )
            return jax.value_and_grad(value)(anchors)

        return jax.vmap(one)(ids, where, margins)

    assert_equal(gradients(ranking), gradients(multiple_negatives_ranking_loss), 1e-5)


def test_bfloat16_embeddings_are_raised_before_anything_is_summed():
    anchors, positives = pair(n=64, dtype=jnp.bfloat16)
    for fn in (similarity.cosine, similarity.dot):
        actual, expected = (
            jax.value_and_grad(functools.partial(loss, similarity_fn=fn), (0, 1))(
                anchors, positives
            )
            for loss in (ranking, multiple_negatives_ranking_loss)
        )
        assert actual[0].dtype == jnp.float32
        assert actual[1][0].dtype == jnp.bfloat16
        assert_equal(actual, expected, 1e-2)
        np.testing.assert_allclose(actual[0], expected[0], rtol=1e-6)


def test_a_reduction_that_weighs_rows_by_their_values():
    def worst(values, where):
        return jnp.max(jnp.where(where, values, 0))

    anchors, positives = pair()
    where = jnp.asarray(WHERE)
    losses = [
        multiple_negatives_ranking_loss,
        ranking,
        over_mesh(multiple_negatives_ranking_loss, two_devices(), block_size=4),
        over_mesh(multiple_negatives_ranking_loss, two_devices(), ring=True),
    ]
    for reduce_fn in (worst, lambda v, where: total(jnp.square(v), where)):
        keywords = {"where": where, "reduce_fn": reduce_fn}
        expected, *others = (
            jax.jit(jax.value_and_grad(functools.partial(loss, **keywords), (0, 1)))(
                anchors, positives
            )
            for loss in losses
        )
        for actual in others:
            assert_equal(actual, expected, 1e-5)


def test_of_equally_hard_negatives_on_two_devices_the_first_gets_the_gradient():
    anchors = jnp.tile(jnp.array([[1.0, 0.2]]), (4, 1))
    positives = jnp.tile(jnp.array([[0.8, 0.6]]), (4, 1))
    losses = [
        mega_batch_margin_loss,
        functools.partial(mega_batch_margin_loss, block_size=1),
        over_mesh(mega_batch_margin_loss, two_devices(), block_size=2),
        over_mesh(mega_batch_margin_loss, two_devices(), block_size=1, ring=True),
    ]
    expected, *others = (jax.jit(jax.grad(loss, (0, 1)))(anchors, positives) for loss in losses)
    for actual in others:
        assert_equal(actual, expected, 1e-6)


@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_over_mesh_takes_arrays_sharded_otherwise_or_not_at_all(axis_type, ring):
    mesh = two_devices(axis_type)
    loss = over_mesh(multiple_negatives_ranking_loss, mesh, block_size=4, ring=ring)
    anchors, positives = pair()
    ids = jnp.asarray(np.random.default_rng(0).integers(0, 3, (N, 2)), jnp.uint32)
    keywords = {"ids": ids, "where": jnp.asarray(WHERE)}
    expected = jax.value_and_grad(multiple_negatives_ranking_loss, (0, 1))(
        anchors, positives, **keywords
    )
    for spec in (PartitionSpec(), PartitionSpec("data"), PartitionSpec(None, "data")):
        placed = jax.device_put((anchors, positives), NamedSharding(mesh, spec))
        with jax.set_mesh(mesh):
            actual = jax.jit(jax.value_and_grad(loss, (0, 1)))(*placed, **keywords)
        assert_equal(actual, expected, 1e-5)


def test_over_two_axes_of_a_mesh():
    devices = np.array(jax.devices()[:2]).reshape(2, 1)
    mesh = Mesh(devices, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    loss = over_mesh(multiple_negatives_ranking_loss, mesh, axis_name=("data", "fsdp"))
    expected = jax.value_and_grad(multiple_negatives_ranking_loss, (0, 1))(*pair())
    assert_equal(jax.jit(jax.value_and_grad(loss, (0, 1)))(*pair()), expected, 1e-5)


def test_a_rest_of_rows_and_none_at_all():
    for n in (0, 1, 2, 7):
        expected = jax.value_and_grad(multiple_negatives_ranking_loss, (0, 1))(*pair(n=n))
        assert_equal(jax.value_and_grad(ranking, (0, 1))(*pair(n=n)), expected, 1e-5)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (functools.partial(ranking, block_size=0), "block_size must be a positive integer"),
        (functools.partial(ranking, block_size=-1), "block_size must be a positive integer"),
        (functools.partial(ranking, reduce_fn=None), "leave out block_size and axis_name"),
        (
            functools.partial(
                gist_embed_loss,
                guide_anchors=jnp.ones((N - 1, 3)),
                guide_positives=jnp.ones((N - 1, 3)),
            ),
            "guide_anchors must start with the axes",
        ),
        (
            lambda a, p: multi_vector_multiple_negatives_ranking_loss(
                a[:, None], p[:, None, None], similarity_fn=xtr, axis_name="data"
            ),
            "xtr selects among the documents of the whole batch",
        ),
        (lambda *pair: over_mesh(contrastive_loss, two_devices()), "takes no axis_name"),
        (
            lambda *pair: over_mesh(sigmoid_loss, two_devices(), axis_name="model"),
            "the mesh has the axes",
        ),
        (
            lambda a, p: over_mesh(sigmoid_loss, two_devices())(a[:7], p[:7]),
            "needs a multiple of 2 rows, with where False for those that fill up; got 7",
        ),
        (
            lambda a, p: over_mesh(sigmoid_loss, two_devices())(a, p, where=jnp.ones(6, bool)),
            "must have the shape",
        ),
    ],
)
def test_bad_use_is_refused_with_the_remedy(loss, message, request):
    config.update("jaxtyping_disable", True)  # to reach the functions' own checks
    request.addfinalizer(lambda: config.update("jaxtyping_disable", False))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(loss, *pair())
