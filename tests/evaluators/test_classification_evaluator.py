"""Classification by a probe against mteb and scikit-learn, its draws, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxembed.evaluators.classification import ClassificationEvaluator
from jaxembed.evaluators.protocols import Evaluator
from tests.goldens.evaluators.pairs import named

GOLDENS = Path(__file__).parent.parent / "goldens" / "evaluators"
DATA: dict[str, Any] = {
    "train_texts": ["a", "b", "cccc", "dddd"],
    "train_labels": ["short", "short", "long", "long"],
    "test_texts": ["e", "ffff"],
    "test_labels": ["short", "long"],
}


def embed_lengths(texts, *, role):
    return np.array([[len(text), 0] for text in texts], np.float32)


@pytest.fixture
def stored():
    arrays = np.load(GOLDENS / "probes.npz")
    vectors, labels = arrays["classes"], arrays["near"]
    texts = named(range(240))

    def embed(texts, *, role):
        return vectors[[int(text[1:]) for text in texts]]

    return embed, (texts[:140], labels[:140], texts[140:], labels[140:])


def test_the_values_equal_mteb(stored):
    embed, data = stored
    expected = json.loads((GOLDENS / "probes.json").read_text())["classes"]
    evaluator: Evaluator = ClassificationEvaluator(*data, seed=42)
    found = evaluator.evaluate(embed)
    assert list(found) == ["accuracy", "f1"]
    assert found == pytest.approx(expected, rel=1e-9)
    assert evaluator.main_metric == "accuracy"


def test_all_training_texts_make_one_probe(stored):
    embed, (texts, labels, test_texts, test_labels) = stored
    probe = LogisticRegression(max_iter=100).fit(embed(texts, role=None), labels)
    predicted = probe.predict(embed(test_texts, role=None))
    f1 = []
    for label in range(5):
        hits = np.sum((predicted == label) & (test_labels == label))
        f1.append(2 * hits / (np.sum(predicted == label) + np.sum(test_labels == label)))
    evaluator = ClassificationEvaluator(
        texts, labels, test_texts, test_labels, samples_per_label=None
    )
    assert evaluator.evaluate(embed) == pytest.approx(
        {"accuracy": np.mean(predicted == test_labels), "f1": np.mean(f1)}, rel=1e-9
    )


def test_draws_hold_so_many_rows_of_each_label_and_follow_the_seed():
    labels = ["a"] * 20 + ["b"] * 3 + ["c"] * 9
    texts = named(range(len(labels)))
    draws = [
        list(ClassificationEvaluator(texts, labels, ["x"], ["a"], 5, 4, seed).draws())
        for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0]) == 4
    for rows in draws[0]:
        assert len(set(rows)) == len(rows)
        assert sorted(labels[row] for row in rows) == ["a"] * 5 + ["b"] * 3 + ["c"] * 5
    assert len({tuple(sorted(rows)) for rows in draws[0]}) == 4


def test_only_drawn_training_texts_are_embedded_and_once():
    calls = []

    def embed(texts, *, role):
        calls.append((texts, role))
        return np.array([[int(text[1:]) % 2, 1] for text in texts], np.float32)

    labels = [row % 2 for row in range(50)]
    evaluator = ClassificationEvaluator(
        named(range(50)), labels, ["t0", "t1"], [0, 1], samples_per_label=1, experiments=2
    )
    assert evaluator.evaluate(embed) == {"accuracy": 1, "f1": 1}
    drawn = sorted({row for rows in evaluator.draws() for row in rows})
    assert calls == [(named(drawn), None), (["t0", "t1"], None)]
    assert len(drawn) <= 4


def test_f1_is_the_mean_of_labels_and_not_of_texts():
    data: dict[str, Any] = DATA | {
        "test_texts": ["e"] * 9 + ["f"],
        "test_labels": ["short"] * 9 + ["long"],
    }
    found = ClassificationEvaluator(**data).evaluate(embed_lengths)  # calls all ten short
    assert found == pytest.approx({"accuracy": 0.9, "f1": (2 * 9 / 19 + 0) / 2})


def test_a_probe_stops_after_max_iter_without_a_warning(stored):
    embed, data = stored
    values = [
        ClassificationEvaluator(*data, seed=1, max_iter=steps).evaluate(embed)["accuracy"]
        for steps in (1, 100)
    ]
    assert values[0] != values[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_texts": []}, "train_texts must have the same length, 1 or more"),
        ({"test_texts": ["e", 5]}, "test_texts must be texts, but row 1 is 5"),
        ({"train_labels": ["a"]}, "every text needs one of train_labels, got 1 for 4 texts"),
        ({"test_labels": ["long"]}, "every text needs one of test_labels, got 1 for 2 texts"),
        ({"train_labels": ["a", 1, 1, 1]}, "train_labels must be all strings .* label 1 is 1"),
        ({"train_labels": ["a"] * 4}, "all train_labels are 'a': nothing to tell apart"),
        (
            {"test_labels": ["long", "wide"]},
            "the label 'wide' of test text 1 never occurs in training: add texts that have it",
        ),
        ({"samples_per_label": 0}, "samples_per_label must be at least 1, got 0"),
        ({"experiments": 0}, "experiments must be at least 1, got 0"),
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_embedded(changes, message):
    with pytest.raises(ValueError, match=message):
        ClassificationEvaluator(**DATA | changes)
