"""Global orthogonal regularisation: the embeddings of different texts should be spread out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxembed.losses.arguments import check_not_negative, check_shape, clean, is_zero, takes_columns
from jaxembed.losses.in_batch import equal
from jaxembed.similarity import cosine
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
    n, d = embeddings.shape
    check_shape((n,), where=where)
    check_shape((n, 2), ids=ids)
    (embeddings,) = clean(where, embeddings)
    keep = ~jnp.eye(n, dtype=bool)
    if where is not None:
        keep &= where[:, None] & where[None, :]
    if ids is not None:
        keep &= ~equal(ids, ids)
    similarities = jnp.where(keep, similarity_fn(embeddings, embeddings), 0)
    pairs = jnp.maximum(jnp.sum(keep, dtype=similarities.dtype), 1)
    first_moment = jnp.sum(similarities) / pairs
    second_moment = jnp.sum(jnp.square(similarities)) / pairs
    spread = jax.nn.relu(second_moment - 1 / d)
    return jnp.square(first_moment) * mean_weight + spread * second_moment_weight
