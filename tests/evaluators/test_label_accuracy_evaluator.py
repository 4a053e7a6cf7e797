"""Label accuracy against sentence-transformers, its blocks, and what it refuses."""

import numpy as np
import pytest

from jaxembed.evaluators.label_accuracy import BLOCK, LabelAccuracyEvaluator
from jaxembed.evaluators.protocols import Evaluator
from tests.goldens.evaluators.models import read_models
from tests.goldens.evaluators.pairs import named


def embed_lengths(texts, *, role):
    return np.array([[len(text)] for text in texts], np.float32)


def same_length(left, right):
    """Class 1 where the lengths are equal."""
    return np.concatenate([abs(left - right) - 0.5, 0 * left], axis=1)


def test_the_value_equals_sentence_transformers():
    stored, embed, expected = read_models()

    def softmax_classifier(left, right):
        joined = np.concatenate([left, right, abs(left - right)], axis=1)
        return joined @ stored["weights"] + stored["bias"]

    evaluator: Evaluator = LabelAccuracyEvaluator(
        named(stored["left"]), named(stored["right"]), stored["labels"], softmax_classifier
    )
    assert evaluator.evaluate(embed) == pytest.approx(expected["label_accuracy"], rel=1e-12)
    assert evaluator.main_metric == "accuracy"


def test_blocks_have_one_size_and_each_pair_counts_once():
    n, sizes = BLOCK + 3, []

    def classify(left, right):
        sizes.append(len(left))
        return same_length(left, right)

    right = ["b"] * (n - 2) + ["bb", "bb"]
    evaluator = LabelAccuracyEvaluator(["a"] * n, right, [1] * n, classify)
    assert evaluator.evaluate(embed_lengths)["accuracy"] == (n - 2) / n
    assert sizes == [BLOCK, BLOCK]


def test_each_text_is_embedded_once_without_a_role():
    calls = []

    def embed(texts, *, role):
        calls.append((texts, role))
        return embed_lengths(texts, role=role)

    LabelAccuracyEvaluator(["a", "b", "a"], ["b", "c", "c"], [1, 1, 0], same_length).evaluate(embed)
    assert calls == [(["a", "b", "c"], None)]


def test_of_equal_logits_the_first_class_counts():
    evaluator = LabelAccuracyEvaluator(
        ["a", "b"], ["c", "d"], [0, 1], lambda left, right: np.zeros((len(left), 2))
    )
    assert evaluator.evaluate(embed_lengths)["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"right": ["c"]}, r"left and right must have the same length, 1 or more, got \(2, 1\)"),
        ({"left": ["a", 3]}, "left must be texts, but row 1 is 3: drop the row"),
        ({"labels": [1]}, "every pair needs a label, got 1 for 2 pairs"),
        ({"labels": [1, -1]}, "labels must be classes 0, 1, …, but label 1 is -1"),
        ({"labels": [1.0, 0]}, "labels must be classes 0, 1, …, but label 0 is 1.0"),
        ({"labels": ["x", 0]}, "labels must be classes 0, 1, …, but label 0 is 'x'"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_embedded(changes, message):
    data = {"left": ["a", "b"], "right": ["c", "d"], "labels": [0, 1], "classify": same_length}
    with pytest.raises(ValueError, match=message):
        LabelAccuracyEvaluator(**data | changes)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((2, 2)), "classify knows 2 classes, but label 1 is 2"),
        (np.array([[0, 1, 2], [0, 1, np.nan]]), "NaN or infinity, first for pair 1"),
        (np.zeros(2), r"a row of logits for each of its 2 pairs, \[2 c\]; got shape \[2\]"),
        (np.zeros((1, 3)), r"got shape \[1, 3\]"),
    ],
)
def test_logits_that_name_no_class_are_refused(logits, message):
    evaluator = LabelAccuracyEvaluator(["a", "b"], ["c", "d"], [0, 2], lambda left, right: logits)
    with pytest.raises(ValueError, match=message):
        evaluator.evaluate(embed_lengths)
