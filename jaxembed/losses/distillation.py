"""Losses against a teacher: its embeddings, its margins, or its scores of candidates.

Nothing flows into the teacher: its arrays are constants to the gradient.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from jaxembed.losses.arguments import (
    check_choice,
    check_leading,
    check_one_of,
    check_shape,
    check_shapes,
    clean,
    takes_columns,
)
from jaxembed.losses.reduction import mean, reduce
from jaxembed.losses.teacher_scores import (
    kl_divergences,
    margin_errors,
    real_rows_and_candidates,
)
from jaxembed.similarity import (
    as_float32,
    paired_cosine_distance,
    paired_dot,
    paired_euclidean_distance,
)
from jaxembed.typing import (
    Embeddings,
    Negatives,
    NegativesWhere,
    PairedFn,
    ReduceFn,
    Scalar,
    Where,
)

DISTANCES = {
    "cosine": paired_cosine_distance,
    "mse": lambda left, right: jnp.mean(jnp.square(left - right), axis=-1),
    "l2": paired_euclidean_distance,
}


@takes_columns
def embed_distill_loss(
    student: Embeddings,
    *,
    teacher: Embeddings,
    distance: str = "cosine",
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes how far each embedding lies from the teacher's of the same text.

        cosine  1 - cos(student_i, teacher_i)
        mse     mean over the features of (student_i - teacher_i)²
        l2      |student_i - teacher_i|

    A student of another width is projected first; the projection is the caller's parameter.

    Raises:
        ValueError: shapes that do not agree, or an unknown distance.

    Source: Kim et al., EmbedDistill: A Geometric Knowledge Distillation for Information Retrieval,
    2023.

    >>> student, teacher = jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.8]])
    >>> embed_distill_loss(student, teacher=teacher).round(4)
    Array(0.4, dtype=float32)
    """
    check_choice("distance", distance, DISTANCES)
    check_shapes("student", student=student, teacher=teacher)
    check_shape(student.shape[:1], where=where)
    student, teacher = clean(where, as_float32(student), as_float32(lax.stop_gradient(teacher)))
    return reduce(DISTANCES[distance](student, teacher.astype(student.dtype)), where, reduce_fn)


