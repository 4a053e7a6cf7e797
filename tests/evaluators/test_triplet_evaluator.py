"""Triplet accuracy against sentence-transformers, its ties and roles, and what it refuses."""

import math
from typing import Any

import numpy as np
import pytest

from jaxembed.evaluators import Evaluator
from jaxembed.evaluators.triplet import TripletEvaluator
from tests.goldens.evaluators.pairs import KINDS, named, read_pairs

COLUMNS: dict[str, Any] = {
    "anchors": ["a", "b"],
    "positives": ["ab", "bcd"],
    "negatives": ["abcd", "bc"],
}


def embed_lengths(texts, *, role):
    return np.array([[len(text), 1] for text in texts], np.float32)


@pytest.mark.parametrize("margin", [0, 0.25, 2])
@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("kind", KINDS)
def test_accuracy_equals_sentence_transformers(kind, similarity, margin):
    data, embed, expected = read_pairs("triplet", kind)
    evaluator: Evaluator = TripletEvaluator(
        **{name: named(rows) for name, rows in data.items()}, similarity=similarity, margin=margin
    )
    assert evaluator.main_metric == "accuracy"
    found = evaluator.evaluate(embed)
    assert found == pytest.approx({"accuracy": expected[f"{similarity} {margin}"]}, rel=1e-6)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
def test_a_tie_is_wrong_and_a_negative_margin_forgives_it(similarity):
    columns = COLUMNS | {"negatives": ["cd", "abc"]}  # as long as the positives
    for margin, accuracy in [(0.0, 0.0), (-0.01, 1.0)]:
        evaluator = TripletEvaluator(**columns, similarity=similarity, margin=margin)
        assert evaluator.evaluate(embed_lengths) == {"accuracy": accuracy}


def test_a_margin_of_exactly_the_difference_is_not_passed():
    for margin, accuracy in [(1.9, 0.5), (2.0, 0.0)]:
        evaluator = TripletEvaluator(**COLUMNS, similarity="manhattan", margin=margin)
        assert evaluator.evaluate(embed_lengths) == {"accuracy": accuracy}


def test_each_text_is_embedded_once_in_its_role():
    calls = []

    def embed(texts, *, role):
        calls.append((texts, role))
        return embed_lengths(texts, role=role)

    TripletEvaluator(["a", "a", "b"], ["b", "c", "a"], ["c", "d", "d"]).evaluate(embed)
    assert calls == [(["a", "b"], "query"), (["b", "c", "a", "d"], "document")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchors": [], "positives": [], "negatives": []}, r"1 or more, got \(0, 0, 0\)"),
        (
            {"negatives": ["c"]},
            r"anchors and positives and negatives must have the same length, 1 .*, got \(2, 2, 1\)",
        ),
        ({"positives": "bc"}, "positives must be a sequence of texts, got the text 'bc'"),
        ({"negatives": ["c", 3]}, "negatives must be texts, but row 1 is 3: drop the row"),
        ({"anchors": [math.nan, "b"]}, "anchors must be texts, but row 0 is nan"),
        ({"similarity": "angle"}, "similarity must be one of .*'manhattan'.*, got 'angle'"),
        ({"margin": math.nan}, "margin must be a finite number, got nan"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_embedded(changes, message):
    with pytest.raises(ValueError, match=message):
        TripletEvaluator(**COLUMNS | changes)


def test_roles_of_different_widths_are_refused():
    evaluator = TripletEvaluator(**COLUMNS)
    with pytest.raises(ValueError, match="must be embedded to one width, got 1 and 2"):
        evaluator.evaluate(lambda texts, *, role: np.ones((len(texts), 1 + (role == "document"))))
