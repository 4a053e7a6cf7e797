"""Contrastive tension: two copies of an encoder should agree on a text, and on it alone.

`first [n d]` comes from one copy and `second [n d]` from the other; both are trained.

Source: Carlsson et al., Semantic Re-tuning with Contrastive Tension, 2021.
"""

from __future__ import annotations

from jax import Array

from jaxembed.losses.arguments import (
    check_positive,
    check_shape,
    check_shapes,
    clean,
    takes_columns,
)
from jaxembed.losses.elementwise import binary_cross_entropy
from jaxembed.losses.ranking import multiple_negatives_symmetric_ranking_loss
from jaxembed.losses.reduction import mean, reduce, total
from jaxembed.mesh_axes import Axis
from jaxembed.similarity import cosine, paired_dot
from jaxembed.typing import Embeddings, Ids, PairedFn, ReduceFn, Scalar, Scores, SimilarityFn, Where


@takes_columns
def contrastive_tension_loss(
    first: Embeddings,
    second: Embeddings,
    *,
    labels: Scores,
    scale: Scalar = 1.0,
    similarity_fn: PairedFn = paired_dot,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = total,
) -> Array:
    """Computes the binary cross-entropy of "is this the same text?", summed over the pairs.

        value_i = log(1 + exp(x_i)) - label_i x_i,    x_i = scale sim(first_i, second_i)

    Args:
        labels: 1 where both copies encoded the same text, 0 elsewhere; the paper has seven of the
            latter for each of the former.

    Raises:
        ValueError: shapes that do not agree, or a scale that is not above 0.

    >>> first, second = jnp.array([[1.0, 2.0], [1.0, 0.0]]), jnp.array([[1.0, 1.0], [0.0, 1.0]])
    >>> contrastive_tension_loss(first, second, labels=jnp.array([1, 0])).round(4)
    Array(0.7417, dtype=float32)
    """
    check_positive(scale=scale)
    check_shapes("first", first=first, second=second)
    check_shape(first.shape[:1], labels=labels, where=where)
    first, second, labels = clean(where, first, second, labels)
    logits = similarity_fn(first, second) * scale
    values = binary_cross_entropy(logits, labels.astype(logits.dtype))
    return reduce(values, where, reduce_fn)


@takes_columns
def contrastive_tension_in_batch_negatives_loss(
    first: Embeddings,
    second: Embeddings,
    *,
    ids: Ids | None = None,
    scale: Scalar = 20.0,
    false_negative_margin: Scalar | None = None,
    similarity_fn: SimilarityFn = cosine,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
    block_size: int | None = None,
    axis_name: Axis | None = None,
) -> Array:
    """Computes how badly each copy's embedding of a text finds the other's among all texts.

        value_i = ½ [logsumexp_j s_ij + logsumexp_j s_ji] - s_ii,    s = scale sim(first, second)

    which is the symmetric ranking loss of the two copies.

    Args:
        scale: pass `jnp.exp(logit_scale)` to learn it, as published, from `logit_scale = log 20`.
        ids: hashes of the texts; the same text twice is no negative of itself.

    >>> first, second = jnp.eye(2), jnp.array([[0.6, 0.8], [0.0, 1.0]])
    >>> contrastive_tension_in_batch_negatives_loss(first, second, scale=1.0).round(4)
    Array(0.5368, dtype=float32)
    """
    return multiple_negatives_symmetric_ranking_loss(
        first,
        second,
        ids=ids,
        scale=scale,
        false_negative_margin=false_negative_margin,
        similarity_fn=similarity_fn,
        where=where,
        reduce_fn=reduce_fn,
        block_size=block_size,
        axis_name=axis_name,
    )
