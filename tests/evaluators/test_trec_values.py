"""Retrieval metrics against trec_eval, on graded judgements and rankings without ties."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxembed.evaluators import RetrievalEvaluator

GOLDENS = Path(__file__).parent.parent / "goldens" / "evaluators"
KS = (1, 3, 10, 30)
NAMES = {
    "ndcg": "ndcg_cut",
    "precision": "P",
    "recall": "recall",
    "accuracy": "success",
    "mrr": "recip_rank",
    "map": "map_cut",
}


@pytest.fixture(scope="module")
def ranked():
    """What is found, what trec_eval says of each query, and the numbers of relevant documents."""
    stored = np.load(GOLDENS / "trec.npz")
    queries, documents, judged = stored["queries"], stored["documents"], stored["judged"]
    vectors = {f"q{row}": vector for row, vector in enumerate(queries)}
    vectors |= {f"d{row}": vector for row, vector in enumerate(documents)}
    qrels = {
        f"q{row}": {f"d{i}": int(scores[i]) for i in np.flatnonzero(scores >= 0)}
        for row, scores in enumerate(judged)
    }
    corpus, queries = ({name: name for name in vectors if name[0] == kind} for kind in "dq")
    evaluator = RetrievalEvaluator(corpus, queries, qrels, ks=KS)
    found = evaluator.evaluate(lambda texts, *, role: np.stack([vectors[text] for text in texts]))
    expected = json.loads((GOLDENS / "trec.json").read_text())["queries"]
    return found, [expected[query] for query in qrels], np.sum(judged > 0, axis=1)


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("name", NAMES)
def test_all_values_equal_trec_eval(ranked, name, k):
    found, expected, n_relevant = ranked
    values = np.array([query[f"{NAMES[name]}_{k}"] for query in expected])
    if name == "map":  # trec_eval divides by all that is relevant, also where that is more than k
        assert np.any(n_relevant > k) or k == 30
        values = values * n_relevant / np.minimum(n_relevant, k)
    assert found[f"{name}@{k}"] == pytest.approx(np.mean(values), rel=1e-6)
    assert 0 < np.mean(values) < 1 or name == "accuracy"
