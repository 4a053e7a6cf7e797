"""Similarities of given pairs of texts, for evaluators that compare no others."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import jax
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from jaxembed.evaluators.protocols import EmbedFn, Role, embed_texts
from jaxembed.evaluators.similarity import PAIRED_SIMILARITIES
from jaxembed.search import Similarity


def embed_distinct(
    embed: EmbedFn, texts: Iterable[str], *, role: Role | None
) -> tuple[np.ndarray, Int[np.ndarray, " n"]]:
    """Embeds each distinct text once; text i has the embedding at `rows[i]`."""
    distinct: dict[str, int] = {}
    rows = np.array([distinct.setdefault(text, len(distinct)) for text in texts])
    return embed_texts(embed, list(distinct), role=role), rows


def pair_scores(
    left: np.ndarray,
    right: np.ndarray,
    left_rows: Int[np.ndarray, " n"],
    right_rows: Int[np.ndarray, " n"],
    *,
    similarity: Similarity,
    block: int = 8192,
) -> Float[np.ndarray, " n"]:
    """Computes the similarity of `left[left_rows[i]]` and `right[right_rows[i]]`.

    The embeddings stay in host memory, and `block` pairs at a time visit the device. One program is
    compiled for all blocks: the last is filled up; fewer pairs than a block take a power of two.
    """
    if left.shape[1] != right.shape[1]:
        raise ValueError(
            f"queries and documents must be embedded to one width, "
            f"got {left.shape[1]} and {right.shape[1]}"
        )
    n = len(left_rows)
    block = min(block, 1 << (n - 1).bit_length())
    scores = np.empty(n, np.float32)
    for start in range(0, n, block):
        part = np.minimum(np.arange(start, start + block), n - 1)
        pair = left[left_rows[part]], right[right_rows[part]]
        found = paired(*jax.device_put([x.astype(np.float32) for x in pair]), similarity=similarity)
        scores[start : start + block] = np.asarray(found)[: n - start]
    return scores


@partial(jax.jit, static_argnames="similarity")
def paired(
    left: Float[Array, "n d"], right: Float[Array, "n d"], *, similarity: Similarity
) -> Float[Array, " n"]:
    return PAIRED_SIMILARITIES[similarity](left, right)
