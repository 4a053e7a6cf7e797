"""How good a ranked list of documents is: one number per query, cut off at rank `k`.

`relevant[..., r]` says whether the document at rank `r + 1` is relevant, the best-scored document
first; `n_relevant` counts the relevant documents of the whole corpus, found or not. Leading axes
are queries; every function returns float32 without the last axis. `k` is a Python number of 1 or
more, `ValueError` otherwise. Ranks beyond the end of the list count as not relevant, so a list
shorter than `k` (a small corpus) needs no padding. A query without any relevant document scores 0,
as in trec_eval.

The definitions are those of sentence-transformers' `InformationRetrievalEvaluator`.

>>> relevant = jnp.array([[False, True, True, False], [False, False, False, True]])
>>> n_relevant = jnp.array([3, 1])
>>> recall_at(relevant, n_relevant, k=3)
Array([0.666..., 0.        ], dtype=float32)
>>> ndcg_at(relevant, jnp.arange(3)[None] < n_relevant[:, None], k=3)  # ideally all ones
Array([0.5307..., 0.        ], dtype=float32)
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int, Shaped

Relevant = Bool[Array, "*queries ranks"]
Counts = Int[Array, "*queries"]
Values = Float[Array, "*queries"]


def accuracy_at(relevant: Relevant, *, k: int) -> Values:
    """Computes `1 if any of the first k documents is relevant else 0`, also known as hit rate.

    >>> accuracy_at(jnp.array([False, True, False]), k=2)
    Array(1., dtype=float32)
    """
    return jnp.any(first(relevant, k), axis=-1).astype(jnp.float32)


def precision_at(relevant: Relevant, *, k: int) -> Values:
    """Computes `(relevant documents among the first k) / k`.

    >>> precision_at(jnp.array([False, True, True, True]), k=4)
    Array(0.75, dtype=float32)
    """
    return count(first(relevant, k)) / k


def recall_at(relevant: Relevant, n_relevant: Counts, *, k: int) -> Values:
    """Computes `(relevant documents among the first k) / n_relevant`.

    >>> recall_at(jnp.array([False, True, True, True]), jnp.array(4), k=2)
    Array(0.25, dtype=float32)
    """
    return count(first(relevant, k)) / jnp.maximum(n_relevant, 1).astype(jnp.float32)


def reciprocal_rank_at(relevant: Relevant, *, k: int) -> Values:
    """Computes `1 / (rank of the first relevant document)`, 0 if that is beyond k.

    The mean is MRR@k.

    Source: Voorhees, "The TREC-8 Question Answering Track Report", 1999.

    >>> reciprocal_rank_at(jnp.array([False, True, True]), k=3)
    Array(0.5, dtype=float32)
    """
    relevant = first(relevant, k)
    return jnp.max(jnp.where(relevant, 1 / ranks_of(relevant), 0), axis=-1)


def average_precision_at(relevant: Relevant, n_relevant: Counts, *, k: int) -> Values:
    """Computes `sum over relevant ranks r <= k of precision@r, divided by min(k, n_relevant)`.

    The mean is MAP@k. With this divisor, that of sentence-transformers, the best value is always 1;
    trec_eval divides by `n_relevant`. They agree where no query has more than k relevant documents.

    Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, equation 8.8.

    >>> average_precision_at(jnp.array([True, False, True]), jnp.array(2), k=3)
    Array(0.8333..., dtype=float32)
    """
    relevant = first(relevant, k)
    precisions = jnp.cumsum(relevant.astype(jnp.float32), axis=-1) / ranks_of(relevant)
    total = jnp.sum(jnp.where(relevant, precisions, 0), axis=-1)
    return total / jnp.clip(n_relevant, 1, k).astype(jnp.float32)


def ndcg_at(
    gains: Shaped[Array, "*queries ranks"], ideal_gains: Shaped[Array, "*queries ideals"], *, k: int
) -> Values:
    """Computes `dcg(gains) / dcg(ideal_gains)` with `dcg(g) = sum_{r=1..k} g_r / log2(r + 1)`.

    Args:
        gains: What the document at each rank is worth: floats or integers, 0 for a document that is
            not relevant; booleans are the binary case.
        ideal_gains: The gains of the query's relevant documents, found or not, in descending order,
            then zeros. In the binary case `jnp.arange(k)[None] < n_relevant[:, None]`.
        k: The last rank that counts. Further columns of both arrays are ignored.

    The gain is linear (as in trec_eval and sentence-transformers), not `2^g - 1`; binary gains are
    the same in both. Negative gains count as they are: clip them first.

    Source: Järvelin, Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", 2002, with the
    discount from rank 1 on of Burges et al., "Learning to Rank using Gradient Descent", 2005.

    >>> ndcg_at(jnp.array([1.0, 0.0, 3.0]), jnp.array([3.0, 1.0, 0.0]), k=3)
    Array(0.6885..., dtype=float32)
    """
    found, ideal = discounted(first(gains, k)), discounted(first(ideal_gains, k))
    return jnp.where(ideal > 0, found / jnp.where(ideal > 0, ideal, 1), 0)


def first(ranked: Array, k: int) -> Array:
    if k < 1:
        raise ValueError(f"k counts ranks and must be at least 1, got {k}")
    return ranked[..., :k]


def count(relevant: Relevant) -> Values:
    return jnp.sum(relevant, axis=-1, dtype=jnp.float32)


def ranks_of(ranked: Array) -> Float[Array, "*queries ranks"]:
    return lax.broadcasted_iota(jnp.float32, ranked.shape, ranked.ndim - 1) + 1


def discounted(gains: Array) -> Values:
    return jnp.sum(gains.astype(jnp.float32) / jnp.log2(ranks_of(gains) + 1), axis=-1)
