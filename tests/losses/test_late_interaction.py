"""What is particular to late interaction: scores of token matrices, ties, empty texts, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jaxtyping import config

from jaxembed import late_interaction
from jaxembed.losses.late_interaction import (
    multi_vector_distill_kl_div_loss,
    multi_vector_margin_mse_loss,
    multi_vector_multiple_negatives_ranking_loss,
)
from jaxembed.selection import among_greatest
from tests.losses.references import late_interaction as references

ranking_loss = multi_vector_multiple_negatives_ranking_loss
N, K, T, S, D = 3, 2, 2, 4, 5


def tokens(seed=0, k=K):
    rng = np.random.default_rng(seed)
    queries, documents = rng.normal(size=(N, T, D)), rng.normal(size=(N, k, S, D))
    return jnp.asarray(queries, jnp.float32), jnp.asarray(documents, jnp.float32)


@pytest.fixture
def unchecked():
    """Lets wrong shapes reach the function's own checks."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


masks = st.tuples(
    st.lists(st.booleans(), min_size=N * T, max_size=N * T),
    st.lists(st.booleans(), min_size=N * S, max_size=N * S),
).map(lambda x: (np.reshape(x[0], (N, T)), np.reshape(x[1], (N, S))))


@pytest.mark.parametrize("name", ["maxsim", "mean_maxsim", "xtr"])
@given(masks=masks, seed=st.integers(0, 99), top_k=st.integers(1, 2 * N * S))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_scores_are_those_of_loops_over_the_real_tokens(name, masks, seed, top_k):
    query_mask, document_mask = masks
    queries, documents = tokens(seed, k=1)
    keywords = {"top_k": top_k} if name == "xtr" else {}
    actual = getattr(late_interaction, name)(
        jnp.where(query_mask[..., None], queries, jnp.nan),
        jnp.where(document_mask[..., None], documents[:, 0], jnp.nan),
        query_mask=jnp.asarray(query_mask),
        document_mask=jnp.asarray(document_mask),
        **keywords,
    )
    query_lists, document_lists = references.lists(
        np.asarray(queries), np.asarray(documents), query_mask, document_mask[:, None]
    )
    score = getattr(references, name)
    for query, row in zip(query_lists, actual, strict=True):
        flat = [row_documents[0] for row_documents in document_lists]
        expected = score(query, flat, top_k) if name == "xtr" else [score(query, d) for d in flat]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["maxsim", "xtr"])
def test_masked_tokens_have_no_gradient_whatever_they_hold(name):
    queries, documents = tokens(k=1)
    query_mask = jnp.array([[True, False], [True, True], [False, True]])
    document_mask = jnp.arange(N * S).reshape(N, S) % 3 > 0

    def loss(queries, documents):
        masks = {"query_mask": query_mask, "document_mask": document_mask}
        return jnp.sum(getattr(late_interaction, name)(queries, documents, **masks))

    both = jax.grad(loss, argnums=(0, 1))
    expected = both(queries, documents[:, 0])
    actual = both(
        jnp.where(query_mask[..., None], queries, jnp.nan),
        jnp.where(document_mask[..., None], documents[:, 0], jnp.inf),
    )
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    assert not actual[0][~query_mask].any()
    assert not actual[1][~document_mask].any()


@pytest.mark.parametrize("name", ["maxsim", "mean_maxsim"])
def test_paired_scores_are_entries_of_the_matrix(name):
    queries, documents = tokens()
    rng = np.random.default_rng(1)
    query_mask, document_mask = rng.random((N, T)) < 0.7, rng.random((N, K, S)) < 0.7
    masks = [jnp.asarray(query_mask), jnp.asarray(document_mask)]
    matrix = getattr(late_interaction, name)(
        queries,
        documents.reshape(N * K, S, D),
        query_mask=masks[0],
        document_mask=masks[1].reshape(N * K, S),
    ).reshape(N, N, K)
    paired = getattr(late_interaction, f"paired_{name}")(
        queries[:, None], documents, query_mask=masks[0][:, None], document_mask=masks[1]
    )
    np.testing.assert_allclose(paired, matrix[np.arange(N), np.arange(N)], rtol=1e-5)


