"""Distillation on scores: how far a student's scores of candidates lie from a teacher's.

Rows `n` have candidates `k`; what scores them (embeddings, token matrices, a reranker) is the
caller's. `where [n k]`, or `[n 1]` for whole rows, says which candidates are real; the scores of
the others must be finite.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from jaxembed.losses.arguments import check_positive, check_shape, clean
from jaxembed.losses.elementwise import log_softmax
from jaxembed.typing import Scalar, Values, Where

Candidates = Float[Array, "n k"]
CandidatesWhere = Bool[Array, "n k"]


def real_rows_and_candidates(
    where: Where | None, candidates_where: CandidatesWhere | None
) -> tuple[Where | None, Bool[Array, "n k_or_1"] | None]:
    """Joins both masks: a candidate of a row that is not real is none, nor is a row without any."""
    if candidates_where is None:
        return where, None if where is None else where[:, None]
    if where is not None:
        candidates_where = candidates_where & where[:, None]
    return jnp.any(candidates_where, axis=1), candidates_where


def mean_of_candidates(values: Candidates, where: Bool[Array, "n k_or_1"] | None) -> Values:
    """Computes each row's mean over its real candidates; 0 for a row that has none."""
    where = jnp.broadcast_to(True if where is None else where, values.shape)
    count = jnp.sum(where, axis=1, dtype=values.dtype)
    return jnp.sum(jnp.where(where, values, 0), axis=1) / jnp.maximum(count, 1)


def margin_errors(
    scores: Float[Array, "n k_and_1"],
    *,
    margins: Candidates | None,
    teacher_scores: Float[Array, "n k_and_1"] | None,
    where: Bool[Array, "n k_or_1"] | None = None,
) -> Values:
    """Computes the mean over negatives of `(score_positive - score_negative - margin)²`.

    Column 0 of the scores is the positive. Margins are the teacher's, or come from its scores.

    Raises:
        ValueError: margins or scores of another shape; the callers see to it that there is one.
    """
    n, columns = scores.shape
    if teacher_scores is not None:
        check_shape((n, columns), scores=teacher_scores)
        margins = teacher_scores[:, :1] - teacher_scores[:, 1:]
    margins = jnp.asarray(margins)
    check_shape((n, columns - 1), margins=margins)
    (margins,) = clean(where, lax.stop_gradient(margins.astype(scores.dtype)))
    errors = scores[:, :1] - scores[:, 1:] - margins
    return mean_of_candidates(jnp.square(errors), where)


def kl_divergences(
    scores: Candidates,
    teacher_scores: Candidates,
    *,
    temperature: Scalar,
    student_temperature: Scalar | None,
    teacher_temperature: Scalar | None,
    where: Bool[Array, "n k_or_1"] | None = None,
) -> Values:
    """Computes `T_s² Σ_k P_k (log P_k - S_k)` of each row.

    `P = softmax(teacher_scores / T_t)`, a constant, and `S = log_softmax(scores / T_s)`. A teacher
    score of -inf takes its candidate's term out (0 log 0 = 0). A temperature of None is the shared
    one.

    Raises:
        ValueError: a temperature that is not above 0.
    """
    check_positive(
        temperature=temperature,
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
    )
    student_temperature = temperature if student_temperature is None else student_temperature
    teacher_temperature = temperature if teacher_temperature is None else teacher_temperature
    if where is not None:
        (teacher_scores,) = clean(where, teacher_scores)
        # A softmax needs one candidate: rows without any keep them all, at the cleaned scores.
        where = jnp.broadcast_to(where | ~jnp.any(where, axis=1, keepdims=True), scores.shape)
        teacher_scores = jnp.where(where, teacher_scores, -jnp.inf)
    teacher = lax.stop_gradient(teacher_scores.astype(scores.dtype) / teacher_temperature)
    log_target = log_softmax(teacher)
    target = jnp.exp(log_target)
    log_student = log_softmax(scores / student_temperature, where)
    difference = jnp.where(target == 0, 0, log_target - log_student)
    return jnp.sum(target * difference, axis=1) * jnp.square(student_temperature)
