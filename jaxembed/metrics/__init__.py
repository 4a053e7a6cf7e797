"""Numbers that say how good embeddings are: pure functions of arrays, for `jit` and `vmap`."""

from jaxembed.metrics.correlation import pearson, spearman
from jaxembed.metrics.health import collapse, embedding_health
from jaxembed.metrics.in_batch import in_batch_accuracy
from jaxembed.metrics.ranking import (
    accuracy_at,
    average_precision_at,
    ndcg_at,
    precision_at,
    recall_at,
    reciprocal_rank_at,
)

__all__ = [
    "accuracy_at",
    "average_precision_at",
    "collapse",
    "embedding_health",
    "in_batch_accuracy",
    "ndcg_at",
    "pearson",
    "precision_at",
    "recall_at",
    "reciprocal_rank_at",
    "spearman",
]
