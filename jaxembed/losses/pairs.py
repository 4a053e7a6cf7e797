"""Losses of two texts and a target: `left [n d]`, `right [n d]` and one score or label per row."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from jaxembed.calls import checks_call
from jaxembed.losses.arguments import (
    check_integers,
    check_not_negative,
    check_shape,
    check_shapes,
    clean,
    takes_columns,
)
from jaxembed.losses.elementwise import cross_entropy, identity, squared_error
from jaxembed.losses.reduction import mean, reduce, total
from jaxembed.similarity import (
    absolute,
    as_float32,
    paired_clamped_cosine,
    paired_cosine_distance,
)
from jaxembed.typing import Embeddings, Labels, PairedFn, ReduceFn, Scalar, Scores, Where


@takes_columns
def cosine_similarity_loss(
    left: Embeddings,
    right: Embeddings,
    *,
    scores: Scores,
    loss_fn: Callable[[Array, Array], Array] = squared_error,
    score_transform: Callable[[Array], Array] = identity,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes how far the cosine of each pair lies from its score.

        value_i = loss_fn(score_transform(cos(left_i, right_i)), scores_i)

    Args:
        scores: the similarity each pair should have, on the scale of the transformed cosine:
            [-1, 1] or [0, 1].
        loss_fn: error of one prediction, such as those of `jaxembed.losses.elementwise`.
        score_transform: what the cosine goes through first, such as `jax.nn.sigmoid`.

    Raises:
        ValueError: left, right and scores do not agree in shape.

    Source: Reimers and Gurevych, Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks,
    2019.

    >>> left, right = jnp.array([[1.0, 0.0]]), jnp.array([[0.6, 0.8]])
    >>> cosine_similarity_loss(left, right, scores=jnp.array([1.0])).round(4)
    Array(0.16, dtype=float32)
    """
    left, right, scores = _pairs(left, right, "scores", scores, where)
    cosines = paired_clamped_cosine(left, right)
    return reduce(loss_fn(score_transform(cosines), scores.astype(cosines.dtype)), where, reduce_fn)


