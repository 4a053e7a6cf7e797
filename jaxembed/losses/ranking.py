"""Ranking with in-batch negatives: a softmax over the batch, the own positive is right.

The arguments that all in-batch losses share are explained in `jaxembed.losses.in_batch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from jax import Array, lax

from jaxembed.losses.arguments import (
    check_choice,
    check_not_negative,
    check_positive,
    takes_columns,
)
from jaxembed.losses.in_batch import (
    gather,
    logsumexp,
    negatives as negatives_of,
    not_closer,
    own,
    pick,
)
from jaxembed.losses.reduction import mean, reduce
from jaxembed.similarity import cosine
from jaxembed.typing import (
    Embeddings,
    Ids,
    NegativeIds,
    Negatives,
    NegativesWhere,
    ReduceFn,
    Scalar,
    SimilarityFn,
    Where,
)

DIRECTIONS = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
PARTITION_MODES = ("joint", "per_direction")
HARDNESS_MODES = (None, "in_batch_negatives", "hard_negatives", "all_negatives")


@takes_columns
def multiple_negatives_ranking_loss(
    anchors: Embeddings,
    positives: Embeddings,
    negatives: Negatives | None = None,
    *,
    ids: Ids | None = None,
    anchor_ids: Ids | None = None,
    negative_ids: NegativeIds | None = None,
    scale: Scalar = 20.0,
    directions: Sequence[str] = ("query_to_doc",),
    partition_mode: str = "joint",
    hardness_mode: str | None = None,
    hardness_strength: Scalar = 0.0,
    false_negative_margin: Scalar | None = None,
    similarity_fn: SimilarityFn = cosine,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes how badly each anchor finds its positive among the batch's documents (InfoNCE).

    With `q` anchors, `p` positives and `d` all documents (positives and negatives of every row),
    row i has

        query_to_doc    scale sim(q_i, d_j)  all documents
        query_to_query  scale sim(q_i, q_j)  without j = i
        doc_to_query    scale sim(q_j, p_i)  all anchors
        doc_to_doc      scale sim(d_j, p_i)  without the documents of row i

        value_i = Z_i - scale sim(q_i, p_i)

    where `Z_i` is the log-sum-exp over all `directions` together ("joint") or the mean of one
    log-sum-exp per direction ("per_direction"). Joined with doc_to_query, the own positive counts
    twice, as published.

    Args:
        scale: inverse temperature, > 0. 20 suits cosine; a learnable one is an argument like any
            other.
        directions: "query_to_doc" and any of the others; "per_direction" knows the two mixed ones
            only.
        hardness_mode: adds `hardness_strength · sim(q_i, d_j)`, as a constant, to the query_to_doc
            logits of the documents of other rows ("in_batch_negatives"), the own negatives
            ("hard_negatives") or both ("all_negatives"), so that hard ones weigh more.
        reduce_fn: from the values `[n]` to the loss; None returns them, 0 where masked.

    Returns:
        The loss, in float32 (float64 for such inputs). With a single real row and the defaults it
        is 0.

    Raises:
        ValueError: shapes that do not agree, an unknown or impossible choice, a number out of
            range.

    Sources: Henderson et al., Efficient Natural Language Response Suggestion for Smart Reply, 2017;
    van den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018;
    directions: Li et al., Towards General Text Embeddings with Multi-stage Contrastive Learning,
    2023; hardness: Lan et al., LLaVE: Large Language and Vision Embedding
    Models with Hardness-Weighted Contrastive Learning, 2025.

    >>> anchors = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> positives = jnp.array([[0.9, 0.1], [0.5, 0.6]])
    >>> multiple_negatives_ranking_loss(anchors, positives, scale=1.0).round(4)
    Array(0.4746, dtype=float32)
    """
    _check_choices(directions, partition_mode, hardness_mode)
    check_positive(scale=scale)
    check_not_negative(hardness_strength=hardness_strength)
    rows, queries, documents = gather(
        anchors,
        positives,
        negatives,
        ids=ids,
        anchor_ids=anchor_ids,
        negative_ids=negative_ids,
        negatives_where=negatives_where,
        where=where,
    )
    own_query, own_document = own(rows, queries), own(rows, documents)
    own_positive = own_document & documents.paired[None, :]

    similarities = similarity_fn(rows.anchors, documents.embeddings)  # [n m]
    positive = pick(similarities, own_positive)  # [n]
    logits = scale * similarities
    if hardness_mode is not None:
        harder = {
            "in_batch_negatives": ~own_document,
            "hard_negatives": own_document & ~own_positive,
            "all_negatives": ~own_positive,
        }[hardness_mode]
        logits += jnp.where(harder, hardness_strength * lax.stop_gradient(similarities), 0)

    admit = partial(not_closer, positive=positive, false_negative_margin=false_negative_margin)
    keep = (negatives_of(rows, documents) & admit(similarities)) | own_positive
    partitions = [jnp.where(keep, logits, -jnp.inf)]
    if "doc_to_query" in directions:
        similarities = similarity_fn(rows.positives, queries.embeddings)
        keep = (negatives_of(rows, queries) & admit(similarities)) | own_query
        partitions.append(jnp.where(keep, scale * similarities, -jnp.inf))
    if "query_to_query" in directions:
        similarities = similarity_fn(rows.anchors, queries.embeddings)
        keep = negatives_of(rows, queries) & admit(similarities) & ~own_query
        partitions.append(jnp.where(keep, scale * similarities, -jnp.inf))
    if "doc_to_doc" in directions:
        similarities = similarity_fn(rows.positives, documents.embeddings)
        keep = negatives_of(rows, documents) & admit(similarities) & ~own_document
        partitions.append(jnp.where(keep, scale * similarities, -jnp.inf))

    if partition_mode == "joint":
        normaliser = logsumexp(*partitions)
    else:
        normaliser = jnp.mean(jnp.stack([logsumexp(logits) for logits in partitions]), axis=0)
    return reduce(normaliser - scale * positive, where, reduce_fn)


