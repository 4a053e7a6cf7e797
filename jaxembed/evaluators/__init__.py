"""Data + metric -> `evaluate(embed) -> dict[str, float]`: they know texts and arrays, no model."""

from jaxembed.evaluators.protocols import EmbedFn, Evaluator, Role
from jaxembed.evaluators.retrieval import RetrievalEvaluator
from jaxembed.evaluators.similarity import SimilarityEvaluator

__all__ = [
    "EmbedFn",
    "Evaluator",
    "RetrievalEvaluator",
    "Role",
    "SimilarityEvaluator",
]
