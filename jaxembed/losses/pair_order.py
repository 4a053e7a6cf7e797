"""CoSENT and AnglE: the similarities of the batch's pairs should be in the order of their scores.

Only that order counts, not the scores' values. Both are one log-sum-exp over the whole batch, not a
mean over rows, so they take no `reduce_fn`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxembed.losses.across import across_of
from jaxembed.losses.arguments import (
    check_not_negative,
    check_positive,
    check_shape,
    check_shapes,
    clean,
    is_zero,
    takes_columns,
)
from jaxembed.losses.in_batch import equal, gather, own, prepared
from jaxembed.losses.over_candidates import LogSumExp, excess
from jaxembed.losses.reduction import mean
from jaxembed.losses.streaming import reduce_over_candidates
from jaxembed.mesh_axes import Axis
from jaxembed.similarity import as_float32, dot, paired_angle, paired_cosine, unit
from jaxembed.typing import (
    Embeddings,
    Ids,
    Negatives,
    NegativesWhere,
    PairedFn,
    Scalar,
    Scores,
    Values,
    Where,
)


@takes_columns
def cosent_loss(
    left: Embeddings,
    right: Embeddings,
    *,
    scores: Scores,
    scale: Scalar = 20.0,
    similarity_fn: PairedFn = paired_cosine,
    where: Where | None = None,
) -> Array:
    """Computes how strongly the pairs' similarities contradict the order of their scores.

        log(1 + Σ_{i, j: score_i < score_j} exp(s_i - s_j)),    s_i = scale sim(left_i, right_i)

    Equal scores make no pair; with all scores equal, or one row, it is 0. O(n log n).

    Raises:
        ValueError: shapes that do not agree, or a scale that is not above 0.

    Source: Su, CoSENT: A more efficient sentence vector scheme than Sentence-BERT, 2022 (blog).

    >>> left, right = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[0.6, 0.8], [0.8, 0.6]])
    >>> cosent_loss(left, right, scores=jnp.array([0.9, 0.1])).round(4)
    Array(4.0182, dtype=float32)
    """
    check_positive(scale=scale)
    check_shapes("left", left=left, right=right)
    check_shape(left.shape[:1], scores=scores, where=where)
    left, right = clean(where, left, right)
    return _disorder(similarity_fn(left, right) * scale, scores, where)


@takes_columns
def angle_loss(
    left: Embeddings,
    right: Embeddings,
    negatives: Negatives | None = None,
    *,
    scores: Scores | None = None,
    ids: Ids | None = None,
    scale: Scalar = 20.0,
    angle_w: Scalar = 1.0,
    angle_tau: Scalar | None = None,
    cosine_w: Scalar = 0.0,
    cosine_tau: Scalar = 0.05,
    ibn_w: Scalar = 0.0,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    block_size: int | None = None,
    axis_name: Axis | None = None,
) -> Array:
    """Computes CoSENT with the angle between complex embeddings, and the two other terms of AnglE.

        angle_w  CoSENT(angle(left_i, right_i) / angle_tau)
      + cosine_w CoSENT(cos(left_i, right_i) / cosine_tau)
      + ibn_w    mean_i [logsumexp_j s_ij - logsumexp_{j right for i} s_ij],
                 s_ij = cos(left_i, document_j) / cosine_tau

    The last runs over the rows with a score above ½; the documents are all right texts and
    negatives, and right for a row are its own right text and those with the same `ids`. The angle
    saturates less than the cosine, so its gradient does not vanish between close pairs.

    Args:
        negatives: each makes a further pair with left, of score `1 - score`.
        scores: only their order counts; with negatives None means 1 for every right text.
        angle_tau: temperature of the angle; None is 1 / scale.
        angle_w, cosine_w, ibn_w: the weights; a term with the Python number 0 is not computed. All
            at 1 with taus of 1 is the published signature; 1, 0, 0 is the library's loss.

    Raises:
        ValueError: shapes that do not agree, numbers out of range, or neither scores nor negatives.

    Source: Li and Li, AnglE-optimized Text Embeddings, 2023.

    >>> left, right = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[0.6, 0.8], [0.28, 0.96]])
    >>> angle_loss(left, right, scores=jnp.array([0.9, 0.1]), scale=1.0).round(4)
    Array(0.9617, dtype=float32)
    """
    check_positive(scale=scale, angle_tau=angle_tau, cosine_tau=cosine_tau)
    check_not_negative(angle_w=angle_w, cosine_w=cosine_w, ibn_w=ibn_w)
    if scores is None:
        if negatives is None:
            raise ValueError("angle_loss needs scores [n] or negatives [n k d]; got neither")
        scores = jnp.ones(left.shape[0])
    n = left.shape[0]
    check_shape((n,), scores=scores)
    check_shape((n, 2), ids=ids)
    rows, _, documents = gather(
        left,
        right,
        negatives,
        anchor_ids=ids,
        negatives_where=negatives_where,
        where=where,
        axis_name=axis_name,
    )
    rows = prepared(rows, as_float32)
    everywhere = across_of(axis_name)
    pair_scores = scores.astype(as_float32(left).dtype)
    k = 0 if negatives is None else negatives.shape[1]
    pair_scores = jnp.concatenate([pair_scores, jnp.repeat(1 - pair_scores, k)])

    def with_documents(similarity_fn):
        """Compares each left text with its own documents, in the order of all documents."""
        of_right = similarity_fn(rows.anchors, rows.positives)
        of_negatives = similarity_fn(
            rows.anchors[:, None], documents.embeddings[n:].reshape(n, k, left.shape[1])
        )
        return jnp.concatenate([of_right, of_negatives.reshape(n * k)])

    def disorder(logits):
        pairs = everywhere.gather((logits, pair_scores, documents.real))
        return everywhere.agree(_disorder(*pairs))

    terms = []
    if not is_zero(angle_w):
        angles = with_documents(paired_angle)
        logits = angles * scale if angle_tau is None else angles / angle_tau
        terms.append(angle_w * disorder(logits))
    if not is_zero(cosine_w):
        logits = with_documents(paired_cosine) / cosine_tau
        terms.append(cosine_w * disorder(logits))
    if not is_zero(ibn_w):
        terms.append(
            ibn_w
            * reduce_over_candidates(
                _among_documents,
                lambda of_parts, _: excess(*of_parts),
                rows._replace(anchors=unit(rows.anchors), positives=None),
                documents._replace(embeddings=unit(documents.embeddings)),
                (cosine_tau,),
                where=documents.real[:n] & (scores > 0.5),
                reduce_fn=mean,
                block_size=block_size,
                axis_name=axis_name,
            )
        )
    return sum(terms, start=jnp.zeros((), pair_scores.dtype))


def _among_documents(rows, documents, cosine_tau):
    """Compares with the documents that are wrong for the row, and with those that are right."""
    logits = dot(rows.anchors, documents.embeddings) / cosine_tau
    real = jnp.broadcast_to(documents.real[None, :], logits.shape)
    right = own(rows, documents)
    if rows.anchor_ids is not None:
        right |= equal(rows.anchor_ids, documents.anchor_ids)
    right &= real & documents.paired[None, :]
    return LogSumExp(((logits, real & ~right),)), LogSumExp(((logits, right),))


def _disorder(logits: Values, scores: Scores, where: Where | None) -> Array:
    """Computes `log(1 + Σ exp(logit_i - logit_j))` over the pairs with `score_i < score_j`.

    Sorted by score, the rows above row i are a suffix, so one cumulative log-sum-exp from the end
    serves all rows. Rows that are not real go to the front: they are above none.
    """
    if scores.dtype == bool:
        scores = scores.astype(jnp.int32)
    if where is not None:
        integer = jnp.issubdtype(scores.dtype, jnp.integer)
        lowest = jnp.iinfo(scores.dtype).min if integer else -jnp.inf
        scores = jnp.where(where, scores, lowest)
    order = jnp.argsort(scores)
    scores, logits = scores[order], logits[order]
    above = jnp.append(lax.cumlogsumexp(-logits, reverse=True), -jnp.inf)
    first_above = jnp.searchsorted(scores, scores, side="right")
    terms = logits + above[first_above]
    if where is not None:
        terms = jnp.where(where[order], terms, -jnp.inf)
    return jax.nn.softplus(LogSumExp(((terms[None], ~jnp.isneginf(terms)[None]),)).of_all()[0])
