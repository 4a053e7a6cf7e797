"""Retrieval evaluation against sentence-transformers, loops, and its own promises."""

import json
import math
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet
import pytest
from sklearn.metrics import ndcg_score

from jaxembed.evaluators import Evaluator, RetrievalEvaluator

GOLDENS = Path(__file__).parent.parent / "goldens" / "evaluators"
KS = (1, 3, 5, 10, 100)
RTOL = 2e-5  # float32


class StoredVectors:
    """Embeds a text as the vector of that name, and remembers what was asked."""

    def __init__(self, **vectors):
        self.vectors, self.calls = vectors, []

    def __call__(self, texts, *, role):
        self.calls.append((list(texts), role))
        return np.stack([self.vectors[text] for text in texts])


def named(prefix, rows):
    return {f"{prefix}{row}": vector for row, vector in enumerate(rows)}


def same(names):
    return {name: name for name in names}


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_all_values_equal_sentence_transformers(similarity):
    stored = np.load(GOLDENS / "retrieval.npz")
    expected = json.loads((GOLDENS / "expected.json").read_text())["retrieval"]
    queries, corpus = named("q", stored["queries"]), named("d", stored[similarity])
    evaluator = RetrievalEvaluator(
        corpus=same(corpus),
        queries=same(queries),
        qrels={
            f"q{row}": {f"d{index}": 1 for index in np.flatnonzero(relevant)}
            for row, relevant in enumerate(stored["relevant"])
        },
        ks=KS,
        similarity=similarity,
    )
    found = evaluator.evaluate(StoredVectors(**queries, **corpus))
    assert len(found) == 6 * len(KS)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[f"{similarity}_{name}"], rtol=RTOL, err_msg=name)


@pytest.fixture
def graded():
    """Seven queries, 25 documents, judgements from -1 to 3, most of them missing."""
    rng = np.random.default_rng(0)
    queries, corpus = named("q", rng.normal(size=(7, 5))), named("d", rng.normal(size=(25, 5)))
    judged = rng.integers(-1, 4, (7, 25)) * (rng.random((7, 25)) < 0.4)
    judged[:, 4] = 2
    qrels = {
        query: {f"d{column}": int(score) for column, score in enumerate(row) if score}
        for query, row in zip(queries, judged, strict=True)
    }
    return queries, corpus, qrels


def cosines(queries, corpus):
    scores = [[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in corpus] for x in queries]
    return np.array(scores)


@pytest.mark.parametrize("k", [1, 4, 10])
def test_graded_scores_are_gains_and_above_zero_is_relevant(graded, k):
    queries, corpus, qrels = graded
    scores = cosines(queries.values(), corpus.values())
    gains = np.array([[max(0, row.get(name, 0)) for name in corpus] for row in qrels.values()])
    hits = recall = 0.0
    for row, score in zip(gains, scores, strict=True):
        found = [row[column] > 0 for column in np.argsort(-score)[:k]]
        hits += any(found)
        recall += sum(found) / np.sum(row > 0)
    values = RetrievalEvaluator(same(corpus), same(queries), qrels, ks=(k,)).evaluate(
        StoredVectors(**queries, **corpus)
    )
    np.testing.assert_allclose(values[f"ndcg@{k}"], ndcg_score(gains, scores, k=k), rtol=RTOL)
    np.testing.assert_allclose(values[f"accuracy@{k}"], hits / 7, rtol=RTOL)
    np.testing.assert_allclose(values[f"recall@{k}"], recall / 7, rtol=RTOL)


def test_a_cut_off_beyond_the_corpus_counts_the_missing_ranks_as_not_relevant():
    embed = StoredVectors(q=np.array([1.0, 0.0]), d0=np.array([0.0, 1.0]), d1=np.array([1.0, 1.0]))
    evaluator = RetrievalEvaluator(same(["d0", "d1"]), same(["q"]), {"q": {"d0": 1}}, ks=[1, 10])
    values = evaluator.evaluate(embed)
    assert values["precision@1"] == values["recall@1"] == 0
    np.testing.assert_allclose(values["precision@10"], 1 / 10, rtol=RTOL)
    np.testing.assert_allclose(values["mrr@10"], 1 / 2, rtol=RTOL)
    np.testing.assert_allclose(values["ndcg@10"], 1 / math.log2(3), rtol=RTOL)


