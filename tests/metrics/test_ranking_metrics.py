"""The ranking metrics against loops, scikit-learn, and each other's edge cases."""

import math
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from jaxembed.metrics import (
    accuracy_at,
    average_precision_at,
    ndcg_at,
    precision_at,
    recall_at,
    reciprocal_rank_at,
)

RTOL = 2e-5  # float32
KS = [1, 2, 3, 5, 8, 20]


def binary_ndcg_at(relevant, n_relevant, *, k):
    ideal = jnp.arange(k)[None] < n_relevant.reshape(-1, 1)
    return ndcg_at(relevant, ideal.reshape(*n_relevant.shape, k), k=k)


# Each takes (relevant, n_relevant, k) here; the reference takes one query.
METRICS = {
    "accuracy": lambda relevant, n_relevant, k: accuracy_at(relevant, k=k),
    "precision": lambda relevant, n_relevant, k: precision_at(relevant, k=k),
    "recall": lambda relevant, n_relevant, k: recall_at(relevant, n_relevant, k=k),
    "reciprocal_rank": lambda relevant, n_relevant, k: reciprocal_rank_at(relevant, k=k),
    "ndcg": lambda relevant, n_relevant, k: binary_ndcg_at(relevant, n_relevant, k=k),
    "average_precision": lambda relevant, n_relevant, k: average_precision_at(
        relevant, n_relevant, k=k
    ),
}


def reference(name, relevant, n_relevant, k):
    hits, first_rank, precisions, dcg = 0, None, 0.0, 0.0
    for rank, hit in enumerate(relevant, start=1):
        if rank > k or not hit:
            continue
        hits += 1
        first_rank = first_rank or rank
        precisions += hits / rank
        dcg += 1 / math.log2(rank + 1)
    ideal = 0.0
    for rank in range(1, min(n_relevant, k) + 1):
        ideal += 1 / math.log2(rank + 1)
    return {
        "accuracy": float(hits > 0),
        "precision": hits / k,
        "recall": hits / n_relevant,
        "reciprocal_rank": 1 / first_rank if first_rank else 0.0,
        "ndcg": dcg / ideal,
        "average_precision": precisions / min(n_relevant, k),
    }[name]


@pytest.fixture
def ranking():
    """Eleven queries, eight ranks; up to nine relevant documents, not all of them found."""
    rng = np.random.default_rng(1)
    relevant = rng.random((11, 8)) < rng.uniform(0.05, 0.8, (11, 1))
    n_relevant = relevant.sum(axis=1) + rng.integers(0, 4, 11)
    return relevant, np.maximum(n_relevant, 1).astype(np.int32)


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_equals_a_loop_over_the_ranks(name, k, ranking):
    relevant, n_relevant = ranking
    expected = [
        reference(name, row, count, k) for row, count in zip(relevant, n_relevant, strict=True)
    ]
    found = METRICS[name](jnp.array(relevant), jnp.array(n_relevant), k)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=RTOL)
    assert len(set(expected)) > 1


@pytest.mark.parametrize("name", METRICS)
def test_jit_vmap_and_one_query_agree_with_the_batch(name, ranking):
    relevant, n_relevant = map(jnp.array, ranking)
    metric = partial(METRICS[name], k=5)
    expected = metric(relevant, n_relevant)
    np.testing.assert_allclose(jax.jit(metric)(relevant, n_relevant), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(metric)(relevant, n_relevant), expected, rtol=1e-6)
    np.testing.assert_allclose(metric(relevant[3], n_relevant[3]), expected[3], rtol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_a_query_without_relevant_documents_scores_zero(name):
    assert METRICS[name](jnp.zeros((1, 4), bool), jnp.array([0]), 3) == jnp.zeros(1)


@pytest.mark.parametrize("name", [name for name in METRICS if name != "precision"])
def test_a_perfect_ranking_scores_one(name):
    relevant = jnp.array([[True, True, False]])
    assert METRICS[name](relevant, jnp.array([2]), 3) == jnp.ones(1)


@pytest.mark.parametrize("name", METRICS)
def test_a_cut_off_below_one_is_refused(name):
    with pytest.raises(ValueError, match="k counts ranks and must be at least 1, got 0"):
        METRICS[name](jnp.ones((2, 3), bool), jnp.array([1, 1]), 0)


@pytest.mark.parametrize("k", [1, 3, 7, 30])
def test_graded_ndcg_equals_scikit_learn(k):
    rng = np.random.default_rng(2)
    gains = rng.integers(0, 4, (9, 30)).astype(np.float32) * (rng.random((9, 30)) < 0.4)
    scores = rng.normal(size=(9, 30))
    ranked = np.take_along_axis(gains, np.argsort(-scores, axis=1), axis=1)
    ideal = -np.sort(-gains, axis=1)
    found = ndcg_at(jnp.array(ranked, jnp.float32), jnp.array(ideal, jnp.float32), k=k)
    expected = [ndcg_score(g[None], s[None], k=k) for g, s in zip(gains, scores, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=RTOL)
    assert np.ptp(expected) > 0.1


def test_integer_and_boolean_gains_are_taken_as_numbers():
    relevant, ideal = jnp.array([[False, True, True]]), jnp.array([[True, True, False]])
    expected = ndcg_at(relevant.astype(jnp.float32), ideal.astype(jnp.float32), k=3)
    assert ndcg_at(relevant, ideal, k=3) == expected
    assert ndcg_at(relevant.astype(jnp.int32), ideal.astype(jnp.int32), k=3) == expected


def test_average_precision_equals_scikit_learn_where_all_relevant_documents_are_ranked():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(3)
    relevant = rng.random((6, 12)) < 0.4
    relevant[:, 7] = True
    scores = -np.arange(12.0)
    with warnings.catch_warnings(action="error"):
        expected = [average_precision_score(row, scores) for row in relevant]
    n_relevant = jnp.array(relevant.sum(axis=1), jnp.int32)
    found = average_precision_at(jnp.array(relevant), n_relevant, k=12)
    np.testing.assert_allclose(found, expected, rtol=RTOL)
