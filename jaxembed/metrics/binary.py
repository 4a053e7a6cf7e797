"""How well one score per pair tells 1 from 0: a pair with a score of the threshold or above is a 1.

`scores` are finite and greater for a 1 (negate a distance first); `labels` are 0 or 1. Equal scores
are never parted. A threshold lies halfway between two neighbouring scores, or is the lowest score;
of equally good thresholds the highest counts.

These are NumPy functions in float64, not for `jit`: counts stay exact at any size, so that of two
nearly equal thresholds the better one wins. Each costs one sort. The definitions are those of
sentence-transformers' `BinaryClassificationEvaluator`, whose average precision and correlation are
scikit-learn's. All raise `ValueError` if the lengths differ or are 0, a score is not finite, or a
label is not 0 or 1.

>>> scores, labels = np.array([0.9, 0.8, 0.6, 0.3]), np.array([1, 0, 1, 0])
>>> best_f1(scores, labels)
BestF1(f1=0.8, precision=0.666..., recall=1.0, threshold=0.45)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Integer

Scores = Float[np.ndarray, " n"] | Float[Array, " n"]
Labels = (
    Integer[np.ndarray, " n"] | Bool[np.ndarray, " n"] | Integer[Array, " n"] | Bool[Array, " n"]
)


class BestAccuracy(NamedTuple):
    """The share of pairs that the best threshold puts on the right side, and that threshold."""

    accuracy: float
    threshold: float


class BestF1(NamedTuple):
    """The F1 at the best threshold, with its precision and recall, and that threshold."""

    f1: float
    precision: float
    recall: float
    threshold: float


class Cuts(NamedTuple):
    """What lies at or above each possible threshold, the highest first."""

    thresholds: Float[np.ndarray, " cuts"]
    predicted: Int[np.ndarray, " cuts"]
    correct: Int[np.ndarray, " cuts"]


def average_precision(scores: Scores, labels: Labels, *, n_positive: int | None = None) -> float:
    """Computes `sum over the thresholds of precision · (recall - recall at the one above)`.

    Args:
        scores: `[n]`.
        labels: `[n]`.
        n_positive: How many ones there are, where `scores` hold only those that were found; by
            default all are there. Without any, the result is 0.

    Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, section 8.4.

    >>> average_precision(np.array([0.9, 0.8, 0.6, 0.3]), np.array([1, 0, 1, 0]))
    0.8333...
    """
    scores, labels = check(scores, labels)
    cuts, n_positive = cut(scores, labels), positives(labels, n_positive)
    found = np.diff(cuts.correct, prepend=0)
    return float(np.sum(found * (cuts.correct / cuts.predicted)) / max(n_positive, 1))


def best_accuracy(scores: Scores, labels: Labels) -> BestAccuracy:
    """Computes the highest `(ones at or above t + zeros below t) / n` of all thresholds t.

    Where none is better than to call every pair a 0, t is the next number above the highest score.

    >>> best_accuracy(np.array([0.9, 0.7, 0.4]), np.array([1, 1, 0]))
    BestAccuracy(accuracy=1.0, threshold=0.55)
    """
    scores, labels = check(scores, labels)
    cuts = cut(scores, labels)
    zeros_above = cuts.predicted - cuts.correct
    gains = cuts.correct - zeros_above  # over calling every pair a 0
    best = np.argmax(gains)
    threshold = cuts.thresholds[best]
    if gains[best] <= 0:
        threshold = np.nextafter(np.max(scores), np.inf)
    n_right = np.sum(~labels) + max(gains[best], 0)
    return BestAccuracy(float(n_right / len(labels)), float(threshold))


def best_f1(scores: Scores, labels: Labels, *, n_positive: int | None = None) -> BestF1:
    """Computes the highest `2 precision · recall / (precision + recall)` of all thresholds.

    Args:
        scores: `[n]`.
        labels: `[n]`.
        n_positive: As in `average_precision`. Without any, all four numbers are 0.

    Source: van Rijsbergen, "Information Retrieval", 1979, chapter 7.

    >>> best_f1(np.array([0.9, 0.7, 0.4]), np.array([1, 1, 0]), n_positive=4)
    BestF1(f1=0.666..., precision=1.0, recall=0.5, threshold=0.55)
    """
    scores, labels = check(scores, labels)
    cuts, n_positive = cut(scores, labels), positives(labels, n_positive)
    precision, recall = cuts.correct / cuts.predicted, cuts.correct / max(n_positive, 1)
    f1 = 2 * precision * recall / np.where(cuts.correct > 0, precision + recall, 1)
    best = np.argmax(f1)
    if f1[best] == 0:
        return BestF1(0.0, 0.0, 0.0, 0.0)
    return BestF1(*(float(value[best]) for value in (f1, precision, recall, cuts.thresholds)))


def matthews(scores: Scores, labels: Labels, *, threshold: float) -> float:
    """Computes the correlation of the labels with what `threshold` predicts, from -1 to 1.

    It is 0 where all labels or all predictions are the same.

    Source: Matthews, "Comparison of the Predicted and Observed Secondary Structure of T4 Phage
    Lysozyme", 1975.

    >>> matthews(np.array([0.9, 0.8, 0.6, 0.3]), np.array([1, 0, 1, 0]), threshold=0.45)
    0.577...
    """
    scores, labels = check(scores, labels)
    predicted = scores >= threshold
    n, ones, predictions = float(len(labels)), float(labels.sum()), float(predicted.sum())
    spread = ones * (n - ones) * predictions * (n - predictions)
    together = n * float(np.sum(predicted & labels)) - ones * predictions
    return together / spread**0.5 if spread > 0 else 0.0


def cut(scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> Cuts:
    """Sorts the pairs and counts at the last pair of each group of equal scores."""
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    lower = scores[np.append(ends[1:], ends[-1])]  # the score of the next group
    thresholds = (scores[ends] + lower) / 2
    thresholds = np.where(thresholds == lower, scores[ends], thresholds)  # no number lies between
    return Cuts(thresholds, ends + 1, np.cumsum(labels[order])[ends])


def check(scores: Scores, labels: Labels) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Refuses what cannot be counted; returns float32 or float64 and booleans."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.shape != labels.shape or len(scores) == 0:
        raise ValueError(
            f"scores and labels must have the same length, 1 or more, "
            f"got {len(scores)} and {len(labels)}"
        )
    broken = np.flatnonzero(~np.isfinite(scores))
    if len(broken) > 0:
        raise ValueError(f"scores must be finite, but score {broken[0]} is {scores[broken[0]]}")
    strange = np.flatnonzero((labels != 0) & (labels != 1))
    if len(strange) > 0:
        raise ValueError(f"labels must be 0 or 1, but label {strange[0]} is {labels[strange[0]]}")
    return scores.astype(np.result_type(scores, np.float32)), labels.astype(bool)


def positives(labels: Bool[np.ndarray, " n"], n_positive: int | None) -> int:
    found = int(np.sum(labels))
    if n_positive is not None and n_positive < found:
        raise ValueError(f"n_positive must count all ones, {found} or more, got {n_positive}")
    return found if n_positive is None else n_positive
