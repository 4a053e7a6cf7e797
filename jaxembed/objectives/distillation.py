"""Distillation from a teacher that encodes the texts, or from what was stored of one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jaxembed import similarity as s
from jaxembed.calls import checks_call
from jaxembed.losses import distill_kl_div_loss, embed_distill_loss, margin_mse_loss
from jaxembed.losses.arguments import check_one_of, check_shape, clean
from jaxembed.losses.reduction import mean, reduce
from jaxembed.losses.teacher_scores import kl_divergences
from jaxembed.typing import (
    Embeddings,
    Negatives,
    NegativesWhere,
    PairedFn,
    Params,
    ReduceFn,
    Scalar,
    SimilarityFn,
    Where,
)

OF_ALL_PAIRS: dict[Any, SimilarityFn] = {
    s.paired_dot: s.dot,
    s.paired_cosine: s.cosine,
    s.paired_euclidean: s.euclidean,
    s.paired_manhattan: s.manhattan,
}


@checks_call
def distill_scores(
    queries: Embeddings,
    positives: Embeddings,
    negatives: Negatives | None = None,
    *,
    scores: Float[Array, "n k"] | None = None,
    teacher_queries: Float[Array, "n e"] | None = None,
    teacher_positives: Float[Array, "n e"] | None = None,
    teacher_negatives: Float[Array, "n k e"] | None = None,
    temperature: Scalar = 1.0,
    student_temperature: Scalar | None = None,
    teacher_temperature: Scalar | None = None,
    similarity_fn: PairedFn = s.paired_dot,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes `distill_kl_div_loss` over the candidates of each row.

    These are its positive and its negatives; with pairs alone, all positives of the batch, for the
    student and for the teacher.

    Raises:
        ValueError: as `distill_kl_div_loss`, or scores for pairs alone.
    """
    if negatives is not None:
        candidates = jnp.concatenate([positives[:, None], negatives], axis=1)
        teacher_candidates = None
        if teacher_positives is not None and teacher_negatives is not None:
            teacher_candidates = jnp.concatenate(
                [teacher_positives[:, None], teacher_negatives], axis=1
            )
        if negatives_where is not None:
            own = jnp.ones((queries.shape[0], 1), bool)
            negatives_where = jnp.concatenate([own, negatives_where], axis=1)
        return distill_kl_div_loss(
            queries,
            candidates,
            scores=scores,
            teacher_queries=teacher_queries,
            teacher_candidates=teacher_candidates,
            temperature=temperature,
            student_temperature=student_temperature,
            teacher_temperature=teacher_temperature,
            similarity_fn=similarity_fn,
            candidates_where=negatives_where,
            where=where,
            reduce_fn=reduce_fn,
        )
    if teacher_queries is None or teacher_positives is None:
        raise ValueError(
            "distill_kl_div on pairs alone needs a teacher that encodes them; scores [n k] go with"
            " k candidates in a row: a positive and k - 1 negatives"
        )
    queries, positives = clean(where, queries, positives)
    teacher_queries, teacher_positives = clean(where, teacher_queries, teacher_positives)
    similarity = OF_ALL_PAIRS.get(similarity_fn) or (
        lambda x, y: jax.vmap(lambda row: similarity_fn(row[None], y))(x)
    )
    values = kl_divergences(
        similarity(queries, positives),
        similarity(teacher_queries, teacher_positives),
        temperature=temperature,
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
        where=None if where is None else where[:, None] & where[None, :],
    )
    return reduce(values, where, reduce_fn)


@checks_call
def distill_margins(
    queries: Embeddings,
    positives: Embeddings,
    negatives: Negatives,
    *,
    margins: Float[Array, " n"] | Float[Array, "n k"] | None = None,
    scores: Float[Array, "n k_and_1"] | None = None,
    teacher_queries: Float[Array, "n e"] | None = None,
    teacher_positives: Float[Array, "n e"] | None = None,
    teacher_negatives: Float[Array, "n k e"] | None = None,
    similarity_fn: PairedFn = s.paired_dot,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes `margin_mse_loss`, also with the teacher's embeddings for its scores."""
    n, k = negatives.shape[:2]
    if margins is not None and margins.ndim == 1:
        margins = margins[:, None]
    if teacher_queries is not None and teacher_positives is not None:
        positive = similarity_fn(teacher_queries, teacher_positives)[:, None]
        scores = positive
        if teacher_negatives is not None:
            of_negatives = similarity_fn(teacher_queries[:, None], teacher_negatives)
            scores = jnp.concatenate([positive, of_negatives], axis=1)
    check_one_of(margins=margins, scores=scores)
    check_shape((n, k), margins=margins)
    check_shape((n, 1 + k), scores=scores)
    return margin_mse_loss(
        queries,
        positives,
        negatives,
        margins=margins,
        scores=scores,
        similarity_fn=similarity_fn,
        negatives_where=negatives_where,
        where=where,
        reduce_fn=reduce_fn,
    )


@checks_call
def distill_embeddings(
    *columns: Embeddings,
    teacher: Float[Array, "n e"] | Float[Array, "n c e"] | None = None,
    teacher_texts: Float[Array, "n e"] | None = None,
    own: Params | None = None,
    distance: str = "cosine",
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the mean over the columns of `embed_distill_loss`, behind a projection if there is.

    The teacher's embedding is that of the first text and the target of all; or, stored as
    `[n c e]`, there is one for each column. `own` are `kernel [d e]` and `bias [e]` of a
    projection, or nothing.
    """
    target = teacher if teacher is not None else teacher_texts
    if target is None:
        raise ValueError("distillation needs the teacher's embeddings, [n e] or [n c e]; got none")
    if own:
        columns = tuple(s.as_float32(x) @ own["kernel"] + own["bias"] for x in columns)
    width = columns[0].shape[-1]
    if target.shape[-1] != width:
        raise ValueError(
            f"the teacher's embeddings have {target.shape[-1]} features, the student's {width};"
            f" learn a projection with projection_dim={target.shape[-1]}"
        )
    if target.ndim == 3 and target.shape[1] != len(columns):
        raise ValueError(
            f"the teacher has embeddings of {target.shape[1]} texts in a row, the student encodes"
            f" {len(columns)}"
        )
    values = [
        embed_distill_loss(
            column,
            teacher=target[:, number] if target.ndim == 3 else target,
            distance=distance,
            where=where,
            reduce_fn=reduce_fn,
        )
        for number, column in enumerate(columns)
    ]
    return sum(values[1:], start=values[0]) / len(values)


def init_projection(key: Array, *, width: int, projection_dim: int | None = None) -> Params:
    """Draws a projection to `projection_dim` features uniformly from `±1 / √width`, or none."""
    if projection_dim is None:
        return {}
    if projection_dim < 1:
        raise ValueError(f"projection_dim must be at least 1; got {projection_dim}")
    bound = width**-0.5
    of_kernel, of_bias = jax.random.split(key)
    shape = (width, projection_dim)
    return {
        "kernel": jax.random.uniform(of_kernel, shape, minval=-bound, maxval=bound),
        "bias": jax.random.uniform(of_bias, shape[1:], minval=-bound, maxval=bound),
    }
