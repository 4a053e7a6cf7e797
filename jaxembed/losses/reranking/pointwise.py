"""Losses of single scores: each pair, or each pair of a positive and a negative, has a target.

The arguments that all losses share are explained in `jaxembed.losses.reranking`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jaxembed.losses.arguments import (
    check_integers,
    check_not_negative,
    check_one_of,
    check_shape,
    check_shapes,
    clean,
    takes_columns,
)
from jaxembed.losses.elementwise import cross_entropy, identity
from jaxembed.losses.reduction import mean, reduce
from jaxembed.losses.teacher_scores import margin_errors, real_rows_and_candidates
from jaxembed.similarity import as_float32
from jaxembed.typing import Labels, NegativesWhere, ReduceFn, Scalar, Scores, Values, Where


@takes_columns
def binary_cross_entropy_loss(
    scores: Values,
    *,
    labels: Scores,
    pos_weight: Scalar | None = None,
    activation_fn: Callable[[Array], Array] = identity,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the cross-entropy of relevant or not, with the scores as logits.

        value_i = -pos_weight y_i log σ(s_i) - (1 - y_i) log(1 - σ(s_i))

    Args:
        labels: 1 for relevant, 0 for not, or between.
        pos_weight: makes up for few positives: the number of negatives for each. None is 1.

    Raises:
        ValueError: shapes that do not agree, or a weight below 0.

    >>> binary_cross_entropy_loss(jnp.array([2.0, -1.0]), labels=jnp.array([1, 0])).round(4)
    Array(0.2201, dtype=float32)
    """
    check_shapes("scores", scores=scores, labels=labels, where=where)
    check_not_negative(pos_weight=pos_weight)
    scores, labels = clean(where, scores, labels)
    logits = activation_fn(as_float32(scores))
    labels = labels.astype(logits.dtype)
    relevant, irrelevant = jax.nn.softplus(-logits), jax.nn.softplus(logits)
    if pos_weight is not None:
        relevant = pos_weight * relevant
    return reduce(labels * relevant + (1 - labels) * irrelevant, where, reduce_fn)


@takes_columns
def cross_entropy_loss(
    scores: Float[Array, "n c"],
    *,
    labels: Labels,
    activation_fn: Callable[[Array], Array] = identity,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the cross-entropy of each row's class, with one score per class as logits.

        value_i = logsumexp_c s_ic - s_iy

    Args:
        labels: y, the index of the class. No index is ignored: rows go out by `where`.

    Raises:
        ValueError: shapes that do not agree, or labels that are no integers.

    >>> cross_entropy_loss(jnp.array([[1.0, 0.0, 2.0]]), labels=jnp.array([2])).round(4)
    Array(0.4076, dtype=float32)
    """
    check_shape(scores.shape[:1], labels=labels, where=where)
    check_integers(labels=labels)
    scores, labels = clean(where, scores, labels)
    values = cross_entropy(activation_fn(as_float32(scores)), labels)
    return reduce(values, where, reduce_fn)


@takes_columns
def mse_loss(
    scores: Values,
    *,
    labels: Scores,
    activation_fn: Callable[[Array], Array] = identity,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the squared error of each score, such as against a teacher's.

        value_i = (s_i - y_i)²

    Raises:
        ValueError: shapes that do not agree.

    Source: Hofstätter et al., Improving Efficient Neural Ranking Models with Cross-Architecture
    Knowledge Distillation, 2020.

    >>> mse_loss(jnp.array([2.0, -1.0]), labels=jnp.array([1.5, 0.0])).round(4)
    Array(0.625, dtype=float32)
    """
    check_shapes("scores", scores=scores, labels=labels, where=where)
    scores, labels = clean(where, scores, labels)
    scores = activation_fn(as_float32(scores))
    return reduce(jnp.square(scores - labels.astype(scores.dtype)), where, reduce_fn)


@takes_columns
def margin_mse_loss(
    scores: Float[Array, "n k_and_1"],
    *,
    margins: Float[Array, "n k"] | None = None,
    teacher_scores: Float[Array, "n k_and_1"] | None = None,
    activation_fn: Callable[[Array], Array] = identity,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes how far the margins between positive and negatives lie from a teacher's.

        value_i = mean_k (s_i0 - s_ik - margin_ik)²

    Args:
        scores: the positive's first, then the negatives'.
        margins: the teacher's score of the positive less that of each negative; or
        teacher_scores: the teacher's scores, in the order of `scores`.
        negatives_where: False takes a negative out; a row without negatives counts for nothing.

    Raises:
        ValueError: shapes that do not agree, or not exactly one of margins and teacher_scores.

    Source: Hofstätter et al., Improving Efficient Neural Ranking Models with Cross-Architecture
    Knowledge Distillation, 2020.

    >>> scores, teacher = jnp.array([[2.0, 0.5, 1.0]]), jnp.array([[3.0, 1.0, 1.0]])
    >>> margin_mse_loss(scores, teacher_scores=teacher)
    Array(0.625, dtype=float32)
    """
    check_one_of(margins=margins, teacher_scores=teacher_scores)
    check_shape(scores.shape[:1], where=where)
    check_shapes("negatives", negatives=scores[:, 1:], negatives_where=negatives_where)
    rows, real = real_rows_and_candidates(where, negatives_where)
    (positives,), (negatives,) = clean(rows, scores[:, :1]), clean(real, scores[:, 1:])
    scores = activation_fn(as_float32(jnp.concatenate([positives, negatives], axis=1)))
    values = margin_errors(scores, margins=margins, teacher_scores=teacher_scores, where=real)
    return reduce(values, rows, reduce_fn)
