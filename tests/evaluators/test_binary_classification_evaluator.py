"""Classification of pairs against sentence-transformers, what it embeds, holds and refuses."""

import numpy as np
import pytest

from jaxembed.evaluators import BinaryClassificationEvaluator, Evaluator, pairs
from jaxembed.evaluators.pairs import pair_scores, paired
from tests.goldens.evaluators.pairs import KINDS, named, read_pairs

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
LENGTHS = {"left": ["a", "bb", "a"], "right": ["c", "dddd", "a"], "labels": [1, 0, 1]}


def embed_lengths(texts, *, role):
    return np.array([[len(text), 1] for text in texts], np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_all_values_equal_sentence_transformers(kind):
    data, embed, expected = read_pairs("binary", kind)
    evaluator: Evaluator = BinaryClassificationEvaluator(
        named(data["left"]), named(data["right"]), data["labels"], similarities=SIMILARITIES
    )
    found = evaluator.evaluate(embed)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, err_msg=name)


def test_the_order_of_the_pairs_does_not_count():
    data, embed, _ = read_pairs("binary", "signs")
    order = np.random.default_rng(0).permutation(len(data["labels"]))
    given, turned = (
        BinaryClassificationEvaluator(
            named(data["left"][rows]), named(data["right"][rows]), data["labels"][rows]
        ).evaluate(embed)
        for rows in (np.arange(len(order)), order)
    )
    assert turned == given


def test_a_model_that_finds_all_pairs_equal_tells_nothing():
    values = BinaryClassificationEvaluator(**LENGTHS).evaluate(
        lambda texts, *, role: np.ones((len(texts), 4))
    )
    assert values["cosine_ap"] == values["cosine_accuracy"] == pytest.approx(2 / 3)
    assert (values["cosine_recall"], values["cosine_mcc"]) == (1, 0)


def test_the_threshold_of_a_distance_is_a_distance_that_pairs_do_not_exceed():
    evaluator = BinaryClassificationEvaluator(**LENGTHS, similarities=("manhattan", "cosine"))
    values = evaluator.evaluate(embed_lengths)  # the distances are 0, 2 and 0
    assert values["manhattan_accuracy_threshold"] == values["manhattan_f1_threshold"] == 1
    assert values["manhattan_accuracy"] == values["manhattan_mcc"] == 1
    assert list(values)[:2] == ["manhattan_accuracy", "manhattan_accuracy_threshold"]
    assert evaluator.main_metric == "manhattan_ap"


def test_each_text_is_embedded_once_without_a_role():
    calls = []

    def embed(texts, *, role):
        calls.append((texts, role))
        return embed_lengths(texts, role=role)

    BinaryClassificationEvaluator(**LENGTHS, similarities=SIMILARITIES).evaluate(embed)
    assert calls == [(["a", "bb", "c", "dddd"], None)]


@pytest.mark.parametrize("block", [1, 4, 13, 64])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_any_blocks_score_the_pairs_as_a_loop_does(similarity, block):
    rng = np.random.default_rng(0)
    left, right = rng.integers(-9, 10, (5, 6)), rng.normal(size=(7, 6)).astype(np.float16)
    rows, columns = rng.integers(0, 5, 13), rng.integers(0, 7, 13)
    found = pair_scores(left, right, rows, columns, similarity=similarity, block=block)
    expected = []
    for x, y in zip(left[rows], right[columns].astype(np.float64), strict=True):
        expected.append(
            {
                "cosine": x @ y / np.linalg.norm(x) / np.linalg.norm(y),
                "dot": x @ y,
                "euclidean": -np.linalg.norm(x - y),
                "manhattan": -np.abs(x - y).sum(),
            }[similarity]
        )
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_any_number_of_pairs_runs_in_one_program_of_one_block(monkeypatch):
    shapes = set()

    def watched(left, right, *, similarity):
        shapes.add((left.shape, right.shape))
        return paired(left, right, similarity=similarity)

    monkeypatch.setattr(pairs, "paired", watched)
    embeddings = np.ones((9, 24), np.float32)
    for n in (16, 15, 9, 100, 33):
        rows = np.arange(n) % 9
        pair_scores(embeddings, embeddings, rows, rows, similarity="dot", block=16)
    assert shapes == {((16, 24), (16, 24))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"left": []}, r"left and right must have the same length, 1 or more, got \(0, 3\)"),
        ({"left": [], "right": [], "labels": []}, r"1 or more, got \(0, 0\)"),
        ({"right": ["c", "d"]}, r"must have the same length, 1 or more, got \(3, 2\)"),
        ({"right": "abc"}, "right must be a sequence of texts, got the text 'abc'"),
        ({"left": ["a", None, "b"]}, "left must be texts, but row 1 is None: drop the row"),
        ({"labels": [1, 0]}, "every pair needs a label, got 2 for 3 pairs"),
        ({"labels": [1, 0, 2]}, "labels must be 0 or 1, but label 2 is 2"),
        ({"labels": [1, 0.5, 0]}, "labels must be 0 or 1, but label 1 is 0.5"),
        ({"labels": ["1", "0", "0"]}, "labels must be 0 or 1, but label 0 is '1'"),
        ({"labels": [1, 1, 1]}, "all labels are 1: nothing to tell apart"),
        ({"similarities": ("cosine", "l2")}, "similarity must be one of .*'manhattan'.*, got 'l2'"),
        ({"similarities": "dot"}, "similarities must be some of .*'cosine'.*, got 'dot'"),
        ({"similarities": ()}, r"similarities must be some of .*'cosine'.*, got \(\)"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_embedded(changes, message):
    with pytest.raises(ValueError, match=message):
        BinaryClassificationEvaluator(**LENGTHS | changes)


def test_embeddings_that_are_not_finite_are_refused():
    evaluator = BinaryClassificationEvaluator(**LENGTHS)
    with pytest.raises(ValueError, match=r"for 4 of 4 texts \(role None\), the first 'a'"):
        evaluator.evaluate(lambda texts, *, role: np.full((len(texts), 2), np.inf))
