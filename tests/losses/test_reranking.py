"""What is particular to the reranking losses: masks of documents, ties, drawn negatives, rax."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rax
from hypothesis import given, settings, strategies as st
from jaxtyping import config

from jaxembed.losses import reranking
from tests.losses.cases.reranking import CASES, LIST_CASES, K, grades, some_scores
from tests.losses.references import reranking as references

name_of = lambda case: case.name.removeprefix("reranking.").split("-")[0]  # noqa: E731
LIST_LOSSES = sorted({name_of(case) for case in LIST_CASES})
every_list_case = pytest.mark.parametrize("case", LIST_CASES, ids=lambda case: case.name)


def arrays(inputs, dtype):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if x.dtype.kind == "f" else None), inputs)


def value_and_grad(case):
    """A function of scores, labels and the mask of documents."""
    return jax.jit(
        lambda scores, rows, where: jax.value_and_grad(case.loss)(
            scores, **rows, **case.settings, where=where
        )
    )


def slopes(function, x, step=1e-5):
    """The gradient of a NumPy function by central differences."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (function(above) - function(below)) / (2 * step)
    return gradient


@pytest.fixture
def lists():
    """Three queries with five documents: scores, grades and a ragged mask."""
    rng = np.random.default_rng(0)
    (scores,) = some_scores(rng, 3)
    where = np.arange(K)[None, :] < np.array([5, 3, 1])[:, None]
    return arrays((scores, grades(rng, 3)["labels"], where), jnp.float32)


