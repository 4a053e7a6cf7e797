"""Ranking with in-batch negatives: a softmax over the batch, the own positive is right.

The arguments that all in-batch losses share are explained in `jaxembed.losses.in_batch`.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    limited,
    negatives as negatives_of,
    not_closer,
    own,
    own_column,
    prepared,
)
from jaxembed.losses.over_candidates import LogSumExp, Own, excess
from jaxembed.losses.reduction import mean
from jaxembed.losses.streaming import reduce_over_candidates
from jaxembed.mesh_axes import Axis
from jaxembed.similarity import cosine, dot, factored
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
    block_size: int | None = None,
    axis_name: Axis | None = None,
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
    prepare, similarity = factored(similarity_fn)
    rows, queries, documents = gather(
        anchors,
        positives,
        negatives,
        prepare=prepare,
        ids=ids,
        anchor_ids=anchor_ids,
        negative_ids=negative_ids,
        negatives_where=negatives_where,
        where=where,
        axis_name=axis_name,
    )

    whole = block_size is None and axis_name is None  # a row's candidates are all rows, in order

    def parts(rows, candidates, scale, hardness_strength):
        rows = prepared(rows, prepare)
        queries, documents = candidates
        own_document = own(rows, documents)
        own_positive = own_document & documents.paired[None, :]

        def kept(similarities, candidates):
            return negatives_of(rows, candidates) & not_closer(similarities, rows)

        def compare(x, candidates):
            similarities = similarity(x, candidates.embeddings)  # [n m]
            return similarities, kept(similarities, candidates)

        similarities, keep = compare(rows.anchors, documents)
        logits = scale * similarities
        if hardness_mode is not None:
            harder = {
                "in_batch_negatives": ~own_document,
                "hard_negatives": own_document & ~own_positive,
                "all_negatives": ~own_positive,
            }[hardness_mode]
            logits += jnp.where(harder, hardness_strength * lax.stop_gradient(similarities), 0)
        positives = [Own(logits, own_column(rows, documents))]
        partitions = [(logits, keep & ~own_positive)]
        joint = partition_mode == "joint"

        if "doc_to_query" in directions:
            if whole and similarity is dot:  # those of the positives are known already
                similarities = similarities[:, : rows.index.size].T
                keep = kept(similarities, queries)
                positives.append(positives[0])
            else:
                similarities, keep = compare(rows.positives, queries)
                positives.append(Own(scale * similarities, own_column(rows, queries)))
            itself = own(rows, queries)
            partitions.append((scale * similarities, keep | itself if joint else keep & ~itself))
        if "query_to_query" in directions:
            similarities, keep = compare(rows.anchors, queries)
            partitions.append((scale * similarities, keep & ~own(rows, queries)))
        if "doc_to_doc" in directions:
            similarities, keep = compare(rows.positives, documents)
            partitions.append((scale * similarities, keep & ~own_document))

        if joint:
            return positives[0], LogSumExp(tuple(partitions))
        return *positives, *(LogSumExp((block,)) for block in partitions)

    def values(of_parts, *_):
        half = len(of_parts) // 2  # positives, then negatives
        terms = list(map(excess, of_parts[half:], of_parts[:half]))
        return sum(terms[1:], start=terms[0]) / half

    rows = limited(rows, prepare, similarity, false_negative_margin)
    if not {"doc_to_query", "doc_to_doc"} & set(directions):
        rows = rows._replace(positives=None)
    return reduce_over_candidates(
        parts,
        values,
        rows,
        (queries if len(directions) > 1 else None, documents),
        (scale, hardness_strength),
        where=where,
        reduce_fn=reduce_fn,
        block_size=block_size,
        axis_name=axis_name,
    )


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
    block_size: int | None = None,
    axis_name: Axis | None = None,
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
        block_size=block_size,
        axis_name=axis_name,
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
