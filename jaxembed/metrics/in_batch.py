"""How well the rows of a batch find their own positives: what to watch beside an in-batch loss."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from jaxembed.similarity import dot, unit
from jaxembed.typing import Embeddings, Where


def in_batch_accuracy(
    anchors: Embeddings,
    positives: Embeddings,
    *,
    where: Where | None = None,
    block_size: int | None = None,
) -> Float[Array, ""]:
    """Computes the share of rows i for which `argmax_j cosine(anchor_i, positive_j) = i`.

    Chance level is 1/n, also for a collapsed model: of equally similar positives the first counts.

    Args:
        anchors: `[n d]`.
        positives: `[n d]`, row i belonging to anchor i.
        where: True = a real row. A False row is no anchor and no candidate, whatever it holds.
        block_size: Rows compared at a time, O(block_size · n) memory; `None` compares all at once.
            Leave it `None` for rows sharded over a mesh: blocks would gather them on every device.

    Returns:
        A float32 scalar, 0 if no row is real. No gradient flows through it.

    >>> in_batch_accuracy(jnp.eye(2), jnp.array([[1.0, 0.2], [0.9, 0.3]]))
    Array(1., dtype=float32)
    """
    if anchors.shape != positives.shape:
        raise ValueError(
            f"anchors and positives are rows of pairs and must have one shape, "
            f"got {anchors.shape} and {positives.shape}"
        )
    n = anchors.shape[0]
    real = jnp.ones(n, bool) if where is None else where
    anchors, positives = lax.stop_gradient((unit(anchors), unit(positives)))

    def finds_its_own(row: tuple[Array, Array]) -> Array:
        index, anchor = row
        scores = jnp.where(real, dot(anchor[None], positives)[0], -jnp.inf)  # [n]
        return jnp.argmax(scores) == index

    found = lax.map(finds_its_own, (jnp.arange(n), anchors), batch_size=block_size or n)
    n_real = jnp.sum(real, dtype=jnp.float32)
    return jnp.sum(found & real, dtype=jnp.float32) / jnp.maximum(n_real, 1)
