"""Translation matching against sentence-transformers and scikit-learn, and what it refuses."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from jaxembed.evaluators import Evaluator, translation
from jaxembed.evaluators.translation import TranslationEvaluator, mean_f1
from jaxembed.search import top_k_search
from tests.goldens.evaluators.pairs import KINDS, named, read_pairs

NAMES = {
    "source_to_target_accuracy": "src2trg_accuracy",
    "target_to_source_accuracy": "trg2src_accuracy",
    "mean_accuracy": "mean_accuracy",
    "f1": "f1",
}
VECTORS = {
    **{"one": [1, 0, 0], "two": [0, 1, 0]},
    **{"eins": [2, 1, 0], "zwei": [1, 3, 0], "drei": [0, 0, 1], "fünf": [6, 5, 0]},
}


def embed(texts, *, role):
    return np.array([VECTORS[text] for text in texts], np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_all_values_equal_the_published_ones(kind):
    data, embed, expected = read_pairs("translation", kind)
    evaluator: Evaluator = TranslationEvaluator(named(data["source"]), named(data["target"]))
    found = evaluator.evaluate(embed)
    assert found.keys() == NAMES.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[NAMES[name]], rtol=1e-6, err_msg=name)
    assert evaluator.main_metric == "mean_accuracy"


def test_f1_is_scikit_learns_weighted_by_row():
    for seed in range(5):
        found = np.random.default_rng(seed).integers(0, 20, 20)
        expected = f1_score(np.arange(20), found, average="weighted")
        np.testing.assert_allclose(mean_f1(found), expected, rtol=1e-9)


def test_each_direction_has_its_own_accuracy():
    values = TranslationEvaluator(["one", "two"], ["eins", "fünf"]).evaluate(embed)
    assert values["source_to_target_accuracy"] == values["f1"] == 1
    assert values["target_to_source_accuracy"] == 0.5  # "fünf" finds "one"
    assert values["mean_accuracy"] == 0.75


def test_a_target_taken_for_two_sources_lowers_f1():
    values = TranslationEvaluator(["one", "two"], ["eins", "drei"]).evaluate(embed)
    assert values["source_to_target_accuracy"] == 0.5  # "two" finds "eins" too
    assert values["f1"] == pytest.approx((2 / 3) / 2)


def test_a_copy_of_the_right_text_is_right_but_for_f1():
    values = TranslationEvaluator(["one", "two", "one"], ["eins", "zwei", "eins"]).evaluate(embed)
    assert values["source_to_target_accuracy"] == values["target_to_source_accuracy"] == 1
    assert values["f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_the_order_of_the_rows_does_not_count():
    data, embed, _ = read_pairs("translation", "random")
    rows = np.arange(24, len(data["source"]))  # without copies, of which the first is found
    given, turned = (
        TranslationEvaluator(named(data["source"][rows]), named(data["target"][rows]))
        for rows in (rows, np.random.default_rng(0).permutation(rows))
    )
    assert turned.evaluate(embed) == pytest.approx(given.evaluate(embed))


def test_a_row_meets_the_others_in_blocks_of_the_search_alone(monkeypatch):
    searches = []

    def watched(queries, corpus, *, k):
        searches.append((queries.shape, corpus.shape, k))
        return top_k_search(queries, corpus, k=k)

    monkeypatch.setattr(translation, "top_k_search", watched)
    TranslationEvaluator(["one", "two"], ["eins", "zwei"]).evaluate(embed)
    assert searches == [((2, 3), (2, 3), 1)] * 2


def test_all_texts_are_embedded_in_one_call_without_a_role():
    calls = []

    def watched(texts, *, role):
        calls.append((texts, role))
        return embed(texts, role=role)

    TranslationEvaluator(["one", "two"], ["eins", "zwei"]).evaluate(watched)
    assert calls == [(["one", "two", "eins", "zwei"], None)]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([], [], r"source and target must have the same length, 1 or more, got \(0, 0\)"),
        (["one"], ["eins", "zwei"], r"the same length, 1 or more, got \(1, 2\)"),
        (["one", "two"], ["eins", None], "target must be texts, but row 1 is None: drop the row"),
        ("one", ["eins"], "source must be a sequence of texts, got the text 'one'"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_embedded(source, target, message):
    with pytest.raises(ValueError, match=message):
        TranslationEvaluator(source, target)
