"""Losses of token embeddings: queries `[n t d]` against documents `[n k s d]`, by late interaction.

What all of them share:

- `query_mask [n t]`, `document_mask [n k s]`: False where there is no token; None: all are real.
- `documents_where [n k]`: False for a document that is none. It is no candidate, unlike one that is
  real but has no token: that scores -1e9. `where [n]`: the same for whole rows. A row whose
  positive is not real counts for nothing.
- `block_size`, `axis_name` of the ranking loss are those of `jaxembed.losses.in_batch`.
- `similarity_fn`: one of `jaxembed.late_interaction`, called with both masks. For all pairs:
  `maxsim`, `mean_maxsim`, `xtr`; for a query and its own documents: `paired_maxsim`,
  `paired_mean_maxsim`.

The masks of tokens come first among the keywords: they belong to the arrays.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, UInt32

from jaxembed.late_interaction import maxsim, paired_maxsim, xtr
from jaxembed.losses.across import across_of
from jaxembed.losses.arguments import (
    check_one_of,
    check_positive,
    check_shape,
    takes_columns,
)
from jaxembed.losses.in_batch import equal
from jaxembed.losses.over_candidates import LogSumExp, Own, excess
from jaxembed.losses.reduction import mean, reduce
from jaxembed.losses.streaming import reduce_over_candidates
from jaxembed.losses.teacher_scores import kl_divergences, margin_errors
from jaxembed.mesh_axes import Axis
from jaxembed.typing import Ids, PairedTokensFn, ReduceFn, Scalar, TokensFn, Where

Queries = Float[Array, "n t d"]
Documents = Float[Array, "n k s d"]
QueryMask = Bool[Array, "n t"]
DocumentMask = Bool[Array, "n k s"]
DocumentIds = UInt32[Array, "n k 2"]
DocumentsWhere = Bool[Array, "n k"]


@takes_columns
def multi_vector_multiple_negatives_ranking_loss(
    queries: Queries,
    documents: Documents,
    *,
    query_mask: QueryMask | None = None,
    document_mask: DocumentMask | None = None,
    ids: Ids | None = None,
    document_ids: DocumentIds | None = None,
    scale: Scalar = 1.0,
    similarity_fn: TokensFn = maxsim,
    documents_where: DocumentsWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
    block_size: int | None = None,
    axis_name: Axis | None = None,
) -> Array:
    """Computes how badly each query finds its positive, the first document, among the batch's.

        value_i = logsumexp_jc scale sim(q_i, d_jc) - scale sim(q_i, d_i1)

    Args:
        ids, document_ids: the two words of a 64-bit hash of the positive's text, and of every
            document's. Documents with the id of the row's positive are not its negatives. Either is
            enough where a row has one document, and `document_ids` always.
        scale: inverse temperature, > 0. 1 suits sums over the tokens of a query, 20 their means.

    Raises:
        ValueError: shapes that do not agree, ids without those of the other documents, a scale that
            is not above 0, or xtr over devices.

    Source: Khattab and Zaharia, ColBERT: Efficient and Effective Passage Search via Contextualized
    Late Interaction over BERT, 2020.

    >>> queries = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> documents = jnp.array([[[[0.6, 0.8], [0.8, 0.6]], [[1.0, 0.0], [0.6, 0.8]]]])
    >>> multi_vector_multiple_negatives_ranking_loss(queries, documents).round(4)
    Array(0.7981, dtype=float32)
    """
    check_positive(scale=scale)
    if axis_name is not None and getattr(similarity_fn, "func", similarity_fn) is xtr:
        raise ValueError(
            "xtr selects among the documents of the whole batch, which are not on one device; leave"
            " out axis_name (under jax.jit sharded arrays do), or take maxsim or mean_maxsim"
        )
    query_mask, document_mask, real = _complete(
        queries, documents, query_mask, document_mask, documents_where, where
    )
    n, k = real.shape
    index = across_of(axis_name).index * n + jnp.arange(n, dtype=jnp.int32)
    ids, document_ids = _complete_ids(ids, document_ids, (n, k))
    rows = queries, query_mask, index, ids
    flat = lambda x: x.reshape(n * k, *x.shape[2:])  # noqa: E731
    first = jnp.broadcast_to(jnp.arange(k) == 0, (n, k))
    owner = jnp.repeat(index, k).reshape(n, k)
    candidates = jax.tree.map(flat, (documents, document_mask, owner, first, real, document_ids))

    def parts(rows, candidates, scale):
        queries, query_mask, index, ids = rows
        documents, document_mask, owner, first, real, document_ids = candidates
        similarities = similarity_fn(
            queries, documents, query_mask=query_mask, document_mask=document_mask
        )  # [n m]
        own_positive = (index[:, None] == owner[None]) & first[None]
        keep = real[None] if ids is None else real[None] & ~equal(ids, document_ids)
        logits = scale * similarities
        column = k * (index - owner[:1])
        column = jnp.where(jnp.any(own_positive, axis=1), column, -1)
        return Own(logits, column), LogSumExp(((logits, keep & ~own_positive),))

    return reduce_over_candidates(
        parts,
        lambda of_parts, _: excess(of_parts[1], of_parts[0]),
        rows,
        candidates,
        (scale,),
        where=real[:, 0],
        reduce_fn=reduce_fn,
        block_size=block_size,
        axis_name=axis_name,
    )


@takes_columns
def multi_vector_distill_kl_div_loss(
    queries: Queries,
    documents: Documents,
    *,
    scores: Float[Array, "n k"],
    query_mask: QueryMask | None = None,
    document_mask: DocumentMask | None = None,
    temperature: Scalar = 1.0,
    student_temperature: Scalar | None = None,
    teacher_temperature: Scalar | None = None,
    similarity_fn: PairedTokensFn = paired_maxsim,
    documents_where: DocumentsWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the divergence of the student's distribution over documents from the teacher's.

        S_i = log_softmax_k(sim(q_i, d_ik) / T_s)
        P_i = softmax_k(score_ik / T_t)
        value_i = T_s² Σ_k P_ik (log P_ik - S_ik)

    Args:
        scores: the teacher's of each document, -inf for one to leave out. No document is a positive
            here: a row counts if any of them is real.
        temperature: of student and teacher, where theirs are not given.

    Raises:
        ValueError: shapes that do not agree, a single document (its softmax is constant), or a
            temperature that is not above 0.

    Sources: Hinton et al., Distilling the Knowledge in a Neural Network, 2015; Santhanam et al.,
    ColBERTv2: Effective and Efficient Retrieval via Lightweight Late Interaction, 2022.

    >>> queries = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> documents = jnp.array([[[[0.6, 0.8], [0.8, 0.6]], [[1.0, 0.0], [0.6, 0.8]]]])
    >>> multi_vector_distill_kl_div_loss(
    ...     queries, documents, scores=jnp.array([[1.0, 0.0]])
    ... ).round(4)
    Array(0.1, dtype=float32)
    """
    query_mask, document_mask, real = _complete(
        queries, documents, query_mask, document_mask, documents_where, where
    )
    if real.shape[1] < 2:
        raise ValueError(f"documents must be [n k s d] with k of 2 or more; got {documents.shape}")
    check_shape(real.shape, scores=scores)
    similarities = similarity_fn(
        queries[:, None], documents, query_mask=query_mask[:, None], document_mask=document_mask
    )  # [n k]
    values = kl_divergences(
        similarities,
        scores,
        temperature=temperature,
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
        where=real,
    )
    return reduce(values, jnp.any(real, axis=1), reduce_fn)


