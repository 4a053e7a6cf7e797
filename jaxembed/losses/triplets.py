"""The triplet loss: an anchor should be closer to its positive than to its negative."""

from __future__ import annotations

import jax
from jax import Array
from jaxtyping import Float

from jaxembed.losses.arguments import (
    check_not_negative,
    check_shape,
    check_shapes,
    clean,
    takes_columns,
)
from jaxembed.losses.reduction import mean, reduce
from jaxembed.losses.teacher_scores import mean_of_candidates, real_rows_and_candidates
from jaxembed.similarity import paired_euclidean_distance
from jaxembed.typing import Embeddings, NegativesWhere, PairedFn, ReduceFn, Scalar, Where


@takes_columns
def triplet_loss(
    anchors: Embeddings,
    positives: Embeddings,
    negatives: Float[Array, "n d"] | Float[Array, "n k d"],
    *,
    margin: Scalar = 5.0,
    distance_fn: PairedFn = paired_euclidean_distance,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes by how much each positive fails to be closer than the negative by the margin.

        value_i = mean_k max(d(a_i, p_i) - d(a_i, n_ik) + margin, 0)

    Args:
        margin: in units of the distance. The default suits Euclidean distances of embeddings that
            are not normalised; unit vectors are 2 apart at most and want some 0.2.
        distance_fn: `paired_euclidean_distance`, `paired_manhattan_distance`,
            `paired_cosine_distance`, `paired_dot_distance` of `jaxembed.similarity`, or another.

    Raises:
        ValueError: shapes that do not agree, or a margin below 0.

    Source: Schroff, Kalenichenko and Philbin, FaceNet: A Unified Embedding for Face Recognition and
    Clustering, 2015 (there with squared distances).

    >>> anchors, positives = jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]])
    >>> triplet_loss(anchors, positives, jnp.array([[0.0, 8.0]]))
    Array(2., dtype=float32)
    """
    check_not_negative(margin=margin)
    check_shapes("anchors", anchors=anchors, positives=positives)
    n, d = anchors.shape
    single = negatives.shape == anchors.shape
    if not single and (negatives.ndim != 3 or negatives.shape[::2] != (n, d)):
        raise ValueError(f"negatives must be [{n} {d}] or [{n} k {d}]; got {negatives.shape}")
    check_shape((n,), where=where)
    check_shape((n, 1) if single else negatives.shape[:2], negatives_where=negatives_where)
    rows, real = real_rows_and_candidates(where, negatives_where)
    anchors, positives = clean(rows, anchors, positives)
    (negatives,) = clean(rows if single else real, negatives)
    far = distance_fn(anchors if single else anchors[:, None], negatives)
    far = far[:, None] if single else far  # [n k]
    violations = jax.nn.relu(distance_fn(anchors, positives)[:, None] - far + margin)
    return reduce(mean_of_candidates(violations, real), rows, reduce_fn)