def test_equally_similar_documents_rank_in_corpus_order():
    embed = StoredVectors(q=np.ones(2), a=np.ones(2), b=np.ones(2))
    for corpus, first in [(["a", "b"], 1), (["b", "a"], 0)]:
        evaluator = RetrievalEvaluator(same(corpus), same(["q"]), {"q": {"a": 1}}, ks=(1,))
        assert evaluator.evaluate(embed)["accuracy@1"] == first


def ndcg_without_same_id(queries, corpus, qrels, k):
    """As trec_eval has it: the document of a query's own id is not found, but still relevant."""
    values = []
    for query, scores in zip(queries, cosines(queries.values(), corpus.values()), strict=True):
        gains = {name: max(0, score) for name, score in qrels[query].items()}
        ranked = [name for _, name in sorted(zip(-scores, corpus, strict=True)) if name != query]
        found = [gains.get(name, 0) for name in ranked[:k]]
        ideal = sorted(gains.values(), reverse=True)[:k]
        values.append(
            sum(gain / math.log2(rank + 2) for rank, gain in enumerate(found))
            / sum(gain / math.log2(rank + 2) for rank, gain in enumerate(ideal))
        )
    return np.mean(values)


@pytest.mark.parametrize("n_same", [0, 1, 7])
def test_the_document_of_a_querys_own_id_is_found_unless_it_is_excluded(graded, n_same):
    queries, corpus, qrels = graded
    names = [f"d{row + 5}" if row < n_same else f"q{row}" for row in range(7)]
    queries = dict(zip(names, queries.values(), strict=True))
    corpus |= {name: queries[name] for name in names[:n_same]}  # each is its own nearest document
    qrels = dict(zip(names, qrels.values(), strict=True))
    embed = StoredVectors(**{f"?{name}": x for name, x in queries.items()}, **corpus)
    texts = {name: f"?{name}" for name in names}
    data = same(corpus), texts, qrels
    values = RetrievalEvaluator(*data, ks=(4, 99), exclude_same_id=True).evaluate(embed)
    for k in (4, 99):
        expected = ndcg_without_same_id(queries, corpus, qrels, k)
        np.testing.assert_allclose(values[f"ndcg@{k}"], expected, rtol=RTOL)
    plain = RetrievalEvaluator(*data, ks=(4, 99))
    assert plain.n_same_ids == n_same
    assert (plain.evaluate(embed)["ndcg@99"] == values["ndcg@99"]) == (n_same == 0)


def test_a_query_that_is_its_only_relevant_document_is_refused():
    data = same("de"), same("d"), {"d": {"d": 1, "e": 0}}
    assert RetrievalEvaluator(*data).evaluate(StoredVectors(d=np.ones(2), e=-np.ones(2)))["map@1"]
    with pytest.raises(ValueError, match="query 'd' has no relevant document but that of its own"):
        RetrievalEvaluator(*data, exclude_same_id=True)