@pytest.fixture
def unchecked():
    """Lets wrong shapes reach the function's own checks."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


# Masks and numbers -------------------------------------------------------------------------------


@every_list_case
@pytest.mark.parametrize("q", [1, 3])
def test_any_mask_of_documents_gives_the_reference_on_those_that_are_left(case, q):
    function = value_and_grad(case)

    @given(where=st.lists(st.booleans(), min_size=q * K, max_size=q * K), seed=st.integers(0, 999))
    @settings(max_examples=12, deadline=None, derandomize=True, database=None)
    def holds(where, seed):
        where = np.array(where).reshape(q, K)
        (scores,), rows = case.inputs(q, seed)
        reference = lambda scores: case.reference(scores, **rows, **case.settings, where=where)  # noqa: E731
        with jax.enable_x64(True):
            spoilt = np.where(where, scores, np.nan)
            value, gradient = function(*arrays((spoilt, rows, where), jnp.float64))
        np.testing.assert_allclose(value, reference(scores), rtol=1e-9, atol=1e-12)
        assert np.all(np.asarray(gradient)[~where] == 0)
        np.testing.assert_allclose(gradient, slopes(reference, scores), rtol=1e-4, atol=1e-7)

    holds()


@every_list_case
def test_extreme_scores_stay_finite_and_not_a_number_shows(case):
    (scores,), rows = arrays(case.inputs(4), jnp.float32)
    where = jnp.arange(K)[None, :] < jnp.array([[5], [2], [1], [0]])
    results = value_and_grad(case)(1e4 * jnp.sign(scores), rows, where)
    assert all(np.isfinite(x).all() for x in results)
    value, _ = value_and_grad(case)(scores.at[0, 1].set(jnp.nan), rows, where)
    assert np.isnan(value)


@pytest.mark.parametrize("name", LIST_LOSSES)
def test_padding_does_not_reach_what_an_activation_learns(lists, name):
    scores, labels, where = lists
    where = where.at[1].set(False)
    spoilt = jnp.where(where, scores, jnp.nan)

    @jax.jit
    def loss(temperature):
        activation_fn = lambda x: x / temperature  # noqa: E731
        keywords = {"labels": labels, "activation_fn": activation_fn, "where": where}
        return getattr(reranking, name)(spoilt, **keywords)

    expected = (loss(0.71) - loss(0.69)) / 0.02
    np.testing.assert_allclose(jax.grad(loss)(0.7), expected, rtol=2e-2)


def test_lists_of_hundreds_of_documents_do_not_overflow():
    scores = np.random.default_rng(0).normal(size=(2, 300))
    where = np.arange(300)[None, :] < np.array([[300], [140]])
    value, gradient = jax.jit(jax.value_and_grad(reranking.p_listmle_loss))(
        jnp.asarray(scores, jnp.float32), where=jnp.asarray(where)
    )
    np.testing.assert_allclose(value, references.p_listmle_loss(scores, where=where), rtol=1e-5)
    assert np.isfinite(gradient).all()


# Order, ties, single documents -------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [case for case in LIST_CASES if "mle_loss-default" not in case.name],  # there it is the target
    ids=lambda case: case.name,
)
def test_order_of_documents_does_not_matter(case):
    rng = np.random.default_rng(2)
    scores, labels = rng.normal(size=(2, 2, K))
    order, where = rng.permutation(K), rng.random((2, K)) < 0.7
    values = [
        case.loss(jnp.asarray(s), labels=jnp.asarray(y), where=jnp.asarray(w), **case.settings)
        for s, y, w in ((scores, labels, where), [x[:, order] for x in (scores, labels, where)])
    ]
    np.testing.assert_allclose(*values, rtol=1e-5)


@pytest.mark.parametrize("loss", [reranking.listmle_loss, reranking.p_listmle_loss])
def test_equal_labels_keep_the_order_of_the_input(lists, loss):
    scores, labels, where = lists
    expected = loss(scores, where=where)
    assert loss(scores, labels=0 * labels, respect_input_order=False, where=where) == expected
    assert loss(scores, labels=labels, where=where) == expected  # labels are not read


@pytest.mark.parametrize("loss", [reranking.lambda_loss, reranking.ranknet_loss])
def test_equal_labels_make_no_pairs(lists, loss):
    scores, labels, where = lists
    value, gradient = jax.value_and_grad(loss)(scores, labels=0 * labels, where=where)
    assert value == 0
    assert np.all(gradient == 0)


def test_pairs_of_equal_scores_cost_one_bit(lists):
    scores, labels, where = lists
    loss = reranking.ranknet_loss(0 * scores, labels=labels, where=where)
    np.testing.assert_allclose(loss, 1, rtol=1e-6)


def test_pairs_outside_the_top_do_not_count():
    scores, labels = jnp.array([[3.0, 2.0, 1.0]]), jnp.array([[1, 0, 1]])
    loss = partial(reranking.ranknet_loss, scores, labels=labels, reduction_log="natural")
    won, lost = (float(jax.nn.softplus(x)) for x in (-1.0, 1.0))
    np.testing.assert_allclose(loss(k=1), won, rtol=1e-6)
    np.testing.assert_allclose([loss(), loss(k=10)], (won + lost) / 2, rtol=1e-6)


@pytest.mark.parametrize("name", LIST_LOSSES)
def test_one_document_costs_nothing(name):
    loss = partial(getattr(reranking, name), labels=jnp.array([[1.0], [2.0]]))
    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.array([[3.0], [-2.0]]))
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_mu_weighs_and_sigma_is_learnable(lists):
    scores, labels, where = lists
    loss = partial(reranking.lambda_loss, scores, labels=labels, where=where)
    parts = [loss(weighting=part) for part in (reranking.ndcg_loss2, reranking.lambda_rank)]
    mixed = loss(weighting=partial(reranking.ndcg_loss2pp, mu=3.0))
    np.testing.assert_allclose(mixed, 3 * parts[0] + parts[1], rtol=1e-5)
    slope = jax.grad(lambda sigma: loss(sigma=sigma))(1.0)
    np.testing.assert_allclose(slope, (loss(sigma=1.01) - loss(sigma=0.99)) / 0.02, rtol=1e-2)


# Negatives ---------------------------------------------------------------------------------------


def test_masked_negatives_have_no_effect_and_no_gradient():
    scores, teacher = np.random.default_rng(0).normal(size=(2, 4, 4))
    keep = jnp.arange(4)[None, :] < 3
    spoilt, spoilt_teacher = (jnp.where(keep, x, jnp.nan) for x in arrays((scores, teacher), None))
    where = jnp.broadcast_to(keep[:, 1:], (4, 3))
    for loss, target in (
        (reranking.multiple_negatives_ranking_loss, {}),
        (reranking.margin_mse_loss, {"teacher_scores": spoilt_teacher}),
        (reranking.margin_mse_loss, {"margins": spoilt_teacher[:, 1:]}),
    ):
        cut = {name: x[:, :-1] for name, x in target.items()}
        expected, expected_gradient = jax.value_and_grad(loss)(spoilt[:, :3], **cut)
        value, gradient = jax.value_and_grad(loss)(spoilt, **target, negatives_where=where)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(gradient[:, :3], expected_gradient, rtol=1e-5, atol=1e-7)
        assert np.all(gradient[:, 3] == 0)


def test_a_row_without_negatives_has_no_margin():
    scores = jnp.array([[2.0, 1.0], [jnp.nan, jnp.nan]])
    loss = partial(reranking.margin_mse_loss, negatives_where=jnp.array([[True], [False]]))
    value, gradient = jax.value_and_grad(loss)(scores, margins=jnp.array([[3.0], [jnp.nan]]))
    assert value == 4
    np.testing.assert_array_equal(gradient, [[-4, 4], [0, 0]])


@pytest.mark.parametrize("num_negatives", [None, 4, 99])
def test_without_a_limit_all_documents_of_other_rows_come_in_column_order(num_negatives):
    drawn = reranking.sample_negatives(jax.random.key(0), 3, 2, num_negatives)
    np.testing.assert_array_equal(drawn, [[1, 2, 4, 5], [0, 2, 3, 5], [0, 1, 3, 4]])


@pytest.mark.parametrize(("n", "columns", "num_negatives"), [(2, 3, 2), (5, 1, 3), (7, 3, 17)])
def test_drawn_negatives_are_different_documents_of_other_rows(n, columns, num_negatives):
    draw = jax.jit(lambda key: reranking.sample_negatives(key, n, columns, num_negatives))
    for seed in range(5):
        drawn = np.asarray(draw(jax.random.key(seed)))
        assert drawn.shape == (n, num_negatives)
        assert set(drawn.ravel()) <= set(range(n * columns))
        assert np.all(drawn % n != np.arange(n)[:, None])
        assert all(len(set(row)) == num_negatives for row in drawn.tolist())


def test_every_document_of_other_rows_is_drawn_equally_often():
    n, columns, times = 4, 2, 3000
    keys = jax.random.split(jax.random.key(0), times)
    drawn = jax.vmap(lambda key: reranking.sample_negatives(key, n, columns, 2))(keys)
    deviation = np.sqrt(times * (1 / 3) * (2 / 3))  # two of six
    for row in range(n):
        counts = np.bincount(np.asarray(drawn)[:, row].ravel(), minlength=n * columns)
        others = np.arange(n * columns) % n != row
        assert np.all(np.abs(counts[others] - times / 3) < 5 * deviation)


def test_a_single_row_has_no_negatives_of_others():
    assert reranking.sample_negatives(jax.random.key(0), 1, 3).shape == (1, 0)
    assert reranking.multiple_negatives_ranking_loss(jnp.array([[0.3]])) == 0


# A second oracle: rax ----------------------------------------------------------------------------

ranknet = partial(reranking.ranknet_loss, reduction_log="natural")
natural = partial(reranking.lambda_loss, reduction_log="natural")


def logistic(weights=None):
    """Their loss of pairs. Their weights are times the length of the list."""
    if weights is None:
        return rax.pairwise_logistic_loss
    normalised = lambda *lists, **keywords: weights(*lists, normalize=True, **keywords) / K  # noqa: E731
    return partial(rax.pairwise_logistic_loss, lambdaweight_fn=normalised)


@pytest.mark.parametrize(
    ("loss", "theirs"),
    [
        (reranking.listnet_loss, partial(rax.softmax_loss, label_fn=jax.nn.softmax)),
        (partial(reranking.listmle_loss, respect_input_order=False), rax.listmle_loss),
        (ranknet, logistic()),
        (partial(natural, weighting=reranking.lambda_rank), logistic(rax.dcg_lambdaweight)),
        (partial(natural, weighting=reranking.ndcg_loss2), logistic(rax.dcg2_lambdaweight)),
    ],
)
def test_losses_of_lists_are_those_of_rax(lists, loss, theirs):
    scores, _, where = lists
    labels = jax.random.uniform(jax.random.key(0), scores.shape)  # no ties
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = theirs(scores, labels, where=where)
    np.testing.assert_allclose(loss(scores, labels=labels, where=where), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "theirs"),
    [
        (reranking.binary_cross_entropy_loss, rax.pointwise_sigmoid_loss),
        (reranking.mse_loss, rax.pointwise_mse_loss),
    ],
)
def test_pointwise_losses_are_those_of_rax(lists, loss, theirs):
    scores, labels = lists[0][0], jnp.array([0.0, 1.0, 1.0, 0.0, 1.0])
    where = jnp.array([True, True, False, True, True])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = theirs(scores, labels, where=where)
    np.testing.assert_allclose(loss(scores, labels=labels, where=where), expected, rtol=1e-5)


# Refusals ----------------------------------------------------------------------------------------

column, matrix = np.zeros(3, np.float32), np.zeros((3, 4), np.float32)


@pytest.mark.parametrize(
    ("name", "scores", "keywords", "message"),
    [
        ("lambda_loss", matrix, {"sigma": 0}, "sigma must be above 0; got 0"),
        ("lambda_loss", matrix, {"k": 0}, "k must be above 0; got 0"),
        ("lambda_loss", matrix, {"epsilon": -1.0}, "epsilon must be above 0; got -1.0"),
        ("lambda_loss", matrix, {"reduction_log": "10"}, "reduction_log must be .* got '10'"),
        ("ranknet_loss", matrix, {"sigma": -2.0}, "sigma must be above 0; got -2.0"),
        ("adr_mse_loss", matrix, {"alpha": 0.0}, "alpha must be above 0; got 0.0"),
        ("binary_cross_entropy_loss", column, {"pos_weight": -1}, "pos_weight must not be below"),
        ("multiple_negatives_ranking_loss", matrix, {"scale": 0}, "scale must be above 0; got 0"),
        ("listmle_loss", matrix, {"respect_input_order": False}, "labels are needed .* got None"),
        ("p_listmle_loss", matrix, {"respect_input_order": False}, "labels are needed .* got None"),
        ("margin_mse_loss", matrix, {}, "exactly one of margins, teacher_scores; got none"),
        *(
            (name, column, {"labels": column[:2]}, r"labels must have the shape of scores, \(3,\)")
            for name in ("binary_cross_entropy_loss", "mse_loss")
        ),
        (
            "cross_entropy_loss",
            matrix,
            {"labels": column[:2]},
            r"must have the shape \(3,\)",
        ),
        ("cross_entropy_loss", matrix, {"labels": column}, "labels must be integers; got float32"),
        ("margin_mse_loss", matrix, {"margins": matrix}, r"margins must have the shape \(3, 3"),
        (
            "multiple_negatives_ranking_loss",
            matrix,
            {"negatives_where": matrix > 0},
            r"negatives_where must have the shape of negatives, \(3, 3\); got \(3, 4\)",
        ),
        *((name, matrix, {"labels": matrix[:2]}, "labels must have the") for name in LIST_LOSSES),
        *((name, matrix, {"where": matrix[0] > 0}, "where must have the") for name in LIST_LOSSES),
    ],
)
def test_wrong_use_is_refused(name, scores, keywords, message, unchecked):
    if name in ("binary_cross_entropy_loss", *LIST_LOSSES) and "listmle" not in name:
        keywords = {"labels": scores, **keywords}
    with pytest.raises(ValueError, match=message):
        getattr(reranking, name)(*arrays([scores], None), **keywords)


@pytest.mark.parametrize("name", sorted({name_of(case) for case in CASES}))
def test_a_second_column_is_refused(name):
    with pytest.raises(ValueError, match="takes the arrays scores; got 2"):
        getattr(reranking, name)(jnp.asarray(matrix), jnp.asarray(matrix))


def test_a_number_of_negatives_below_zero_is_refused():
    with pytest.raises(ValueError, match="num_negatives must not be below 0; got -4"):
        reranking.sample_negatives(jax.random.key(0), 3, 1, -4)
