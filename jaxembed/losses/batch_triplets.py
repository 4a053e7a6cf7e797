"""Triplets mined within a batch of labelled embeddings: `embeddings [n d]`, `labels [n]`.

For anchor i a positive is another row of its label, a negative a row of another label. The batch
should hold several rows of each label. `distance_fn` gives the distances of all pairs, such as
`euclidean_distance` or `cosine_distance` of `jaxembed.similarity`; `margin` is in its units.

All raise ValueError for shapes that do not agree, labels that are no integers, a margin below 0.

Sources: Hermans, Beyer and Leibe, In Defense of the Triplet Loss for Person Re-Identification,
2017; semi-hard: Schroff, Kalenichenko and Philbin, FaceNet: A Unified Embedding for Face
Recognition and Clustering, 2015.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from jaxembed.losses.arguments import (
    check_integers,
    check_not_negative,
    check_shape,
    clean,
    takes_columns,
)
from jaxembed.losses.reduction import mean, reduce
from jaxembed.selection import first_max, sort
from jaxembed.similarity import euclidean_distance
from jaxembed.typing import Embeddings, Labels, ReduceFn, Scalar, SimilarityFn, Values, Where

BLOCK = 128  # anchors at a time, where all their triplets are looked at


class Pairs(NamedTuple):
    """All pairs of rows; the masks leave out what is not real."""

    distances: Float[Array, "n n"]  # the diagonal is exactly 0
    positives: Bool[Array, "n n"]
    negatives: Bool[Array, "n n"]
    real: Bool[Array, "1 n"]


@takes_columns
def batch_hard_triplet_loss(
    embeddings: Embeddings,
    *,
    labels: Labels,
    margin: Scalar = 5.0,
    distance_fn: SimilarityFn = euclidean_distance,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes each anchor's triplet loss with its farthest positive and its closest negative.

        value_i = max(d(i, farthest positive) - d(i, closest negative) + margin, 0)

    An anchor without a positive counts with distance 0 to it; one without a negative with the
    distance to the farthest row, so that a batch of one label costs the margin and has no gradient.

    >>> embeddings = jnp.array([[0.0], [1.0], [5.0], [7.0]])
    >>> batch_hard_triplet_loss(embeddings, labels=jnp.array([0, 0, 1, 1]))
    Array(1.75, dtype=float32)
    """
    check_not_negative(margin=margin)
    farthest, closest = _hardest(_pairs(embeddings, labels, distance_fn, where))
    difference = farthest - closest + margin
    # Slope 1 at 0, unlike relu: with a batch of one label and no margin the hinge is still open.
    return reduce(jnp.where(difference < 0, 0, difference), where, reduce_fn)


