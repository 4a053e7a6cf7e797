"""How well similarity tells pairs of texts that belong together from pairs that do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxembed.evaluators.checking import check_labelled, check_similarities, check_texts
from jaxembed.evaluators.pairs import embed_distinct, pair_scores
from jaxembed.evaluators.protocols import EmbedFn
from jaxembed.metrics.binary import average_precision, best_accuracy, best_f1, matthews
from jaxembed.search import Similarity

DISTANCES = ("euclidean", "manhattan")


@dataclass(frozen=True, eq=False, repr=False)
class BinaryClassificationEvaluator:
    """Calls `left[i]` and `right[i]` a pair if they are more similar than a threshold.

    Gives, for each similarity, `cosine_accuracy` and `cosine_f1` at their best thresholds
    (`cosine_accuracy_threshold`, `cosine_f1_threshold`), `cosine_precision`, `cosine_recall` and
    the correlation `cosine_mcc` at that of F1, and the average precision `cosine_ap`: those of
    `jaxembed.metrics.binary` and of sentence-transformers' `BinaryClassificationEvaluator`. The
    threshold of a distance is a distance: pairs at most that far apart belong together.

    Args:
        left: Texts.
        right: Texts, one for each of `left`.
        labels: 1 where the texts belong together, 0 where they do not; both must occur.
        similarities: Any of "cosine", "dot", "euclidean" and "manhattan".

    Raises:
        ValueError: The lengths differ or are 0, a text is none, a label is not 0 or 1, all labels
            are equal, or a similarity is unknown.

    Source: Dolan and Brockett, "Automatically Constructing a Corpus of Sentential Paraphrases",
    2005.

    >>> evaluator = BinaryClassificationEvaluator(["a", "a"], ["b", "abcd"], [1, 0])
    >>> def embed(texts, *, role):
    ...     return np.array([[len(text), 1] for text in texts], np.float32)
    >>> evaluator.evaluate(embed)["cosine_ap"]
    1.0
    """

    left: Sequence[str]
    right: Sequence[str]
    labels: Sequence[int]
    similarities: Sequence[Similarity] = ("cosine",)

    def __post_init__(self) -> None:
        check_texts(left=self.left, right=self.right)
        check_labelled(self.labels, len(self.left))
        for row, label in enumerate(self.labels):
            if label not in (0, 1):
                raise ValueError(f"labels must be 0 or 1, but label {row} is {label!r}")
        if all(label == self.labels[0] for label in self.labels):
            raise ValueError(f"all labels are {self.labels[0]}: nothing to tell apart")
        check_similarities(self.similarities)

    @property
    def main_metric(self) -> str:
        """The name of the metric that ranks models: average precision by the first similarity."""
        return f"{self.similarities[0]}_ap"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Embeds each text once (role None); returns `{"cosine_accuracy": …, …}`."""
        embeddings, rows = embed_distinct(embed, [*self.left, *self.right], role=None)
        left, right = np.split(rows, 2)
        labels = np.asarray(self.labels, np.int32)
        values = {}
        for similarity in self.similarities:
            scores = pair_scores(embeddings, embeddings, left, right, similarity=similarity)
            accuracy, f1 = best_accuracy(scores, labels), best_f1(scores, labels)
            sign = -1 if similarity in DISTANCES else 1  # thresholds as distances
            found = {
                "accuracy": accuracy.accuracy,
                "accuracy_threshold": sign * accuracy.threshold,
                "f1": f1.f1,
                "f1_threshold": sign * f1.threshold,
                "precision": f1.precision,
                "recall": f1.recall,
                "ap": average_precision(scores, labels),
                "mcc": matthews(scores, labels, threshold=f1.threshold),
            }
            values |= {f"{similarity}_{name}": value for name, value in found.items()}
        return values
