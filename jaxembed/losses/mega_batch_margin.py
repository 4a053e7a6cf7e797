"""The mega-batch margin loss: each anchor against the hardest candidate of a large batch.

The arguments that all in-batch losses share are explained in `jaxembed.losses.in_batch`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxembed.losses.arguments import check_positive, takes_columns
from jaxembed.losses.in_batch import gather, negatives, not_closer, own, pick
from jaxembed.losses.reduction import mean, reduce
from jaxembed.selection import first_max
from jaxembed.similarity import cosine
from jaxembed.typing import Embeddings, Ids, ReduceFn, Scalar, SimilarityFn, Where


@takes_columns
def mega_batch_margin_loss(
    anchors: Embeddings,
    positives: Embeddings,
    *,
    ids: Ids | None = None,
    anchor_ids: Ids | None = None,
    positive_margin: Scalar = 0.8,
    negative_margin: Scalar = 0.3,
    scale: Scalar = 1.0,
    false_negative_margin: Scalar | None = None,
    similarity_fn: SimilarityFn = cosine,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes two hinges: the positive should be similar enough, the hardest negative not too.

        s_ij = scale sim(anchor_i, positive_j)
        value_i = max(positive_margin - s_ii, 0) + max(max_{j ≠ i} s_ij - negative_margin, 0)

    The gradient goes to the first of equally hard negatives. A row without any negative costs the
    first hinge alone.

    Args:
        positive_margin, negative_margin: bounds of `s`, of either sign.

    Raises:
        ValueError: shapes that do not agree, or a scale that is not above 0.

    Source: Wieting and Gimpel, ParaNMT-50M: Pushing the Limits of Paraphrastic Sentence Embeddings,
    2018 (there one hinge over the difference).

    >>> anchors, positives = jnp.eye(2), jnp.array([[0.6, 0.8], [0.0, 1.0]])
    >>> mega_batch_margin_loss(anchors, positives).round(4)
    Array(0.35, dtype=float32)
    """
    check_positive(scale=scale)
    rows, _, documents = gather(anchors, positives, ids=ids, anchor_ids=anchor_ids, where=where)
    itself = own(rows, documents)
    similarities = similarity_fn(rows.anchors, documents.embeddings)  # [n m]
    positive = pick(similarities, itself)
    keep = negatives(rows, documents) & ~itself
    keep &= not_closer(similarities, positive, false_negative_margin)
    negative = first_max(jnp.where(keep, scale * similarities, -jnp.inf))
    values = jax.nn.relu(positive_margin - scale * positive)
    values += jax.nn.relu(negative - negative_margin)
    return reduce(values, where, reduce_fn)