@takes_columns
def multiple_negatives_symmetric_ranking_loss(
    anchors: Embeddings,
    positives: Embeddings,
    negatives: Negatives | None = None,
    *,
    ids: Ids | None = None,
    anchor_ids: Ids | None = None,
    negative_ids: NegativeIds | None = None,
    scale: Scalar = 20.0,
    false_negative_margin: Scalar | None = None,
    similarity_fn: SimilarityFn = cosine,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the ranking loss both ways: anchors find positives, positives find anchors.

        value_i = ½ [logsumexp_j scale sim(q_i, d_j) + logsumexp_j scale sim(q_j, p_i)]
                  - scale sim(q_i, p_i)

    The average of the directions, not their sum. Hard negatives count in the first direction only.

    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
    2021.

    >>> anchors = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> positives = jnp.array([[0.9, 0.1], [0.5, 0.6]])
    >>> multiple_negatives_symmetric_ranking_loss(anchors, positives, scale=1.0).round(4)
    Array(0.4816, dtype=float32)
    """
    return multiple_negatives_ranking_loss(
        anchors,
        positives,
        negatives,
        ids=ids,
        anchor_ids=anchor_ids,
        negative_ids=negative_ids,
        scale=scale,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
        false_negative_margin=false_negative_margin,
        similarity_fn=similarity_fn,
        negatives_where=negatives_where,
        where=where,
        reduce_fn=reduce_fn,
    )


def _check_choices(
    directions: Sequence[str], partition_mode: str, hardness_mode: str | None
) -> None:
    if isinstance(directions, str):
        raise ValueError(
            f'directions must be a sequence such as ("query_to_doc",); got {directions!r}'
        )
    for direction in directions:
        check_choice("directions", direction, DIRECTIONS)
    check_choice("partition_mode", partition_mode, PARTITION_MODES)
    check_choice("hardness_mode", hardness_mode, HARDNESS_MODES)
    if "query_to_doc" not in directions:
        raise ValueError(f'directions must hold "query_to_doc"; got {tuple(directions)}')
    if partition_mode == "per_direction" and not set(directions) <= {
        "query_to_doc",
        "doc_to_query",
    }:
        raise ValueError(
            'partition_mode "per_direction" takes "query_to_doc" and "doc_to_query" only;'
            f" got directions {tuple(directions)}"
        )