@takes_columns
def mse_loss(
    student: Embeddings,
    *,
    teacher: Embeddings,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the mean squared error of the embeddings against the teacher's.

        value_i = mean over the features of (student_i - teacher_i)²

    Teach a multilingual student by giving it translations of the texts that the teacher has seen.

    Raises:
        ValueError: student and teacher do not agree in shape.

    Source: Reimers and Gurevych, Making Monolingual Sentence Embeddings Multilingual using
    Knowledge Distillation, 2020.

    >>> mse_loss(jnp.array([[1.0, 0.0]]), teacher=jnp.array([[0.5, 1.0]]))
    Array(0.625, dtype=float32)
    """
    return embed_distill_loss(
        student, teacher=teacher, distance="mse", where=where, reduce_fn=reduce_fn
    )


@takes_columns
def margin_mse_loss(
    queries: Embeddings,
    positives: Embeddings,
    negatives: Negatives,
    *,
    margins: Float[Array, "n k"] | None = None,
    scores: Float[Array, "n k_and_1"] | None = None,
    similarity_fn: PairedFn = paired_dot,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes how far the student's margins between positive and negatives are from the teacher's.

        value_i = mean_k (sim(q_i, p_i) - sim(q_i, n_ik) - margin_ik)²

    Args:
        margins: the teacher's score of the positive less that of each negative; or
        scores: the teacher's scores, the positive's first.

    Raises:
        ValueError: shapes that do not agree, or not exactly one of margins and scores.

    Source: Hofstätter et al., Improving Efficient Neural Ranking Models with Cross-Architecture
    Knowledge Distillation, 2020.

    >>> queries, positives = jnp.array([[1.0, 0.0]]), jnp.array([[2.0, 1.0]])
    >>> negatives = jnp.array([[[0.5, 3.0]]])
    >>> margin_mse_loss(queries, positives, negatives, margins=jnp.array([[1.0]]))
    Array(0.25, dtype=float32)
    """
    check_shapes("queries", queries=queries, positives=positives)
    if negatives.ndim != 3 or negatives.shape[::2] != queries.shape:
        raise ValueError(
            f"negatives must be [{queries.shape[0]} k {queries.shape[1]}]; got {negatives.shape}"
        )
    check_shape(negatives.shape[:2], negatives_where=negatives_where)
    check_shape(queries.shape[:1], where=where)
    check_one_of(margins=margins, scores=scores)
    rows, real = real_rows_and_candidates(where, negatives_where)
    queries, positives = clean(rows, queries, positives)
    (negatives,) = clean(real, negatives)
    positive = similarity_fn(queries, positives)[:, None]
    student = jnp.concatenate([positive, similarity_fn(queries[:, None], negatives)], axis=1)
    values = margin_errors(student, margins=margins, teacher_scores=scores, where=real)
    return reduce(values, rows, reduce_fn)


@takes_columns
def distill_kl_div_loss(
    queries: Embeddings,
    candidates: Float[Array, "n k d"],
    *,
    scores: Float[Array, "n k"] | None = None,
    teacher_queries: Float[Array, "n e"] | None = None,
    teacher_candidates: Float[Array, "n k e"] | None = None,
    temperature: Scalar = 1.0,
    student_temperature: Scalar | None = None,
    teacher_temperature: Scalar | None = None,
    similarity_fn: PairedFn = paired_dot,
    candidates_where: Bool[Array, "n k"] | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the divergence of the student's distribution over candidates from the teacher's.

        S_i = log_softmax_k(sim(q_i, c_ik) / T_s)
        P_i = softmax_k(score_ik / T_t)
        value_i = T_s² Σ_k P_ik (log P_ik - S_ik)

    Args:
        scores: the teacher's scores of the candidates, -inf for one to leave out; or
        teacher_queries, teacher_candidates: its embeddings, whose `similarity_fn` are the scores.
        temperature: of student and teacher, where theirs are not given.

    Raises:
        ValueError: shapes that do not agree, a single candidate (its softmax is constant), neither
            or both kinds of teacher.

    Sources: Hinton et al., Distilling the Knowledge in a Neural Network, 2015; Lin et al.,
    Distilling Dense Representations for Ranking using Tightly-Coupled Teachers, 2020.

    >>> queries = jnp.array([[1.0, 0.0]])
    >>> candidates = jnp.array([[[2.0, 0.0], [1.0, 1.0]]])
    >>> distill_kl_div_loss(queries, candidates, scores=jnp.array([[3.0, 1.0]])).round(4)
    Array(0.0671, dtype=float32)
    """
    if candidates.ndim != 3 or candidates.shape[::2] != queries.shape or candidates.shape[1] < 2:
        raise ValueError(
            f"candidates must be [{queries.shape[0]} k {queries.shape[1]}] with k of 2 or more;"
            f" got {candidates.shape}"
        )
    check_one_of(scores=scores, teacher_queries=teacher_queries)
    check_shape(candidates.shape[:2], scores=scores, candidates_where=candidates_where)
    check_shape(queries.shape[:1], where=where)
    check_leading(candidates.shape[:2], teacher_candidates=teacher_candidates)
    check_leading(queries.shape[:1], teacher_queries=teacher_queries)
    rows, real = real_rows_and_candidates(where, candidates_where)
    if scores is None:
        if teacher_queries is None or teacher_candidates is None:
            raise ValueError("teacher_queries and teacher_candidates go together; got one of them")
        (teacher_queries,), (teacher_candidates,) = (
            clean(rows, teacher_queries),
            clean(real, teacher_candidates),
        )
        scores = similarity_fn(teacher_queries[:, None], teacher_candidates)
    (queries,), (candidates,) = clean(rows, queries), clean(real, candidates)
    values = kl_divergences(
        similarity_fn(queries[:, None], candidates),
        scores,
        temperature=temperature,
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
        where=real,
    )
    return reduce(values, rows, reduce_fn)
