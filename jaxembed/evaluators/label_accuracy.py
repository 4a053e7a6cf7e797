"""How often a classifier of two embeddings names the label of their pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from jaxembed.evaluators.checking import check_labelled, check_texts, shown
from jaxembed.evaluators.pairs import embed_distinct
from jaxembed.evaluators.protocols import EmbedFn

BLOCK = 8192  # pairs that are classified at once


class Classify(Protocol):
    """Scores every class for each pair: `[n d]` and `[n d]` to `[n c]`, row by row."""

    def __call__(self, left: np.ndarray, right: np.ndarray, /) -> Any: ...


@dataclass(frozen=True, eq=False, repr=False)
class LabelAccuracyEvaluator:
    """Counts the pairs for which `argmax(classify(left[i], right[i]))` is `labels[i]`.

    Gives their share as `accuracy`, as sentence-transformers' `LabelAccuracyEvaluator` does. Of
    equally good classes the first counts.

    Args:
        left: Texts.
        right: Texts, one for each of `left`.
        labels: The number of the class of each pair, from 0.
        classify: See `Classify`; such as the classifier that a softmax loss trains. It gets blocks
            of up to 8192 pairs, all of one size, so that it may be a compiled function.

    Raises:
        ValueError: The lengths differ or are 0, a text is none, or a label is no whole number of 0
            or more. While evaluating: the logits are not finite or not `[n c]`, or `c` is too few.

    Source: Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks",
    2019, section 3.

    >>> def classify(left, right):  # the same length or not
    ...     return np.concatenate([abs(left - right), 1 - abs(left - right)], axis=1)
    >>> evaluator = LabelAccuracyEvaluator(["a", "b"], ["c", "dd"], [1, 1], classify)
    >>> evaluator.evaluate(lambda texts, *, role: np.array([[len(text)] for text in texts]))
    {'accuracy': 0.5}
    """

    left: Sequence[str]
    right: Sequence[str]
    labels: Sequence[int]
    classify: Classify

    def __post_init__(self) -> None:
        check_texts(left=self.left, right=self.right)
        check_labelled(self.labels, len(self.left))
        if not callable(self.classify):
            raise ValueError(
                f"classify must be a function of two arrays, got {shown(self.classify)}"
            )
        for row, label in enumerate(self.labels):
            if not isinstance(label, Integral) or label < 0:
                raise ValueError(f"labels must be classes 0, 1, …, but label {row} is {label!r}")

    @property
    def main_metric(self) -> str:
        """The name of the metric that ranks models."""
        return "accuracy"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Embeds each text once (role None); returns `{"accuracy": …}`."""
        embeddings, rows = embed_distinct(embed, [*self.left, *self.right], role=None)
        left, right = np.split(rows, 2)
        labels, n = np.asarray(self.labels, np.int64), len(left)
        block, n_right = min(BLOCK, 1 << (n - 1).bit_length()), 0
        for start in range(0, n, block):
            part = np.minimum(np.arange(start, start + block), n - 1)
            logits = np.asarray(self.classify(embeddings[left[part]], embeddings[right[part]]))
            own = labels[start : start + block]
            check_logits(logits, own, block=block, start=start)
            n_right += int(np.sum(np.argmax(logits[: len(own)], axis=1) == own))
        return {"accuracy": n_right / n}


def check_logits(logits: np.ndarray, labels: Int[np.ndarray, " n"], *, block: int, start: int):
    if logits.ndim != 2 or len(logits) != block:
        raise ValueError(
            f"classify must return a row of logits for each of its {block} pairs, [{block} c]; "
            f"got shape {list(logits.shape)}"
        )
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken) > 0:
        raise ValueError(f"classify returned NaN or infinity, first for pair {start + broken[0]}")
    beyond = np.flatnonzero(labels >= logits.shape[1])
    if len(beyond) > 0:
        raise ValueError(
            f"classify knows {logits.shape[1]} classes, "
            f"but label {start + beyond[0]} is {labels[beyond[0]]}"
        )
