"""The mega-batch margin loss: each anchor against the hardest candidate of a large batch.

The arguments that all in-batch losses share are explained in `jaxembed.losses.in_batch`.
"""

from __future__ import annotations

import jax
from jax import Array

from jaxembed.losses.arguments import check_positive, takes_columns
from jaxembed.losses.in_batch import (
    gather,
    limited,
    negatives,
    not_closer,
    own,
    own_column,
    prepared,
)
from jaxembed.losses.over_candidates import Hardest, Own
from jaxembed.losses.reduction import mean
from jaxembed.losses.streaming import reduce_over_candidates
from jaxembed.mesh_axes import Axis
from jaxembed.similarity import cosine, factored
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
    block_size: int | None = None,
    axis_name: Axis | None = None,
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
    prepare, similarity = factored(similarity_fn)
    rows, _, documents = gather(
        anchors,
        positives,
        prepare=prepare,
        ids=ids,
        anchor_ids=anchor_ids,
        where=where,
        axis_name=axis_name,
    )

    def parts(rows, documents, scale, *_):
        rows, itself = prepared(rows, prepare), own(rows, documents)
        similarities = similarity(rows.anchors, documents.embeddings)  # [n m]
        keep = negatives(rows, documents) & not_closer(similarities, rows) & ~itself
        logits = scale * similarities
        positive = Own(logits, own_column(rows, documents))
        return positive, Hardest(logits, keep, documents.owner)

    def values(of_parts, _, positive_margin, negative_margin):
        positive, negative = of_parts
        too_far, too_close = positive_margin - positive, negative - negative_margin
        return jax.nn.relu(too_far) + jax.nn.relu(too_close)

    return reduce_over_candidates(
        parts,
        values,
        limited(rows, prepare, similarity, false_negative_margin)._replace(positives=None),
        documents,
        (scale, positive_margin, negative_margin),
        where=where,
        reduce_fn=reduce_fn,
        block_size=block_size,
        axis_name=axis_name,
    )
