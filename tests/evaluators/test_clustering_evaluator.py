"""Clustering against mteb and loops, its promises, and what it refuses."""

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans

from jaxembed.evaluators.clustering import ClusteringEvaluator
from jaxembed.evaluators.protocols import Evaluator
from tests.goldens.evaluators.pairs import named

GOLDENS = Path(__file__).parent.parent / "goldens" / "evaluators"


def v_measure(labels, clusters):
    """2 h c / (h + c), with h = 1 - H(label | cluster) / H(label) and c the other way round."""

    def entropy(values):
        return -sum(n / len(values) * math.log(n / len(values)) for n in Counter(values).values())

    both = entropy(list(zip(labels, clusters, strict=True)))
    homogeneity = 1 - (both - entropy(clusters)) / entropy(labels)
    completeness = 1 - (both - entropy(labels)) / entropy(clusters)
    return 2 * homogeneity * completeness / (homogeneity + completeness)


def embed_lengths(texts, *, role):
    return np.array([[len(text), 0] for text in texts], np.float32)


def test_the_value_equals_mteb():
    stored = np.load(GOLDENS / "probes.npz")
    expected = json.loads((GOLDENS / "probes.json").read_text())["clusters"]
    evaluator: Evaluator = ClusteringEvaluator(named(range(240)), stored["noisy"].tolist(), seed=42)
    assert evaluator.evaluate(lambda texts, *, role: stored["clusters"]) == pytest.approx(expected)
    assert evaluator.main_metric == "v_measure"


@pytest.mark.parametrize("seed", [0, 3])
def test_the_value_is_that_of_the_formula_for_the_clusters_of_the_seed(seed):
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    labels = [("a", "b", "c", "a")[row % 4] for row in range(60)]
    means = MiniBatchKMeans(3, batch_size=500, n_init="auto", random_state=seed)
    expected = v_measure(labels, means.fit(vectors).labels_.tolist())
    evaluator = ClusteringEvaluator(named(range(60)), labels, seed=seed)
    found = evaluator.evaluate(lambda texts, *, role: vectors)
    assert found == {"v_measure": pytest.approx(expected, rel=1e-9)}
    assert evaluator.evaluate(lambda texts, *, role: vectors) == found


def test_names_of_labels_do_not_count():
    texts = ["a", "b", "cccc", "dddd", "eeeeeeee", "ffffffff", "g"]
    values = [
        ClusteringEvaluator(texts, labels).evaluate(embed_lengths)["v_measure"]
        for labels in ([0, 0, 1, 1, 2, 2, 1], ["z", "z", "b", "b", "x", "x", "b"])
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    assert values[0] < 1


def test_a_model_that_embeds_all_texts_alike_finds_nothing():
    evaluator = ClusteringEvaluator(["a", "b", "c", "d"], [0, 0, 1, 1])
    assert evaluator.evaluate(lambda texts, *, role: np.ones((4, 2))) == {"v_measure": 0}


def test_texts_are_embedded_in_one_call_without_a_role():
    calls = []

    def embed(texts, *, role):
        calls.append((texts, role))
        return embed_lengths(texts, role=role)

    ClusteringEvaluator(["a", "bb", "cc"], ["x", "y", "y"]).evaluate(embed)
    assert calls == [(["a", "bb", "cc"], None)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": []}, "texts must have the same length, 1 or more"),
        ({"texts": ["a", 2, "c"]}, "texts must be texts, but row 1 is 2"),
        ({"labels": [0, 1]}, "every text needs one of labels, got 2 for 3 texts"),
        ({"labels": [0, 1, "1"]}, "all strings or all integers, but label 2 is '1'"),
        ({"labels": ["a", "b", None]}, "all strings or all integers, but label 2 is None"),
        ({"labels": [0.5, 1, 1]}, "all strings or all integers, but label 0 is 0.5"),
        ({"labels": ["x", "x", "x"]}, "all labels are 'x': nothing to tell apart"),
        ({"labels": [0, 1, 2]}, "no two texts have the same label"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_embedded(changes, message):
    with pytest.raises(ValueError, match=message):
        ClusteringEvaluator(**{"texts": ["a", "b", "c"], "labels": [0, 1, 1]} | changes)


def test_without_scikit_learn_all_else_works_and_the_remedy_is_named():
    code = """if True:
        import sys
        sys.modules["sklearn"] = None  # as if it were not installed
        from jaxembed.evaluators.classification import ClassificationEvaluator
        from jaxembed.evaluators.clustering import ClusteringEvaluator
        data = ["a", "b", "c"], [0, 1, 1]
        for evaluator, columns in (ClusteringEvaluator, data), (ClassificationEvaluator, data * 2):
            try:
                evaluator(*columns)
            except ValueError as error:
                print(error)
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        'clustering needs scikit-learn: pip install "jaxembed[evaluation]"',
        'classification needs scikit-learn: pip install "jaxembed[evaluation]"',
    ]
