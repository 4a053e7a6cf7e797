"""Global orthogonal regularisation: the embeddings of different texts should be spread out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxembed.losses.arguments import check_not_negative, is_zero, takes_columns
from jaxembed.losses.in_batch import gather, negatives, own, prepared
from jaxembed.losses.over_candidates import Total
from jaxembed.losses.streaming import reduce_over_candidates
from jaxembed.mesh_axes import Axis
from jaxembed.similarity import cosine, factored
from jaxembed.typing import Embeddings, Ids, Scalar, SimilarityFn, Where


@takes_columns
def global_orthogonal_regularization_loss(
    embeddings: Embeddings,
    *,
    ids: Ids | None = None,
    mean_weight: Scalar = 1.0,
    second_moment_weight: Scalar = 1.0,
    similarity_fn: SimilarityFn = cosine,
    where: Where | None = None,
    block_size: int | None = None,
    axis_name: Axis | None = None,
) -> Array:
    """Computes how far the similarities of different rows are from those of random directions.

        mean_weight (mean s)² + second_moment_weight max(mean s² - 1/d, 0),    s = sim(x_i, x_j)

    over all pairs i ≠ j. Random unit vectors have mean 0 and second moment 1/d. It is added to
    another loss; several columns are the caller's to add or average.

    Args:
        ids: hashes of the texts; pairs of the same text are left out.

    Raises:
        ValueError: shapes that do not agree, a weight below 0, or both weights 0.

    Source: Zhang et al., Learning Spread-out Local Feature Descriptors, 2017.

    >>> global_orthogonal_regularization_loss(jnp.array([[1.0, 0.0], [0.6, 0.8]])).round(4)
    Array(0.36, dtype=float32)
    """
    check_not_negative(mean_weight=mean_weight, second_moment_weight=second_moment_weight)
    if is_zero(mean_weight) and is_zero(second_moment_weight):
        raise ValueError("mean_weight and second_moment_weight must not both be 0; got 0 and 0")
    prepare, similarity = factored(similarity_fn)
    rows, texts, _ = gather(
        embeddings, embeddings, prepare=prepare, ids=ids, where=where, axis_name=axis_name
    )

    def parts(rows, texts):
        rows = prepared(rows, prepare)
        similarities = similarity(rows.anchors, texts.embeddings)  # [n m]
        keep = negatives(rows, texts) & ~own(rows, texts)
        count = Total(jnp.ones_like(similarities), keep)
        return Total(similarities, keep), Total(jnp.square(similarities), keep), count

    def regularization(sums, _, mean_weight, second_moment_weight):
        first, second, pairs = jnp.sum(sums, axis=0)
        pairs = jnp.maximum(pairs, 1)
        spread = jax.nn.relu(second / pairs - 1 / embeddings.shape[1])
        return jnp.square(first / pairs) * mean_weight + spread * second_moment_weight

    return reduce_over_candidates(
        parts,
        lambda sums: jnp.stack(sums, axis=1),
        rows._replace(positives=None),
        texts,
        where=where,
        reduce_fn=regularization,
        reduce_numbers=(mean_weight, second_moment_weight),
        block_size=block_size,
        axis_name=axis_name,
    )
