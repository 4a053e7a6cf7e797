"""Matryoshka against the plainest loop over widths, for losses of every kind."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from jaxembed import losses
from jaxembed.losses import reranking
from jaxembed.transforms.matryoshka import matryoshka
from jaxembed.transforms.over_mesh import over_mesh
from tests.arrays import cast
from tests.compiling import counted
from tests.losses.cases import CASES

pytestmark = pytest.mark.usefixtures("strict_promotion")

N, D = 8, 6
WHERE = np.array([1, 1, 0, 1, 1, 1, 1, 0], bool)
DIMS, WEIGHTS = (3, 5, 2), (0.5, 2.0, 1.5)
TESTED = [
    "multiple_negatives_ranking_loss-ids_of_negatives",
    "multiple_negatives_symmetric_ranking_loss-options",
    "gist_embed_loss-relative_margin_and_negatives",
    "mega_batch_margin_loss-default",
    "global_orthogonal_regularization_loss-default",
    "cosent_loss-grades",
    "angle_loss-all_terms",
    "contrastive_loss-manhattan_and_soft_labels",
    "triplet_loss-cosine",
    "batch_hard_triplet_loss-default",
    "batch_all_triplet_loss-default",
    "mse_loss-default",
    "margin_mse_loss-some_negatives",
    "distill_kl_div_loss-temperatures",
    "multi_vector_multiple_negatives_ranking_loss-ids_and_masks",
]
BY_NAME = {case.name: case for case in CASES}
ranking = losses.multiple_negatives_ranking_loss


def truncated(case):
    return tuple({"teacher"} & {*case.inputs(2)[1]})


def unit(x):
    return x / np.maximum(np.sqrt(np.sum(x**2, axis=-1, keepdims=True)), 1e-12)


def references(case, embeddings, rows):
    """The reference of the loss at each of DIMS, times its weight."""
    terms = []
    for k, weight in zip(DIMS, WEIGHTS, strict=True):
        cut = {name: rows[name][..., :k] for name in truncated(case)}
        columns = [unit(x[..., :k]) for x in embeddings]
        terms.append(weight * case.reference(*columns, **{**rows, **cut}, **case.settings))
    return terms


def wrapped(case, n_dims_per_step=-1):
    loss = functools.partial(case.loss, **case.settings)
    return matryoshka(loss, DIMS, WEIGHTS, n_dims_per_step, truncate=truncated(case))


def pair(n=N, d=D, seed=0):
    return jax.random.normal(jax.random.key(seed), (2, n, d))


def masked_value_and_gradients(case, loss):
    """In float64, with NaN in the rows that are not real."""
    embeddings, rows = case.inputs(N)
    spoiled = [np.where(WHERE.reshape(-1, *[1] * (x.ndim - 1)), x, np.nan) for x in embeddings]

    def compute(columns, rows, key):
        return loss(*columns, **rows, where=jnp.asarray(WHERE), key=key)

    with jax.enable_x64(True):
        columns, rows = cast((spoiled, rows), jnp.float64)
        value_and_gradients = jax.jit(jax.value_and_grad(compute))(columns, rows, jax.random.key(0))
    return jax.tree.map(np.asarray, value_and_gradients)


def assert_masked_rows_have_no_gradient(gradients):
    for gradient in gradients:
        assert np.all(gradient[~WHERE] == 0)
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient[WHERE] != 0)


@pytest.mark.parametrize("name", TESTED)
def test_loss_is_the_weighted_sum_over_the_widths_of_the_rows_that_are_real(name):
    case = BY_NAME[name]
    terms = references(case, *jax.tree.map(lambda x: x[WHERE], case.inputs(N)))
    value, gradients = masked_value_and_gradients(case, wrapped(case))
    np.testing.assert_allclose(value, sum(terms), rtol=1e-9)
    assert_masked_rows_have_no_gradient(gradients)


@pytest.mark.parametrize("name", [TESTED[0], "cosent_loss-grades", "mse_loss-default"])
def test_drawn_loss_is_the_weighted_sum_over_some_of_the_widths(name):
    case = BY_NAME[name]
    terms = references(case, *jax.tree.map(lambda x: x[WHERE], case.inputs(N)))
    value, gradients = masked_value_and_gradients(case, wrapped(case, n_dims_per_step=2))
    assert min(abs(value - (sum(terms) - left_out)) for left_out in terms) < 1e-9 * sum(terms)
    assert_masked_rows_have_no_gradient(gradients)


@pytest.mark.parametrize("name", ["cosent_loss-default", "mse_loss-default"])
@pytest.mark.parametrize("n_dims_per_step", [-1, 1])
def test_gradient_equals_finite_differences(name, n_dims_per_step):
    loss = wrapped(BY_NAME[name], n_dims_per_step)
    with jax.enable_x64(True):
        embeddings, rows = cast(BY_NAME[name].inputs(N), jnp.float64)
        compute = jax.jit(lambda x: loss(*x, **rows, key=jax.random.key(3)))
        check_grads(compute, (embeddings,), 1, modes=("fwd", "rev"), eps=1e-5, rtol=1e-5)


def test_width_of_all_features_is_the_loss_of_unit_vectors():
    left, right = pair()
    loss = functools.partial(losses.triplet_loss, margin=0.2)
    expected = loss(*(jnp.asarray(unit(np.asarray(x))) for x in (left, right, left[::-1])))
    actual = matryoshka(loss, [D])(left, right, left[::-1])
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert abs(actual - loss(left, right, left[::-1])) > 0.1


def test_columns_may_be_passed_by_keyword():
    case = BY_NAME["multiple_negatives_ranking_loss-negatives"]
    anchors, positives, negatives = cast(case.inputs(N)[0], jnp.float32)
    loss = matryoshka(ranking, DIMS)
    expected = loss(anchors, positives, negatives)
    assert loss(anchors, negatives=negatives, positives=positives) == expected
    assert loss(anchors, positives, None) == loss(anchors, positives) != expected


def test_guide_embeddings_stay_whole():
    case = BY_NAME["gist_embed_loss-default"]
    embeddings, rows = cast(case.inputs(N), jnp.float32)
    seen = []

    def guided(anchors, positives, *, guide_anchors, guide_positives):
        seen.append((anchors.shape, guide_anchors.shape))
        return losses.gist_embed_loss(
            anchors, positives, guide_anchors=guide_anchors, guide_positives=guide_positives
        )

    matryoshka(guided, (2, 6))(*embeddings, **rows)
    assert seen == [((N, 2), (N, 5)), ((N, 6), (N, 5))]


def test_values_per_row_are_summed_row_by_row():
    left, right = pair()
    values = matryoshka(ranking, DIMS, WEIGHTS)(left, right, reduce_fn=None)
    assert values.shape == (N,)
    loss = matryoshka(ranking, DIMS, WEIGHTS)(left, right)
    np.testing.assert_allclose(values.mean(), loss, rtol=1e-6)
    drawn = matryoshka(ranking, DIMS, WEIGHTS, 2)
    values = drawn(left, right, reduce_fn=None, key=jax.random.key(1))
    loss = drawn(left, right, key=jax.random.key(1))
    np.testing.assert_allclose(values.mean(), loss, rtol=1e-6)


@pytest.mark.parametrize("n_dims_per_step", [1, 2])
def test_every_choice_of_dims_is_equally_likely(n_dims_per_step):
    left, right = pair()
    loss = matryoshka(ranking, DIMS, WEIGHTS, n_dims_per_step)
    values = jax.jit(jax.vmap(lambda key: loss(left, right, key=key)))(
        jax.random.split(jax.random.key(0), 600)
    )
    terms = [matryoshka(ranking, [k], [w])(left, right) for k, w in zip(DIMS, WEIGHTS, strict=True)]
    choices = np.array(terms if n_dims_per_step == 1 else [sum(terms) - term for term in terms])
    distances = np.abs(np.asarray(values)[:, None] - choices)
    np.testing.assert_array_less(distances.min(axis=1), 1e-5)
    counts = np.bincount(distances.argmin(axis=1), minlength=3)
    assert np.all(np.abs(counts - 200) < 50)


def test_vmap_over_keys_equals_a_loop():
    left, right = pair()
    loss = matryoshka(losses.cosent_loss, DIMS, n_dims_per_step=2)
    scores = jnp.arange(N) / N
    keys = jax.random.split(jax.random.key(0), 5)
    compute = jax.grad(lambda left, key: loss(left, right, scores=scores, key=key))
    mapped = jax.jit(jax.vmap(compute, in_axes=(None, 0)))(left, keys)
    looped = jnp.stack([jax.jit(compute)(left, key) for key in keys])
    np.testing.assert_allclose(mapped, looped, rtol=1e-5, atol=1e-6)


def test_one_program_computes_only_the_widths_drawn():
    left, right = pair()
    computed = []

    def loss(left, right):
        jax.debug.callback(functools.partial(computed.append, left.shape[1]))
        return ranking(left, right)

    traces: list[Any] = []
    compute = jax.jit(counted(matryoshka(loss, DIMS, n_dims_per_step=2), traces))
    drawn = set()
    for seed in range(8):
        compute(left, right, key=jax.random.key(seed))
        jax.effects_barrier()
        drawn.add(tuple(sorted(computed)))
        computed.clear()
    assert drawn == {(2, 3), (2, 5), (3, 5)}
    assert len(traces) == 1


def test_drawing_one_width_needs_no_more_memory_than_the_widest():
    left, right = pair(n=256, d=64)

    def temporaries(loss):
        step = jax.grad(lambda x, key: loss(x, right, key=key))
        compiled: Any = jax.jit(step).lower(left, jax.random.key(0)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    dims = (64, 32, 16, 8)
    widest = temporaries(matryoshka(ranking, dims[:1]))
    assert temporaries(matryoshka(ranking, dims, n_dims_per_step=1)) < 1.3 * widest
    assert temporaries(matryoshka(ranking, dims)) > 2 * widest


def test_bfloat16_columns_are_raised_first():
    left, right = pair().astype(jnp.bfloat16)
    loss = matryoshka(ranking, DIMS, n_dims_per_step=1)
    compute = jax.jit(jax.value_and_grad(lambda x: loss(x, right, key=jax.random.key(1))))
    (value, gradient), (expected, _) = compute(left), compute(left.astype(jnp.float32))
    assert value.dtype == jnp.float32
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("n_dims_per_step", [-1, 1])
def test_two_devices_compute_what_one_does(axis_type, n_dims_per_step):
    left, right = pair()
    loss = matryoshka(ranking, DIMS, WEIGHTS, n_dims_per_step)
    compute = jax.jit(jax.value_and_grad(lambda x, y, key: loss(x, y, key=key)))
    expected, gradient = compute(left, right, jax.random.key(2))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put((left, right), NamedSharding(mesh, PartitionSpec("data")))
        actual, actual_gradient = compute(*sharded, jax.random.key(2))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    np.testing.assert_allclose(actual_gradient, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("inside", [True, False])
def test_in_blocks_over_a_mesh_the_loss_is_the_same(inside):
    left, right = pair()
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    over_two = functools.partial(over_mesh, mesh=mesh, block_size=2)
    drawing = functools.partial(matryoshka, dims=DIMS, n_dims_per_step=2)
    loss = over_two(drawing(ranking)) if inside else drawing(over_two(ranking))

    def compute(loss, **choices):
        step = jax.value_and_grad(lambda x, y: loss(x, y, key=jax.random.key(0), **choices), (0, 1))
        return jax.jit(step)(left, right)

    expected = compute(drawing(ranking))
    equal = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(equal, compute(drawing(ranking), block_size=3), expected)
    jax.tree.map(equal, compute(loss), expected)


def test_every_width_of_a_loss_that_draws_has_a_key_of_its_own():
    def noise(x, *, key):
        return jax.random.uniform(key)

    key, x = jax.random.key(0), pair()[0]
    terms = [matryoshka(noise, (2, 3, 4), list(w))(x, key=key) for w in np.eye(3)]
    assert len({float(term) for term in terms}) == 3
    assert "key" in inspect.signature(matryoshka(noise, (2,))).parameters


def test_wrapped_loss_looks_like_the_loss_with_a_key():
    loss: Any = matryoshka(losses.mse_loss, (2,), truncate=("teacher",))
    parameters = inspect.signature(loss).parameters
    assert [*parameters] == [*inspect.signature(losses.mse_loss).parameters, "key"]
    assert parameters["key"].default is None
    assert loss.__name__ == "mse_loss"
    before_keywords = inspect.signature(matryoshka(losses.splade_loss, (2,))).parameters
    assert [*before_keywords][-2:] == ["key", "keywords"]


def test_not_a_number_shows_in_the_loss():
    left, right = pair()
    assert np.isnan(matryoshka(ranking, (2,))(left.at[0, 0].set(jnp.nan), right))


def own_parameter(left, right, *, weight):
    return jnp.mean((left @ weight - right @ weight) ** 2)


REFUSED_AT_ONCE = [
    ({"dims": ()}, r"dims must be distinct whole numbers of 1 or more; got \(\)"),
    ({"dims": (4, 0)}, r"dims must be distinct whole numbers of 1 or more; got \(4, 0\)"),
    ({"dims": (4, 2.5)}, "dims must be distinct whole numbers"),
    ({"dims": (4, 2, 4)}, "dims must be distinct whole numbers"),
    ({"dims": (4, 2), "weights": (1.0,)}, "weights must be one for each of dims, 2; got 1"),
    ({"dims": (4, 2), "n_dims_per_step": 0}, "n_dims_per_step must be from 1 to 2, .* got 0"),
    ({"dims": (4, 2), "n_dims_per_step": 3}, "or -1 for all; got 3"),
    ({"dims": (4, 2), "truncate": "teacher"}, r'such as \("teacher",\); got \'teacher\''),
    (
        {"dims": (4,), "truncate": ("labels",)},
        "arrays of mse_loss, one of teacher, .* got 'labels'",
    ),
    ({"dims": (4,), "truncate": ("student",)}, "got 'student'"),
]


@pytest.mark.parametrize(("choices", "message"), REFUSED_AT_ONCE)
def test_choices_that_do_not_go_together_are_refused_at_once(choices, message):
    with pytest.raises(ValueError, match=message):
        matryoshka(losses.mse_loss, **choices)


@pytest.mark.parametrize(
    ("loss", "name"), [(losses.softmax_loss, "logits"), (reranking.listnet_loss, "scores")]
)
def test_loss_of_logits_or_scores_is_refused_with_the_remedy(loss, name):
    message = f"{loss.__name__} takes {name}: wrap a function of embeddings that makes the {name}"
    with pytest.raises(ValueError, match=message):
        matryoshka(loss, (2,))


def test_width_beyond_the_embeddings_is_refused():
    with pytest.raises(ValueError, match="must not exceed the width of the embeddings, 6; got 7"):
        matryoshka(ranking, (2, 7))(*pair())


def test_columns_of_several_widths_are_refused():
    left, right = pair()
    with pytest.raises(ValueError, match=r"cosent_loss needs columns \[... d\] of one width"):
        matryoshka(losses.cosent_loss, (2,))(left, right[:, :5], scores=jnp.ones(N))


def test_drawing_without_a_key_names_the_remedy():
    with pytest.raises(ValueError, match="draws 2 of 3 dims: pass key=, a new one in every step"):
        matryoshka(ranking, DIMS, n_dims_per_step=2)(*pair())


def test_truncated_array_of_another_width_is_refused_by_name():
    loss = matryoshka(losses.mse_loss, (2,), truncate=("teacher",))
    with pytest.raises(
        ValueError, match=r"teacher is cut .* must be 6, as theirs; got shape \(8, 5"
    ):
        loss(pair()[0], teacher=pair(d=5)[0])


@pytest.mark.parametrize("n_dims_per_step", [-1, 1])
def test_loss_with_parameters_of_the_full_width_is_refused_with_the_remedy(n_dims_per_step):
    loss = matryoshka(own_parameter, (6, 2), n_dims_per_step=n_dims_per_step)
    message = "own_parameter works on all 6 features but not on the first 2.* truncate=.*: weight"
    with pytest.raises(ValueError, match=message) as refusal:
        loss(*pair(), weight=jnp.ones((6, 3)), key=jax.random.key(0))
    assert isinstance(refusal.value.__cause__, TypeError)


def test_teacher_that_is_not_truncated_is_refused_with_the_remedy():
    loss = matryoshka(functools.partial(losses.mse_loss), (6, 2))
    with pytest.raises(ValueError, match=r"mse_loss works on all 6 .* go in truncate=.*: teacher"):
        loss(pair()[0], teacher=pair()[1])


def test_what_the_loss_itself_refuses_passes_unchanged():
    def picky(left, *, teacher):
        if left.shape != teacher.shape:
            raise ValueError(f"teacher must be {left.shape}; got {teacher.shape}")
        return jnp.mean(left)

    with pytest.raises(ValueError, match=r"^teacher must be \(8, 6\); got \(3, 6\)"):
        matryoshka(picky, (2, 6))(pair()[0], teacher=pair(n=3)[0])
    with pytest.raises(ValueError, match=r"mse_loss needs teacher; got none"):
        matryoshka(losses.mse_loss, (2, 6))(pair()[0])
