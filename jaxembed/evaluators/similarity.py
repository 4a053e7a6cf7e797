"""How well the similarity of two texts follows a given score (semantic textual similarity, STS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from jaxembed.evaluators.checking import check_column, check_texts, is_finite
from jaxembed.evaluators.protocols import EmbedFn, embed_texts
from jaxembed.metrics import pearson, spearman
from jaxembed.search import Similarity, check_similarity
from jaxembed.similarity import (
    paired_dot,
    paired_euclidean_distance,
    paired_manhattan_distance,
)


def exact_cosine(left: Float[Array, "n d"], right: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Computes `±√(<x, y>² / (|x|² |y|²))`, for lengths between 1e-9 and 1e9; 0 for a zero vector.

    Embeddings of whole numbers, bits above all, have many equal cosines, which ranks have to see:
    below 2²⁴ numerator and denominator are whole here, so that equal fractions are equal. Roots of
    the lengths, or unit vectors, would round them apart.
    """
    products = paired_dot(left, right)
    squares = paired_dot(left, left) * paired_dot(right, right)
    shares = jnp.square(products) / jnp.where(squares == 0, jnp.inf, squares)
    return jnp.sign(products) * jnp.sqrt(shares)


PAIRED_SIMILARITIES = {
    "cosine": exact_cosine,
    "dot": paired_dot,
    "euclidean": lambda left, right: -paired_euclidean_distance(left, right),
    "manhattan": lambda left, right: -paired_manhattan_distance(left, right),
}


@dataclass(frozen=True, eq=False, repr=False)
class SimilarityEvaluator:
    """Correlates the similarity of `left[i]` and `right[i]` with `scores[i]`.

    Gives `pearson` and `spearman`, as sentence-transformers' `EmbeddingSimilarityEvaluator` does.
    Both are NaN if the model finds all pairs equally similar.

    Args:
        left: Texts.
        right: Texts, one for each of `left`.
        scores: How similar each pair is, greater = more similar, on any scale.
        similarity: "cosine", "dot", or the negative distance "euclidean" or "manhattan".

    Raises:
        ValueError: The lengths differ or are below 2, a score is NaN or infinite, all scores are
            equal, or the similarity is unknown.

    Source: Cer et al., "SemEval-2017 Task 1: Semantic Textual Similarity", 2017. Why Spearman
    rather than Pearson: Reimers, Beyer, Gurevych, "Task-Oriented Intrinsic Evaluation of Semantic
    Textual Similarity", 2016.

    >>> evaluator = SimilarityEvaluator(["a", "a", "a"], ["a", "bb", "cccc"], [5.0, 3.0, 0.0])
    >>> def embed(texts, *, role):
    ...     return np.array([[len(text), 1] for text in texts], np.float32)
    >>> round(evaluator.evaluate(embed)["spearman"], 3)
    1.0
    """

    left: Sequence[str]
    right: Sequence[str]
    scores: Sequence[float]
    similarity: Similarity = "cosine"

    def __post_init__(self) -> None:
        check_column("left", self.left, "texts")
        check_column("right", self.right, "texts")
        check_column("scores", self.scores, "numbers")
        lengths = len(self.left), len(self.right), len(self.scores)
        if len(set(lengths)) > 1 or lengths[0] < 2:
            raise ValueError(
                f"left, right and scores must have the same length, 2 or more, got {lengths}"
            )
        check_texts(left=self.left, right=self.right)
        for row, score in enumerate(self.scores):
            if not is_finite(score):
                raise ValueError(
                    f"scores must be finite, but score {row} is {score!r}: drop the pair"
                )
        scores = np.asarray(self.scores, np.float32)
        if np.all(scores == scores[0]):
            raise ValueError(f"all scores are {self.scores[0]}: nothing to correlate with")
        check_similarity(self.similarity)

    @property
    def main_metric(self) -> str:
        """The name of the metric that ranks models."""
        return "spearman"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Embeds all texts in one call (role None); returns `{"pearson": …, "spearman": …}`."""
        embeddings = embed_texts(embed, [*self.left, *self.right], role=None)
        left, right = np.split(embeddings, 2)
        scores = np.asarray(self.scores, np.float32)
        values = correlations(*jax.device_put((left, right, scores)), similarity=self.similarity)
        return {name: float(value) for name, value in jax.device_get(values).items()}


@partial(jax.jit, static_argnames="similarity")
def correlations(
    left: Float[Array, "n d"],
    right: Float[Array, "n d"],
    scores: Float[Array, " n"],
    *,
    similarity: Similarity,
) -> dict[str, Float[Array, ""]]:
    """Computes both correlations of the paired similarities with the scores."""
    similarities = PAIRED_SIMILARITIES[similarity](left, right)
    return {"pearson": pearson(similarities, scores), "spearman": spearman(similarities, scores)}