@takes_columns
def contrastive_loss(
    left: Embeddings,
    right: Embeddings,
    *,
    labels: Scores,
    margin: Scalar = 0.5,
    distance_fn: PairedFn = paired_cosine_distance,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the cost of similar pairs that lie apart and of others that lie within the margin.

        value_i = ½ [y_i d_i² + (1 - y_i) max(margin - d_i, 0)²],    d_i = distance(left_i, right_i)

    Args:
        labels: 1 for a similar pair, 0 for another; anything between weighs both terms.
        margin: the distance from which on a pair that is not similar costs nothing.

    Raises:
        ValueError: shapes that do not agree, or a margin below 0.

    Source: Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping,
    2006 (there label 0 is the similar pair).

    >>> left, right = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[0.6, 0.8], [0.8, 0.6]])
    >>> contrastive_loss(left, right, labels=jnp.array([1, 0])).round(4)
    Array(0.0625, dtype=float32)
    """
    check_not_negative(margin=margin)
    left, right, labels = _pairs(left, right, "labels", labels, where)
    distances = distance_fn(left, right)
    similar = labels.astype(distances.dtype)
    apart = jax.nn.relu(margin - distances)
    values = 0.5 * (similar * jnp.square(distances) + (1 - similar) * jnp.square(apart))
    return reduce(values, where, reduce_fn)


@takes_columns
def online_contrastive_loss(
    left: Embeddings,
    right: Embeddings,
    *,
    labels: Scores,
    margin: Scalar = 0.5,
    distance_fn: PairedFn = paired_cosine_distance,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = total,
) -> Array:
    """Computes the contrastive loss of the hard pairs of the batch alone, as a sum without the ½.

        hard similar pairs    farther apart than the closest other pair:    d_i²
        hard other pairs      closer than the farthest similar pair:    max(margin - d_i, 0)²

    Where a batch has one kind only, those beyond their own mean distance are hard.

    Args:
        labels: 1 for a similar pair, 0 for another. Pairs with any other label count for nothing.

    Raises:
        ValueError: shapes that do not agree, or a margin below 0.

    Source: the sentence-transformers library; the loss of one pair: Hadsell, Chopra and LeCun,
    Dimensionality Reduction by Learning an Invariant Mapping, 2006.

    >>> left, right = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[0.6, 0.8], [0.8, 0.6]])
    >>> online_contrastive_loss(left, right, labels=jnp.array([1, 0])).round(4)
    Array(0.25, dtype=float32)
    """
    check_not_negative(margin=margin)
    left, right, labels = _pairs(left, right, "labels", labels, where)
    distances = distance_fn(left, right)
    real = jnp.ones(labels.shape, bool) if where is None else where
    similar, other = real & (labels == 1), real & (labels == 0)

    constant = lax.stop_gradient(distances)
    closest_other = jnp.min(constant, where=other, initial=jnp.inf)
    farthest_similar = jnp.max(constant, where=similar, initial=-jnp.inf)
    similar_threshold = jnp.where(jnp.any(other), closest_other, mean(constant, similar))
    other_threshold = jnp.where(jnp.any(similar), farthest_similar, mean(constant, other))
    # Negated, so that a distance that is not a number counts as hard and shows.
    hard_similar = similar & ~(constant <= similar_threshold)
    hard_other = other & ~(constant >= other_threshold)
    values = jnp.where(hard_similar, jnp.square(distances), 0)
    values += jnp.where(hard_other, jnp.square(jax.nn.relu(margin - distances)), 0)
    return reduce(values, where, reduce_fn)


@takes_columns
def softmax_loss(
    logits: Float[Array, "n c"],
    *,
    labels: Labels,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the cross-entropy of a classifier over pairs, such as entailment or contradiction.

        value_i = logsumexp(logits_i) - logits_i[labels_i]

    The classifier is the caller's parameter: `logits = pair_features(left, right) @ weight + bias`.

    Raises:
        ValueError: labels that are no integers, or not one per row.

    Source: Reimers and Gurevych, Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks,
    2019.

    >>> softmax_loss(jnp.array([[2.0, 0.0, 0.0]]), labels=jnp.array([0])).round(4)
    Array(0.2395, dtype=float32)
    """
    check_integers(labels=labels)
    check_shape(logits.shape[:1], labels=labels, where=where)
    (logits,) = clean(where, as_float32(logits))
    if where is not None:
        labels = jnp.where(where, labels, 0)
    return reduce(cross_entropy(logits, labels), where, reduce_fn)


@checks_call
def pair_features(
    left: Embeddings,
    right: Embeddings,
    *,
    concatenation_sent_rep: bool = True,
    concatenation_sent_difference: bool = True,
    concatenation_sent_multiplication: bool = False,
) -> Float[Array, "n features"]:
    """Builds what a classifier of pairs sees: `[left, right, |left - right|, left · right]`.

    Each part is switched by its flag (the first two together); the order stays. Where coordinates
    are equal, the difference has slope 0.

    Raises:
        ValueError: shapes that do not agree, or every part switched off.

    >>> pair_features(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 1.0]]))
    Array([[1., 2., 3., 1., 2., 1.]], dtype=float32)
    """
    check_shapes("left", left=left, right=right)
    left, right = as_float32(left), as_float32(right)
    parts = []
    if concatenation_sent_rep:
        parts += [left, right]
    if concatenation_sent_difference:
        parts += [absolute(left - right)]
    if concatenation_sent_multiplication:
        parts += [left * right]
    if not parts:
        raise ValueError("one of the three concatenation_sent_… must be True; got False for all")
    return jnp.concatenate(parts, axis=1)


def _pairs(
    left: Embeddings, right: Embeddings, name: str, targets: Scores, where: Where | None
) -> tuple[Embeddings, Embeddings, Scores]:
    """Checks two columns and their targets, and cleans the rows that are not real."""
    check_shapes("left", left=left, right=right)
    if targets.shape != left.shape[:1]:
        raise ValueError(f"{name} must be one per row, {left.shape[:1]}; got shape {targets.shape}")
    check_shape(left.shape[:1], where=where)
    left, right, targets = clean(where, left, right, targets)
    return left, right, targets