@takes_columns
def multi_vector_margin_mse_loss(
    queries: Queries,
    documents: Documents,
    *,
    margins: Float[Array, "n k_less_1"] | None = None,
    scores: Float[Array, "n k"] | None = None,
    query_mask: QueryMask | None = None,
    document_mask: DocumentMask | None = None,
    similarity_fn: PairedTokensFn = paired_maxsim,
    documents_where: DocumentsWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes how far the student's margins between positive and negatives are from the teacher's.

        value_i = mean_c (sim(q_i, d_i1) - sim(q_i, d_ic) - margin_ic)²,  c from 2

    Args:
        documents: the positive of each row first, then its negatives.
        margins: the teacher's score of the positive less that of each negative; or
        scores: the teacher's scores of all documents.

    Raises:
        ValueError: shapes that do not agree, or not exactly one of margins and scores.

    Source: Hofstätter et al., Improving Efficient Neural Ranking Models with Cross-Architecture
    Knowledge Distillation, 2020.

    >>> queries = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> documents = jnp.array([[[[0.6, 0.8], [0.8, 0.6]], [[1.0, 0.0], [0.6, 0.8]]]])
    >>> multi_vector_margin_mse_loss(queries, documents, margins=jnp.array([[1.0]])).round(4)
    Array(1.44, dtype=float32)
    """
    check_one_of(margins=margins, scores=scores)
    query_mask, document_mask, real = _complete(
        queries, documents, query_mask, document_mask, documents_where, where
    )
    if real.shape[1] < 2:
        raise ValueError(f"documents must hold a positive and negatives; got {documents.shape}")
    similarities = similarity_fn(
        queries[:, None], documents, query_mask=query_mask[:, None], document_mask=document_mask
    )  # [n k]
    real = real[:, 1:] & real[:, :1]  # the margins that there are
    values = margin_errors(similarities, margins=margins, teacher_scores=scores, where=real)
    return reduce(values, jnp.any(real, axis=1), reduce_fn)


def _complete(queries, documents, query_mask, document_mask, documents_where, where):
    """Checks shapes and completes the masks: what is not real has no token.

    Returns both token masks, and which documents are real `[n k]`. Embeddings stay as they are:
    similarities leave out what is no token, whatever it holds.
    """
    n, _, d = queries.shape if queries.ndim == 3 else (None, None, None)
    if documents.ndim != 4 or documents.shape[::3] != (n, d) or documents.shape[1] == 0:
        raise ValueError(
            "queries and documents must be [n t d] and [n k s d] with k of 1 or more;"
            f" got {queries.shape} and {documents.shape}"
        )
    check_shape(queries.shape[:2], query_mask=query_mask)
    check_shape(documents.shape[:3], document_mask=document_mask)
    check_shape(documents.shape[:2], documents_where=documents_where)
    check_shape(queries.shape[:1], where=where)
    rows = jnp.ones_like(queries[:, 0, 0], bool) if where is None else where
    real = jnp.broadcast_to(rows[:, None], documents.shape[:2])
    if documents_where is not None:
        real &= documents_where
    query_tokens = jnp.broadcast_to(rows[:, None], queries.shape[:2])
    if query_mask is not None:
        query_tokens &= query_mask
    document_tokens = jnp.broadcast_to(real[..., None], documents.shape[:3])
    if document_mask is not None:
        document_tokens &= document_mask
    return query_tokens, document_tokens, real


def _complete_ids(
    ids: Ids | None, document_ids: DocumentIds | None, shape: tuple[int, int]
) -> tuple[Ids | None, DocumentIds | None]:
    """Checks the ids and takes those that are missing from the others."""
    check_shape((shape[0], 2), ids=ids)
    check_shape((*shape, 2), document_ids=document_ids)
    if document_ids is None and ids is not None:
        if shape[1] > 1:
            raise ValueError(f"ids with {shape[1]} documents a row need document_ids; got none")
        return ids, ids[:, None]
    if ids is None and document_ids is not None:
        return document_ids[:, 0], document_ids
    return ids, document_ids
