"""How often an anchor is more similar to its positive than to its negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxembed.evaluators.checking import check_similarities, check_texts, is_finite
from jaxembed.evaluators.pairs import embed_distinct, pair_scores
from jaxembed.evaluators.protocols import EmbedFn
from jaxembed.search import Similarity


@dataclass(frozen=True, eq=False, repr=False)
class TripletEvaluator:
    """Counts the rows with `similarity(anchor, positive) > similarity(anchor, negative) + margin`.

    Gives their share as `accuracy`, as sentence-transformers' `TripletEvaluator` does. A tie is
    wrong, so a model that embeds all texts alike has the accuracy 0.

    Args:
        anchors: Texts.
        positives: Texts, one for each anchor.
        negatives: Texts, one for each anchor.
        similarity: "cosine", "dot", or the negative distance "euclidean" or "manhattan".
        margin: By how much the positive must win.

    Raises:
        ValueError: The lengths differ or are 0, a text is none, the margin is not finite, or the
            similarity is unknown.

    Source: Ein Dor et al., "Learning Thematic Similarity Metric from Article Sections Using Triplet
    Networks", 2018.

    >>> evaluator = TripletEvaluator(["a", "b"], ["ab", "bcd"], ["abcd", "bc"])
    >>> def embed(texts, *, role):
    ...     return np.array([[len(text), 1] for text in texts], np.float32)
    >>> evaluator.evaluate(embed)
    {'accuracy': 0.5}
    """

    anchors: Sequence[str]
    positives: Sequence[str]
    negatives: Sequence[str]
    similarity: Similarity = "cosine"
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_texts(anchors=self.anchors, positives=self.positives, negatives=self.negatives)
        check_similarities([self.similarity])
        if not is_finite(self.margin):
            raise ValueError(f"margin must be a finite number, got {self.margin!r}")

    @property
    def main_metric(self) -> str:
        """The name of the metric that ranks models."""
        return "accuracy"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Embeds each text once as query (anchors) or document; returns `{"accuracy": …}`."""
        anchors, rows = embed_distinct(embed, self.anchors, role="query")
        documents, columns = embed_distinct(
            embed, [*self.positives, *self.negatives], role="document"
        )
        positive, negative = (
            pair_scores(anchors, documents, rows, column, similarity=self.similarity)
            for column in np.split(columns, 2)
        )
        return {"accuracy": float(np.mean(positive > negative + self.margin))}
