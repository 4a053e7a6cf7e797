"""Losses of two texts and a target: `left [n d]`, `right [n d]` and one score or label per row."""

from __future__ import annotations

from collections.abc import Callable

from jax import Array

from jaxembed.losses.arguments import check_leading, check_shapes, clean
from jaxembed.losses.elementwise import identity, squared_error
from jaxembed.losses.reduction import mean, reduce
from jaxembed.similarity import paired_clamped_cosine
from jaxembed.typing import Embeddings, ReduceFn, Values, Where


def cosine_similarity_loss(
    left: Embeddings,
    right: Embeddings,
    *,
    scores: Values,
    loss_fn: Callable[[Array, Array], Array] = squared_error,
    score_transform: Callable[[Array], Array] = identity,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes how far the cosine of each pair lies from its score.

        value_i = loss_fn(score_transform(cos(left_i, right_i)), scores_i)

    Args: scores: the similarity each pair should have, on the scale of the transformed cosine: [-1,
        1] or [0, 1]. loss_fn: error of one prediction, such as those of
        `jaxembed.losses.elementwise`. score_transform: what the cosine goes through first, such as
        `jax.nn.sigmoid`. where: False rows count for nothing. reduce_fn: from the values `[n]` to
        the loss; None returns them, 0 where masked.

    Raises:
        ValueError: left, right and scores do not agree in shape.

    Source: Reimers and Gurevych, Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks,
    2019.

    >>> left, right = jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.8]])
    >>> cosine_similarity_loss(left, right, scores=jnp.array([1.0])).round(4)
    Array(0.16, dtype=float32)
    """
    check_shapes("left", left=left, right=right)
    check_leading(left.shape[:1], scores=scores, where=where)
    left, right, scores = clean(where, left, right, scores)
    cosines = paired_clamped_cosine(left, right)
    return reduce(loss_fn(score_transform(cosines), scores.astype(cosines.dtype)), where, reduce_fn)
