"""Similarity evaluation against sentence-transformers, and what it refuses."""

import json
import math
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxembed.evaluators import Evaluator, SimilarityEvaluator
from jaxembed.evaluators.similarity import exact_cosine

GOLDENS = Path(__file__).parent.parent / "goldens" / "evaluators"


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
def test_both_correlations_equal_sentence_transformers(similarity):
    stored = np.load(GOLDENS / "similarity.npz")
    expected = json.loads((GOLDENS / "expected.json").read_text())["similarity"]
    vectors = {f"l{row}": vector for row, vector in enumerate(stored["left"])}
    vectors |= {f"r{row}": vector for row, vector in enumerate(stored["right"])}
    left, right = (tuple(name for name in vectors if name[0] == side) for side in "lr")
    evaluator: Evaluator = SimilarityEvaluator(left, right, stored["scores"], similarity=similarity)
    found = evaluator.evaluate(lambda texts, *, role: np.stack([vectors[text] for text in texts]))
    assert found.keys() == {"pearson", "spearman"}
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[f"{name}_{similarity}"], rtol=2e-5, atol=1e-6)


def test_all_texts_are_embedded_in_one_call_without_a_role():
    calls = []

    def embed(texts, *, role):
        calls.append((texts, role))
        return np.array([[len(text), 1.0] for text in texts])

    SimilarityEvaluator(["a", "bb"], ["c", "dddd"], [1.0, 0.0]).evaluate(embed)
    assert calls == [(["a", "bb", "c", "dddd"], None)]


def test_a_model_that_finds_all_pairs_equal_has_no_correlation():
    evaluator = SimilarityEvaluator(["a", "b", "c"], ["d", "e", "f"], [1.0, 2.0, 3.0])
    values = evaluator.evaluate(lambda texts, *, role: np.ones((len(texts), 3), np.float32))
    assert math.isnan(values["pearson"])
    assert math.isnan(values["spearman"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"right": ["c"]}, r"the same length, 2 or more, got \(2, 1, 2\)"),
        ({"scores": [1.0]}, r"the same length, 2 or more, got \(2, 2, 1\)"),
        ({"left": ["a"], "right": ["b"], "scores": [1.0]}, r"2 or more, got \(1, 1, 1\)"),
        ({"scores": [1.0, math.nan]}, "scores must be finite, but score 1 is nan: drop the pair"),
        ({"scores": [-math.inf, 1.0]}, "scores must be finite, but score 0 is -inf"),
        ({"scores": [4.0, 4.0]}, "all scores are 4.0: nothing to correlate with"),
        ({"similarity": "angle"}, "similarity must be one of .*'manhattan'.*, got 'angle'"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_embedded(changes, message):
    data = {"left": ["a", "b"], "right": ["c", "d"], "scores": [1.0, 0.0]}
    with pytest.raises(ValueError, match=message):
        SimilarityEvaluator(**data | changes)


def test_embeddings_that_are_not_finite_are_refused():
    evaluator = SimilarityEvaluator(["a", "b"], ["c", "d"], [1.0, 0.0])
    with pytest.raises(ValueError, match=r"for 4 of 4 texts \(role None\), the first 'a'"):
        evaluator.evaluate(lambda texts, *, role: np.full((len(texts), 2), np.inf))


def test_equal_cosines_of_bits_are_equal():
    sizes = range(1, 17)
    counts = [(x, y, b) for x in sizes for y in sizes for b in range(1, min(x, y) + 1)]
    left, right = np.zeros((2, len(counts), 32), np.float32)
    for row, (x, y, both) in enumerate(counts):
        left[row, :x] = 1
        right[row, x - both : x - both + y] = 1
    cosine = jax.jit(exact_cosine)
    found = np.asarray(cosine(left, right))
    fractions = [Fraction(both**2, x * y) for x, y, both in counts]
    assert len(set(found.tolist())) == len(set(fractions)) < len(fractions)
    np.testing.assert_allclose(found, np.sqrt(np.array(fractions, float)), rtol=1e-6)
    np.testing.assert_array_equal(cosine(-left, right), -found)
    assert not np.any(cosine(0 * left, right))