def test_texts_are_embedded_once_in_their_roles_and_values_come_in_order(graded):
    queries, corpus, qrels = graded
    embed = StoredVectors(**queries, **corpus)
    evaluator: Evaluator = RetrievalEvaluator(same(corpus), same(queries), qrels, ks=(2, 11))
    values = evaluator.evaluate(embed)
    assert list(values) == [
        *["accuracy@2", "accuracy@11", "precision@2", "precision@11", "recall@2", "recall@11"],
        *["mrr@2", "mrr@11", "ndcg@2", "ndcg@11", "map@2", "map@11"],
    ]
    assert embed.calls == [(list(queries), "query"), (list(corpus), "document")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": {}}, "got 0 documents and 1 queries"),
        ({"queries": {}}, "got 2 documents and 0 queries"),
        ({"ks": (1, 0)}, r"ks must be ranks of 1 or more, such as \(1, 10\), got \(1, 0\)"),
        ({"ks": ()}, r"ks must be ranks of 1 or more, such as \(1, 10\), got \(\)"),
        ({"ks": (10.0,)}, r"ks must be ranks of 1 or more, such as \(1, 10\), got \(10.0,\)"),
        ({"qrels": {"q": {"d"}}}, r"'q' must be a dict of scores .*; got set \{'d'\}: write"),
        ({"qrels": {"q": ["d"]}}, r"'q' must be a dict of scores .*; got list \['d'\]: write"),
        ({"qrels": {"q": {"d": "1"}}}, "'q' must score 'd' by a finite number; got '1'"),
        ({"similarity": "l2"}, r"one of \['cosine', 'dot', 'euclidean', 'manhattan'\], got 'l2'"),
        ({"qrels": {"q": {"d": 1}, "r": {"d": 1}}}, "judge the query 'r', which is not in queries"),
        ({"qrels": {"q": {"x": 1}}}, "query 'q' name the document 'x', which is not in the corpus"),
        ({"qrels": {"q": {"d": 0}}}, "query 'q' has no relevant document: drop it"),
        ({"qrels": {}}, "query 'q' has no relevant document: drop it"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_embedded(changes, message):
    data = {"corpus": same("de"), "queries": same("q"), "qrels": {"q": {"d": 1}}}
    with pytest.raises(ValueError, match=message):
        RetrievalEvaluator(**data | changes)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.ones((3, 2)), r"each of its 1 texts \(role 'query'\), \[1 d\]; got shape \[3, 2\]"),
        (np.ones(1), r"got shape \[1\]"),
        (np.array([[1, np.nan]]), r"NaN or infinity for 1 of 1 texts \(role 'query'\), the first"),
    ],
)
def test_embeddings_that_cannot_be_ranked_are_refused(result, message):
    evaluator = RetrievalEvaluator({"d": "doc"}, {"q": "ask"}, {"q": {"d": 1}})
    with pytest.raises(ValueError, match=message):
        evaluator.evaluate(lambda texts, *, role: result)


TABLES = {
    "corpus": {"_id": ["7", "8"], "title": ["Cat", None], "text": ["small animal", "large animal"]},
    "queries": {"_id": ["a", "b", "c"], "text": ["pet", "car", "elephant"]},
    "qrels": {
        "query-id": ["c", "a", "a", "b"],
        "corpus-id": [8, 7, 8, 7],
        "score": [2, 1, 0, 0],
    },
}


@pytest.mark.parametrize("kind", ["dict", "dataset", "parquet"])
def test_beir_tables_become_an_evaluator(kind, tmp_path):
    sources = TABLES
    if kind == "dataset":
        sources = {name: datasets.Dataset.from_dict(table) for name, table in TABLES.items()}
    if kind == "parquet":
        sources = {name: tmp_path / f"{name}.parquet" for name in TABLES}
        for name, path in sources.items():
            pyarrow.parquet.write_table(pyarrow.table(TABLES[name]), path)
    evaluator = RetrievalEvaluator.from_beir(**sources, ks=(1,))
    assert evaluator.corpus == {"7": "Cat small animal", "8": "large animal"}
    assert evaluator.queries == {"a": "pet", "c": "elephant"}
    assert evaluator.qrels == {"c": {"8": 2}, "a": {"7": 1, "8": 0}}
    assert evaluator.ks == (1,)


def test_beir_documents_need_no_title():
    corpus = {"_id": ["7", "8"], "text": ["small animal", "large animal"]}
    evaluator = RetrievalEvaluator.from_beir(corpus, TABLES["queries"], TABLES["qrels"])
    assert evaluator.corpus == {"7": "small animal", "8": "large animal"}


@pytest.mark.parametrize(
    ("table", "column", "values", "message"),
    [
        ("qrels", "corpus-id", None, "qrels has no column 'corpus-id'"),
        ("queries", "text", None, "queries has no column 'text'"),
        ("corpus", "_id", ["7", "7"], "row 1 of corpus has the _id '7' of an earlier one"),
    ],
)
def test_beir_tables_with_wrong_columns_are_refused(table, column, values, message):
    changed = {name: value for name, value in TABLES[table].items() if name != column}
    if values:
        changed[column] = values
    with pytest.raises(ValueError, match=message):
        RetrievalEvaluator.from_beir(**TABLES | {table: changed})


def test_importing_the_evaluators_opens_no_data_library():
    code = "import sys, jaxembed.evaluators; print({'datasets', 'pyarrow'} & set(sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "set()"