@pytest.mark.parametrize("name", ["maxsim", "paired_maxsim", "xtr"])
def test_the_first_of_equal_tokens_gets_the_gradient(name):
    query = jnp.array([[[1.0, 2.0]]])
    document = jnp.array([[[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [3.0, 0.0]]])
    score = getattr(late_interaction, name)
    gradient = jax.grad(lambda document: score(query, document).sum())(document)
    expected = np.zeros((1, 4, 2))
    expected[0, 1] = 1.0, 2.0
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("name", ["maxsim", "xtr"])
def test_an_empty_document_scores_below_all_and_has_no_gradient(name):
    queries, documents = tokens(k=1)
    mask = jnp.arange(N)[:, None] != jnp.ones(S, int)[None]  # document 1 has no token
    score = lambda d: getattr(late_interaction, name)(queries, d, document_mask=mask)  # noqa: E731
    scores, gradient = score(documents[:, 0]), jax.grad(lambda d: score(d).sum())(documents[:, 0])
    assert np.all(np.asarray(scores)[:, 1] == -1e9)
    assert np.all(np.asarray(scores)[:, [0, 2]] > -1e3)
    assert np.all(np.asarray(gradient)[1] == 0)
    assert np.any(np.asarray(gradient)[0] != 0)


def test_memory_is_that_of_one_query():
    n, m, t, s, d = 64, 64, 16, 32, 8
    queries, documents = jax.ShapeDtypeStruct((n, t, d), "float32"), (m, s, d)
    loss = lambda q, d: jnp.sum(jax.nn.logsumexp(late_interaction.maxsim(q, d), axis=1))  # noqa: E731
    compiled = (
        jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
        .lower(queries, jax.ShapeDtypeStruct(documents, "float32"))
        .compile()
    )
    analysis = compiled.memory_analysis()
    assert analysis is not None
    temporaries = analysis.temp_size_in_bytes
    one_query, nearest, all_queries = (4 * m * t * size for size in (s, n, n * s))
    assert temporaries < 6 * one_query + 2 * nearest < all_queries / 4


def test_maxsim_has_second_derivatives_and_forward_mode():
    queries, documents = tokens(k=1)
    loss = lambda q: jax.nn.logsumexp(late_interaction.maxsim(q, documents[:, 0]))  # noqa: E731
    forward, backward = jax.jacfwd(jax.grad(loss))(queries), jax.jacrev(jax.grad(loss))(queries)
    assert np.any(np.asarray(forward) != 0)
    np.testing.assert_allclose(forward, backward, atol=1e-5)


def test_xtr_keeps_all_that_equal_the_last():
    query = jnp.array([[[1.0]]])
    documents = jnp.array([[[0.5], [3.0]], [[2.0], [2.0]], [[2.0], [1.0]]])
    scores = late_interaction.xtr(query, documents, top_k=2)
    np.testing.assert_array_equal(scores, [[3.0, 2.0, 2.0]])


def test_not_a_number_stays_in_xtr():
    queries, documents = tokens(k=1)
    documents = documents[:, 0].at[1, 2].set(jnp.nan)
    scores = np.asarray(late_interaction.xtr(queries, documents, top_k=3))
    assert np.isnan(scores[:, 1]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(
    values=st.lists(st.sampled_from([-np.inf, -2.0, -1e-30, 0.0, 1e-9, 3.0, 7e8]), min_size=5),
    k=st.integers(1, 5),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_among_greatest_is_a_comparison_with_the_kth(dtype, values, k):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray([values, values[::-1]], dtype)
        expected = np.asarray(x) >= np.sort(x, axis=1)[:, -k][:, None]
        np.testing.assert_array_equal(among_greatest(x, k), expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_not_a_number_of_either_sign_is_the_greatest(sign):
    x = jnp.array([[1.0, jnp.inf, np.copysign(np.nan, sign), 2.0]])
    assert np.signbit(x[0, 2]) == (sign < 0)
    np.testing.assert_array_equal(among_greatest(x, 3), [[False, True, True, True]])


def test_documents_of_masked_rows_take_no_place_in_the_search_of_xtr():
    queries, documents = tokens()
    where = jnp.array([True, True, False])
    score = lambda *x, **masks: late_interaction.xtr(*x, **masks, top_k=3)  # noqa: E731
    expected = ranking_loss(queries[:2], documents[:2], similarity_fn=score)
    documents = documents.at[2].set(1e3 * queries[2, 0])
    actual = ranking_loss(queries, documents, similarity_fn=score, where=where)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_padded_documents_change_nothing():
    queries, documents = tokens()
    padding = ((0, 0), (0, 3), (0, 0), (0, 0))
    padded = jnp.pad(documents, padding, constant_values=jnp.nan)
    documents_where = jnp.broadcast_to(jnp.arange(K + 3)[None] < K, (N, K + 3))
    scores = jnp.array([[1.0, 0.5], [2.0, 3.0], [0.0, -1.0]])
    padded_scores = jnp.pad(scores, padding[:2], constant_values=jnp.nan)
    for loss, plain, more in (
        (ranking_loss, {}, {}),
        (multi_vector_distill_kl_div_loss, {"scores": scores}, {"scores": padded_scores}),
        (multi_vector_margin_mse_loss, {"scores": scores}, {"scores": padded_scores}),
    ):
        expected = jax.value_and_grad(loss, argnums=(0, 1))(queries, documents, **plain)
        value, (d_queries, d_documents) = jax.value_and_grad(loss, argnums=(0, 1))(
            queries, padded, **more, documents_where=documents_where
        )
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        np.testing.assert_allclose(d_queries, expected[1][0], atol=1e-5)
        np.testing.assert_allclose(d_documents[:, :K], expected[1][1], atol=1e-5)
        assert np.all(np.asarray(d_documents)[:, K:] == 0)


@pytest.mark.parametrize("loss", [ranking_loss, multi_vector_margin_mse_loss])
def test_a_row_without_a_real_positive_counts_for_nothing(loss):
    queries, documents = tokens()
    documents_where = jnp.ones((N, K), bool).at[1, 0].set(False)
    targets = {} if loss is ranking_loss else {"scores": jnp.ones((N, K)).at[1, 0].set(jnp.nan)}
    documents = documents.at[1, 0].set(jnp.nan)
    values = loss(queries, documents, documents_where=documents_where, reduce_fn=None, **targets)
    assert values[1] == 0
    assert np.all(np.asarray(values)[[0, 2]] != 0)
    mean = loss(queries, documents, documents_where=documents_where, **targets)
    np.testing.assert_allclose(mean, values.sum() / 2, rtol=1e-6)


def test_a_document_with_the_positives_id_is_no_negative():
    queries, documents = tokens()
    document_ids = jnp.arange(N * K * 2, dtype=jnp.uint32).reshape(N, K, 2)
    plain = ranking_loss(queries, documents, document_ids=document_ids, reduce_fn=None)
    document_ids = document_ids.at[2, 1].set(document_ids[0, 0])
    without = ranking_loss(queries, documents, document_ids=document_ids, reduce_fn=None)
    where = jnp.ones((N, K), bool).at[2, 1].set(False)
    expected = ranking_loss(queries, documents, documents_where=where, reduce_fn=None)
    np.testing.assert_allclose(without[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(without[1:], plain[1:], rtol=1e-6)
    assert without[0] < plain[0]


def test_ids_of_positives_are_those_of_single_documents():
    queries, documents = tokens(k=1)
    ids = jnp.array([[0, 1], [0, 2], [0, 1]], jnp.uint32)
    loss = ranking_loss(queries, documents, ids=ids)
    assert loss == ranking_loss(queries, documents, document_ids=ids[:, None])
    assert loss < ranking_loss(queries, documents)


def test_wrong_settings_are_refused():
    queries, documents = tokens()
    margins, scores = jnp.zeros((N, K - 1)), jnp.zeros((N, K))
    with pytest.raises(ValueError, match="scale must be above 0; got 0"):
        ranking_loss(queries, documents, scale=0)
    with pytest.raises(ValueError, match="ids with 2 documents a row need document_ids; got none"):
        ranking_loss(queries, documents, ids=jnp.zeros((N, 2), jnp.uint32))
    with pytest.raises(ValueError, match="takes the arrays queries, documents; got 1"):
        ranking_loss(*[queries])
    with pytest.raises(ValueError, match="student_temperature must be above 0; got -1"):
        multi_vector_distill_kl_div_loss(queries, documents, scores=scores, student_temperature=-1)
    with pytest.raises(ValueError, match="with k of 2 or more; got"):
        multi_vector_distill_kl_div_loss(queries, documents[:, :1], scores=scores[:, :1])
    with pytest.raises(ValueError, match="give exactly one of margins, scores; got none"):
        multi_vector_margin_mse_loss(queries, documents)
    with pytest.raises(ValueError, match=r"give exactly one of .* got \['margins', 'scores'\]"):
        multi_vector_margin_mse_loss(queries, documents, margins=margins, scores=scores)
    with pytest.raises(ValueError, match="documents must hold a positive and negatives; got"):
        multi_vector_margin_mse_loss(queries, documents[:, :1], scores=scores[:, :1])
    with pytest.raises(ValueError, match="top_k must be 1 or more; got 0"):
        late_interaction.xtr(queries, documents[:, 0], top_k=0)


def test_wrong_shapes_are_refused(unchecked):
    queries, documents = tokens()
    with pytest.raises(ValueError, match=r"\[n k s d\] with k of 1 or more; got \(3, 2, 5\)"):
        ranking_loss(queries, documents[:, 0])
    with pytest.raises(ValueError, match=r"document_mask must have the shape \(3, 2, 4\)"):
        ranking_loss(queries, documents, document_mask=jnp.ones((N, K, S - 1), bool))
    with pytest.raises(ValueError, match=r"scores must have the shape \(3, 2\)"):
        multi_vector_distill_kl_div_loss(queries, documents, scores=jnp.zeros((N, K + 1)))
    with pytest.raises(ValueError, match=r"a mask of tokens \(3, 2, 5\) .* got \(3, 3\)"):
        late_interaction.maxsim(queries, documents[:, 0], query_mask=jnp.ones((N, T + 1), bool))
