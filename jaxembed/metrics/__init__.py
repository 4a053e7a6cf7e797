"""Numbers that say how good embeddings are: pure functions of arrays.

All are for `jit` and `vmap` but those of `binary`, which are NumPy in float64.
"""

from jaxembed.metrics.binary import average_precision, best_accuracy, best_f1, matthews
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
    "average_precision",
    "average_precision_at",
    "best_accuracy",
    "best_f1",
    "collapse",
    "embedding_health",
    "in_batch_accuracy",
    "matthews",
    "ndcg_at",
    "pearson",
    "precision_at",
    "recall_at",
    "reciprocal_rank_at",
    "spearman",
]
