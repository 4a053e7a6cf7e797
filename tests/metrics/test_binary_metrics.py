"""The metrics of scored pairs against scikit-learn, a try of every threshold, and edge cases."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, matthews_corrcoef

from jaxembed.metrics.binary import average_precision, best_accuracy, best_f1, matthews

RTOL = 1e-9  # float64 on both sides
SCORES = np.array([0.9, 0.8, 0.6, 0.3])
LABELS = np.array([1, 0, 1, 0])


def samples(kind, n=83):
    """Scores that follow the labels loosely."""
    rng = np.random.default_rng(0)
    labels = (rng.random(n) < 0.35).astype(np.int32)
    scores = rng.normal(0, 1, n) + 1.2 * labels
    if kind == "tied":
        scores = np.round(2 * scores)
    if kind == "opposite":
        scores = -scores
    if kind == "rare ones":
        labels = np.arange(n) == 40
    return scores, labels


KINDS = ["plain", "tied", "opposite", "rare ones"]
METRICS = {
    "average_precision": average_precision,
    "best_accuracy": best_accuracy,
    "best_f1": best_f1,
    "matthews": lambda scores, labels: matthews(scores, labels, threshold=0.3),
}


def thresholds_of(scores):
    """All that differ in what they predict, the highest first, with the prediction of no pair."""
    distinct = sorted(set(scores.tolist()), reverse=True)
    between = [(high + low) / 2 for high, low in pairwise(distinct)]
    return [np.nextafter(scores.max(), np.inf), *between, distinct[-1]]


def best_of(measure, scores, labels):
    values = [measure(labels, scores >= threshold) for threshold in thresholds_of(scores)]
    best = max(values)
    return best, thresholds_of(scores)[values.index(best)]


@pytest.mark.parametrize("kind", KINDS)
def test_average_precision_equals_scikit_learn(kind):
    scores, labels = samples(kind)
    expected = average_precision_score(labels, scores)
    np.testing.assert_allclose(average_precision(scores, labels), expected, rtol=RTOL)


@pytest.mark.parametrize("kind", KINDS)
def test_no_threshold_has_a_better_accuracy(kind):
    scores, labels = samples(kind)
    expected = best_of(lambda truth, found: np.mean(truth == found), scores, labels)
    np.testing.assert_allclose(best_accuracy(scores, labels), expected, rtol=RTOL)


@pytest.mark.parametrize("kind", KINDS)
def test_no_threshold_has_a_better_f1(kind):
    scores, labels = samples(kind)
    f1, threshold = best_of(f1_score, scores, labels)
    found = best_f1(scores, labels)
    np.testing.assert_allclose((found.f1, found.threshold), (f1, threshold), rtol=RTOL)
    predicted, ones = scores >= found.threshold, labels == 1
    np.testing.assert_allclose(found.precision, np.mean(ones[predicted]), rtol=RTOL)
    np.testing.assert_allclose(found.recall, np.mean(predicted[ones]), rtol=RTOL)


@pytest.mark.parametrize("threshold", [-9.0, 0.0, 0.7, 9.0])
@pytest.mark.parametrize("kind", KINDS)
def test_matthews_equals_scikit_learn(kind, threshold):
    scores, labels = samples(kind)
    expected = matthews_corrcoef(labels, scores >= threshold)
    found = matthews(scores, labels, threshold=threshold)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("kind", ["plain", "tied"])
def test_the_order_of_the_pairs_does_not_count(name, kind):
    scores, labels = samples(kind)
    expected = METRICS[name](scores, labels)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(scores))
        assert METRICS[name](scores[order], labels[order]) == expected


def test_equal_scores_are_all_above_a_threshold_or_none_is():
    scores, labels = np.array([0.5, 0.5, 0.5, 0.2]), np.array([1, 0, 1, 0])
    assert average_precision(scores, labels) == pytest.approx(2 / 3)
    assert best_accuracy(scores, labels) == (0.75, 0.35)
    assert best_f1(scores, labels) == pytest.approx((0.8, 2 / 3, 1.0, 0.35))


def test_one_score_for_all_pairs_tells_nothing():
    scores, labels = np.full(4, 0.25), np.array([1, 0, 0, 0])
    assert average_precision(scores, labels) == 0.25
    assert best_accuracy(scores, labels) == (0.75, np.nextafter(0.25, 1))
    assert best_f1(scores, labels) == pytest.approx((0.4, 0.25, 1.0, 0.25))
    assert matthews(scores, labels, threshold=0.25) == 0


def test_without_a_one_every_pair_is_a_zero():
    scores, labels = np.array([0.5, 0.9], np.float32), np.zeros(2, int)
    assert average_precision(scores, labels) == 0
    assert best_accuracy(scores, labels) == (1.0, np.nextafter(np.float32(0.9), np.float32(1)))
    assert best_f1(scores, labels) == (0, 0, 0, 0)
    assert matthews(scores, labels, threshold=0.7) == 0


def test_without_a_zero_every_pair_is_a_one():
    scores, labels = np.array([0.5, 0.75]), np.ones(2, int)
    assert average_precision(scores, labels) == 1
    assert best_accuracy(scores, labels) == (1.0, 0.5)
    assert best_f1(scores, labels) == (1.0, 1.0, 1.0, 0.5)
    assert matthews(scores, labels, threshold=0.5) == 0


def test_of_equally_good_thresholds_the_highest_counts():
    scores, labels = np.array([0.9, 0.7, 0.5, 0.3, 0.1]), np.array([1, 0, 0, 1, 0])
    assert best_accuracy(scores, labels).threshold == pytest.approx(0.8)
    assert best_accuracy(scores[:2], 1 - labels[:2]) == (0.5, np.nextafter(0.9, 1))
    scores, labels = np.array([0.9, 0.7, 0.5, 0.3]), np.array([1, 0, 0, 1])
    assert best_f1(scores, labels).threshold == 0.8  # 2 of 3 there and at 0.3


def test_a_threshold_between_neighbouring_numbers_parts_them():
    low = np.float32(0.1)
    for _ in range(4):  # the middle rounds down for some, up for others
        high = np.nextafter(low, np.float32(1))
        scores, labels = np.array([low, high]), np.array([0, 1])
        threshold = np.float32(best_accuracy(scores, labels).threshold)
        assert (scores >= threshold).tolist() == [False, True]
        assert best_f1(scores, labels).threshold == threshold
        low = high


def test_ones_that_were_not_found_lower_recall_alone():
    found = best_f1(SCORES, LABELS, n_positive=8)
    assert found == pytest.approx((4 / 11, 2 / 3, 0.25, 0.45))
    assert average_precision(SCORES, LABELS, n_positive=8) == pytest.approx((1 + 2 / 3) / 8)
    assert best_f1(SCORES, np.zeros(4, int), n_positive=8) == (0, 0, 0, 0)


def test_two_thresholds_that_float32_cannot_tell_apart_are_told_apart():
    n = 10_000
    scores = np.repeat([2.0, 1.0], [n - 1, 2]).astype(np.float32)
    labels = np.append(np.ones(n, int), 0)
    first, second = 2 * (n - 1) / (2 * n - 1), 2 * n / (2 * n + 1)
    assert np.float32(first) == np.float32(second)
    assert best_f1(scores, labels) == pytest.approx((second, n / (n + 1), 1.0, 1.0), rel=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_jax_arrays_and_booleans_are_taken_too(name):
    expected = METRICS[name](SCORES.astype(np.float32), LABELS)
    assert METRICS[name](jnp.array(SCORES), jnp.array(LABELS)) == expected
    assert METRICS[name](SCORES.astype(np.float32), LABELS == 1) == expected
    half = jnp.array([0.875, 0.75, 0.625, 0.25], jnp.bfloat16)
    assert METRICS[name](half, LABELS) == METRICS[name](np.asarray(half, np.float32), LABELS)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.ones(0), np.ones(0, int), "the same length, 1 or more, got 0 and 0"),
        (np.array([1.0, np.nan]), np.array([1, 0]), "must be finite, but score 1 is nan"),
        (np.array([-np.inf, 1.0]), np.array([1, 0]), "must be finite, but score 0 is -inf"),
        (np.array([0.5, 1.0]), np.array([1, 2]), "labels must be 0 or 1, but label 1 is 2"),
        (np.array([0.5, 1.0]), np.array([-1, 1]), "labels must be 0 or 1, but label 0 is -1"),
    ],
)
def test_what_cannot_be_counted_is_refused(name, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        METRICS[name](scores, labels)


def test_fewer_ones_than_there_are_is_refused():
    for metric in (average_precision, best_f1):
        with pytest.raises(ValueError, match="must count all ones, 2 or more, got 1"):
            metric(SCORES, LABELS, n_positive=1)
