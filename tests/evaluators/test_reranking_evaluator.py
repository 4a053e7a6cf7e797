"""Reranking against sentence-transformers, its ties, what it embeds, holds and refuses."""

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from jaxembed.evaluators import Evaluator
from jaxembed.evaluators.pairs import pair_scores
from jaxembed.evaluators.reranking import RerankingEvaluator, shared
from tests.goldens.evaluators.pairs import KINDS, named, read_pairs

SAMPLE = {"query": "a", "positive": ["b"], "negative": ["cccc", "dd"]}


def embed_lengths(texts, *, role):
    return np.array([[len(text), 1] for text in texts], np.float32)


def samples_of(rows):
    samples = []
    for sample in range(rows[-1, 0] + 1):
        _, queries, documents, relevant = rows[rows[:, 0] == sample].T
        positive, negative = named(documents[relevant == 1]), named(documents[relevant == 0])
        samples.append({"query": f"t{queries[0]}", "positive": positive, "negative": negative})
    return samples


@pytest.mark.parametrize("k", [10, 3])
@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_values_equal_sentence_transformers(kind, similarity, k):
    data, embed, expected = read_pairs("reranking", kind)
    samples = samples_of(data["rows"])
    evaluator: Evaluator = RerankingEvaluator(samples, k=k, similarity=similarity)
    found = evaluator.evaluate(embed)
    assert list(found) == ["map", f"mrr@{k}", f"ndcg@{k}"]
    assert evaluator.main_metric == f"ndcg@{k}"
    assert found == pytest.approx(expected[f"{similarity} {k}"], rel=1e-6)


def test_long_lists_with_ties_have_the_values_of_scikit_learn():
    _, embed, _ = read_pairs("reranking", "signs")
    vectors = embed(named(range(96)), role=None)
    samples, precisions, gains = [], [], []
    for query in range(5):
        documents = np.random.default_rng(query).permutation(96)[: 50 + 9 * query]
        positive, negative = named(documents[:12]), named(documents[12:])
        samples.append({"query": f"t{query}", "positive": positive, "negative": negative})
        labels, scores = np.arange(len(documents)) < 12, vectors[documents] @ vectors[query]
        precisions.append(average_precision_score(labels, scores))
        gains.append(ndcg_score([labels], [scores], k=10))
    values = RerankingEvaluator(samples, similarity="dot").evaluate(embed)
    assert values["map"] == pytest.approx(np.mean(precisions), rel=1e-9)
    assert values["ndcg@10"] == pytest.approx(np.mean(gains), rel=1e-6)


def test_the_order_of_samples_and_of_their_texts_does_not_count():
    data, embed, _ = read_pairs("reranking", "signs")
    samples = samples_of(data["rows"])
    turned = [
        {name: texts if name == "query" else texts[::-1] for name, texts in sample.items()}
        for sample in samples[::-1]
    ]
    expected = RerankingEvaluator(samples).evaluate(embed)
    assert RerankingEvaluator(turned).evaluate(embed) == pytest.approx(expected, rel=1e-6)


def test_a_model_that_finds_all_documents_equal_has_the_gain_of_chance_but_a_perfect_mrr():
    samples = [SAMPLE | {"negative": ["c", "d", "e"]}]
    evaluator = RerankingEvaluator(samples, k=2)
    values = evaluator.evaluate(lambda texts, *, role: np.ones((len(texts), 3)))
    truth, scores = [[1, 0, 0, 0]], [[1.0, 1.0, 1.0, 1.0]]
    assert values["map"] == average_precision_score(truth[0], scores[0]) == 0.25
    assert values["ndcg@2"] == pytest.approx(ndcg_score(truth, scores, k=2), rel=1e-6)
    assert values["mrr@2"] == 1


def test_a_positive_beyond_k_counts_for_map_alone():
    samples = [{"query": "a", "positive": ["bbbb"], "negative": ["c", "dd"]}]
    values = RerankingEvaluator(samples, k=2).evaluate(embed_lengths)
    assert values == {"map": pytest.approx(1 / 3), "mrr@2": 0, "ndcg@2": 0}


def test_one_text_stands_for_a_list_of_one():
    values = [
        RerankingEvaluator([SAMPLE | {"positive": positive}]).evaluate(embed_lengths)
        for positive in ("bbb", ["bbb"], ["b", "b", "b"])
    ]
    assert values[0] == values[1] != values[2]


def test_each_text_is_embedded_once_in_its_role():
    calls = []

    def embed(texts, *, role):
        calls.append((texts, role))
        return embed_lengths(texts, role=role)

    other = {"query": "b", "positive": ["dd", "b"], "negative": ["b"], "source": "ignored"}
    RerankingEvaluator([SAMPLE, other, SAMPLE]).evaluate(embed)
    assert calls == [(["a", "b"], "query"), (["b", "cccc", "dd"], "document")]


def test_documents_of_one_score_share_their_labels():
    scores = np.array([0.5, 0.2, 0.5, 0.9, 0.5])
    found = shared(np.array([True, True, False, False, True]), scores)
    np.testing.assert_allclose(found, [2 / 3, 1, 2 / 3, 0, 2 / 3])


def test_memory_grows_with_the_pairs_not_with_queries_times_documents():
    rng = np.random.default_rng(0)
    queries, documents = rng.normal(size=(2, 2000, 16)).astype(np.float32)
    rows = np.arange(20_000) % 2000
    pair_scores(queries, documents, rows[:256], rows[:256], similarity="cosine", block=256)
    tracemalloc.start()
    pair_scores(queries, documents, rows, rows, similarity="cosine", block=256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 20_000 * 4 + 6 * 256 * 16 * 4  # all pairs: 16 MB


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (SAMPLE | {"positive": []}, "sample 1 has no positive document: drop it"),
        (SAMPLE | {"negative": []}, "sample 1 has no negative document: drop it"),
        (SAMPLE | {"negative": None}, "sample 1 has no 'negative': it has .*'positive'"),
        ({"query": "a", "positive": ["b"]}, r"no 'negative': it has \['query', 'positive'\]"),
        (SAMPLE | {"query": 3}, "the query of sample 1 is 3, not a text"),
        (SAMPLE | {"positive": ["b", 7]}, "positive documents of sample 1 must .* row 1 is 7"),
    ],
)
def test_a_sample_that_cannot_be_ranked_is_refused_by_number(sample, message):
    with pytest.raises(ValueError, match=message):
        RerankingEvaluator([SAMPLE, sample])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": []}, "reranking needs at least one sample, got none"),
        ({"k": 0}, "k must be a rank of 1 or more, got 0"),
        ({"similarity": "l2"}, "similarity must be one of .*'manhattan'.*, got 'l2'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_embedded(options, message):
    with pytest.raises(ValueError, match=message):
        RerankingEvaluator(**{"samples": [SAMPLE]} | options)
