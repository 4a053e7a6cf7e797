"""Several evaluators as one: names, means, the main metric, and what is refused."""

import numpy as np
import pytest

from jaxembed.evaluators import SimilarityEvaluator, TripletEvaluator
from jaxembed.evaluators.protocols import Evaluator
from jaxembed.evaluators.suite import Suite


class Fixed:
    """Has these values; the first is the main one."""

    def __init__(self, **values):
        self.values = values

    @property
    def main_metric(self):
        return next(iter(self.values))

    def evaluate(self, embed):
        return self.values


def embed_lengths(texts, *, role):
    return np.array([[len(text), 1] for text in texts], np.float32)


def test_metrics_are_named_after_their_evaluator_and_shared_ones_have_a_mean():
    suite: Evaluator = Suite({"a": Fixed(x=1.0, y=3.0, z=5.0), "b": Fixed(y=4.0, x=0.5)})
    assert suite.evaluate(embed_lengths) == {
        **{"a/x": 1.0, "a/y": 3.0, "a/z": 5.0, "b/y": 4.0, "b/x": 0.5},
        **{"mean/x": 0.75, "mean/y": 3.5},
    }


def test_real_evaluators_get_the_embed_function():
    triplet = TripletEvaluator(["a"], ["b"], ["abcd"])
    similarity = SimilarityEvaluator(["a", "a", "a"], ["a", "bb", "cccc"], [5.0, 3.0, 0.0])
    values = Suite({"triplet": triplet, "sts": similarity}).evaluate(embed_lengths)
    assert values["triplet/accuracy"] == 1
    assert values["sts/spearman"] == pytest.approx(1)
    assert set(values) == {"triplet/accuracy", "sts/pearson", "sts/spearman"}


@pytest.mark.parametrize(
    ("evaluators", "given", "main"),
    [
        ({"a": Fixed(x=1, y=2), "b": Fixed(x=3)}, "", "mean/x"),
        ({"a": Fixed(x=1, y=2), "b": Fixed(y=3, x=3)}, "", "a/x"),
        ({"a": Fixed(x=1, y=2), "b": Fixed(y=3, x=3)}, "mean/y", "mean/y"),
        ({"a": Fixed(x=1, y=2), "b": Fixed(y=3)}, "b/y", "b/y"),
        ({"a": Fixed(x=1)}, "", "mean/x"),
    ],
)
def test_the_main_metric_is_the_shared_one_or_that_of_the_first_or_the_given(
    evaluators, given, main
):
    suite = Suite(evaluators, given)
    assert suite.main_metric == main
    assert main in suite.evaluate(embed_lengths)


def test_suites_nest():
    inner = Suite({"a": Fixed(x=1.0), "b": Fixed(x=3.0)})
    values = Suite({"inner": inner, "c": Fixed(x=5.0)}).evaluate(embed_lengths)
    assert values["inner/a/x"] == 1
    assert values["inner/mean/x"] == 2


@pytest.mark.parametrize(
    ("evaluators", "main", "message"),
    [
        ({}, "", "a suite needs at least one evaluator, got none"),
        ({"mean": Fixed(x=1)}, "", "needs a name that has no '/' and is not 'mean', got 'mean'"),
        ({"": Fixed(x=1)}, "", "needs a name .*, got ''"),
        ({"a/b": Fixed(x=1)}, "", "needs a name .*, got 'a/b'"),
        ({1: Fixed(x=1)}, "", "needs a name .*, got 1"),
        ({"a": 3}, "", "a is 3, not an evaluator"),
        ({"a": Fixed(x=1)}, "b/x", "main_metric must be one of mean/…, a/…, got 'b/x'"),
    ],
)
def test_a_suite_without_sense_is_refused(evaluators, main, message):
    with pytest.raises(ValueError, match=message):
        Suite(evaluators, main)


def test_a_main_metric_that_is_not_found_is_refused():
    with pytest.raises(ValueError, match="main_metric 'a/y' is not there, only a/x, mean/x"):
        Suite({"a": Fixed(x=1)}, "a/y").evaluate(embed_lengths)