@takes_columns
def batch_hard_soft_margin_triplet_loss(
    embeddings: Embeddings,
    *,
    labels: Labels,
    distance_fn: SimilarityFn = euclidean_distance,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the batch-hard loss with a softplus for the hinge, which needs no margin.

        value_i = log(1 + exp(d(i, farthest positive) - d(i, closest negative)))

    >>> embeddings = jnp.array([[0.0], [1.0], [5.0], [7.0]])
    >>> batch_hard_soft_margin_triplet_loss(embeddings, labels=jnp.array([0, 0, 1, 1])).round(4)
    Array(0.053, dtype=float32)
    """
    farthest, closest = _hardest(_pairs(embeddings, labels, distance_fn, where))
    return reduce(jax.nn.softplus(farthest - closest), where, reduce_fn)


@takes_columns
def batch_semi_hard_triplet_loss(
    embeddings: Embeddings,
    *,
    labels: Labels,
    margin: Scalar = 5.0,
    distance_fn: SimilarityFn = euclidean_distance,
    where: Where | None = None,
) -> Array:
    """Computes the triplet loss of all positive pairs with the closest negative farther away.

        mean over pairs (i, j) of one label of max(d_ij - n_ij + margin, 0)
        n_ij = the smallest d_ik > d_ij over negatives k; if there is none, the largest d_ik

    Without any negative `n_ij` is 0, without any positive pair the loss. O(n² log n).

    >>> embeddings = jnp.array([[0.0], [1.0], [5.0], [7.0]])
    >>> batch_semi_hard_triplet_loss(embeddings, labels=jnp.array([0, 0, 1, 1]))
    Array(1.75, dtype=float32)
    """
    check_not_negative(margin=margin)
    distances, positives, negatives, _ = _pairs(embeddings, labels, distance_fn, where)

    def find(row):
        """The negative of each pair (i, j): the first of equals."""
        distances, negatives = row
        far = jnp.where(negatives, distances, jnp.inf)
        far_sorted = sort(far)
        place = jnp.searchsorted(far_sorted, far, side="left")
        index = jnp.arange(far.size, dtype=place.dtype)
        at_place = jnp.full_like(index, far.size).at[place].min(index)
        beyond = jnp.searchsorted(far_sorted, distances, side="right")
        farthest = jnp.argmax(jnp.where(negatives, distances, -jnp.inf)).astype(place.dtype)
        is_beyond = beyond < jnp.sum(negatives, dtype=place.dtype)
        return jnp.where(is_beyond, at_place[jnp.minimum(beyond, far.size - 1)], farthest)

    chosen = lax.map(find, (lax.stop_gradient(distances), negatives), batch_size=BLOCK)
    negative = jnp.take_along_axis(distances, chosen, axis=1)
    negative = jnp.where(jnp.any(negatives, axis=1, keepdims=True), negative, 0)
    values = jnp.maximum(distances - negative + margin, 0)
    pairs = jnp.sum(positives, dtype=values.dtype)
    # 0 · distance instead of 0, so that a distance that is not a number shows in the loss.
    return jnp.sum(jnp.where(positives, values, 0 * distances)) / jnp.maximum(pairs, 1)


@takes_columns
def batch_all_triplet_loss(
    embeddings: Embeddings,
    *,
    labels: Labels,
    margin: Scalar = 5.0,
    distance_fn: SimilarityFn = euclidean_distance,
    where: Where | None = None,
) -> Array:
    """Computes the mean over all triplets of the batch that violate the margin.

        t_ijk = d_ij - d_ik + margin,    j a positive and k a negative of i
        Σ max(t, 0) / #{t > 0}

    The number of such triplets is a constant to the gradient. The triplets are never formed: given
    how many of them each distance takes part in, both sums run over pairs. O(n² log n).

    >>> embeddings = jnp.array([[0.0], [1.0], [5.0], [7.0]])
    >>> batch_all_triplet_loss(embeddings, labels=jnp.array([0, 0, 1, 1]))
    Array(1.8, dtype=float32)
    """
    check_not_negative(margin=margin)
    distances, positives, negatives, _ = _pairs(embeddings, labels, distance_fn, where)
    constant = lax.stop_gradient(distances)

    def count(row):
        """How often each distance is in a triplet that passes its gradient on, less as d_ik."""
        distances, positives, negatives = row
        far = jnp.where(negatives, distances, jnp.inf)
        near = jnp.where(positives, distances + margin, -jnp.inf)
        far_sorted, near_sorted = sort(far), sort(near)
        within = jnp.searchsorted(far_sorted, near, side="right")
        beyond = far.size - jnp.searchsorted(near_sorted, far, side="left")
        counts = jnp.where(positives, within, jnp.where(negatives, -beyond, 0))
        violations = jnp.where(positives, jnp.searchsorted(far_sorted, near, side="left"), 0)
        return counts.astype(distances.dtype), jnp.sum(violations, dtype=distances.dtype)

    counts, violations = lax.map(count, (constant, positives, negatives), batch_size=BLOCK)
    reach = distances + jnp.where(positives, margin, 0)
    return jnp.sum(counts * reach) / jnp.maximum(jnp.sum(violations), 1)


def _pairs(
    embeddings: Embeddings, labels: Labels, distance_fn: SimilarityFn, where: Where | None
) -> Pairs:
    check_integers(labels=labels)
    check_shape(embeddings.shape[:1], labels=labels, where=where)
    (embeddings,) = clean(where, embeddings)
    n = embeddings.shape[0]
    real = jnp.ones(n, bool) if where is None else where
    itself = jnp.eye(n, dtype=bool)
    both = real[:, None] & real[None, :]
    same = labels[:, None] == labels[None, :]
    distances = jnp.where(itself, 0, distance_fn(embeddings, embeddings))
    return Pairs(distances, both & same & ~itself, both & ~same, real[None, :])


def _hardest(pairs: Pairs) -> tuple[Values, Values]:
    """Finds the distances of the farthest positive and the closest negative of every row.

    Rows that are no negatives, the anchor too, are lifted by the row's greatest distance instead of
    left out: it decides value and gradient where an anchor has no negative.
    """
    distances, positives, negatives, real = pairs
    farthest_positive = first_max(jnp.where(positives, distances, 0), real)
    farthest = first_max(distances, real)[:, None]
    lifted = distances + jnp.where(negatives, 0, farthest)
    return farthest_positive, -first_max(-lifted, real)
