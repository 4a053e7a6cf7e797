"""The sigmoid loss of SigLIP: every pair of the batch is a yes-or-no question of its own.

The arguments that all in-batch losses share are explained in `jaxembed.losses.in_batch`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxembed.losses.arguments import check_positive, takes_columns
from jaxembed.losses.in_batch import gather, limited, negatives, not_closer, own, prepared
from jaxembed.losses.over_candidates import Total
from jaxembed.losses.reduction import mean
from jaxembed.losses.streaming import reduce_over_candidates
from jaxembed.mesh_axes import Axis
from jaxembed.similarity import cosine, factored
from jaxembed.typing import Embeddings, Ids, ReduceFn, Scalar, SimilarityFn, Where


@takes_columns
def sigmoid_loss(
    anchors: Embeddings,
    positives: Embeddings,
    *,
    ids: Ids | None = None,
    anchor_ids: Ids | None = None,
    scale: Scalar = 10.0,
    bias: Scalar = -10.0,
    false_negative_margin: Scalar | None = None,
    similarity_fn: SimilarityFn = cosine,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
    block_size: int | None = None,
    axis_name: Axis | None = None,
) -> Array:
    """Computes the binary cross-entropy of "do these two belong together?" for all pairs.

        value_i = Σ_j log(1 + exp(-z_ij (scale sim(anchor_i, positive_j) + bias)))

    with `z_ij` = 1 for j = i and -1 for the others. No softmax joins the pairs, so it suits small
    batches too.

    Args:
        scale, bias: where they start; both are meant to be learned, the scale as an exponential.
            The negative bias offsets that most pairs do not belong together.

    Raises:
        ValueError: shapes that do not agree, or a scale that is not above 0.

    Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training, 2023.

    >>> anchors, positives = jnp.eye(2), jnp.array([[0.6, 0.8], [0.0, 1.0]])
    >>> sigmoid_loss(anchors, positives).round(4)
    Array(2.4191, dtype=float32)
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

    def parts(rows, documents, scale, bias):
        rows, itself = prepared(rows, prepare), own(rows, documents)
        similarities = similarity(rows.anchors, documents.embeddings)  # [n m]
        keep = (negatives(rows, documents) & not_closer(similarities, rows)) | itself
        logits = scale * similarities + bias
        costs = jax.nn.softplus(logits * jnp.where(itself, -1.0, 1.0).astype(logits.dtype))
        return (Total(costs, keep),)

    return reduce_over_candidates(
        parts,
        lambda of_parts, *_: of_parts[0],
        limited(rows, prepare, similarity, false_negative_margin)._replace(positives=None),
        documents,
        (scale, bias),
        where=where,
        reduce_fn=reduce_fn,
        block_size=block_size,
        axis_name=axis_name,
    )
