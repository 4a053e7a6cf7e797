"""Exact nearest-neighbour search that never holds the scores of all queries with all documents."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int, Num

from jaxembed.similarity import cosine, dot

Similarity = Literal["cosine", "dot"]
SIMILARITIES = {"cosine": cosine, "dot": dot}


def top_k_search(
    queries: Num[Array | np.ndarray, "q d"],
    corpus: Num[Array | np.ndarray, "c d"],
    *,
    k: int,
    similarity: Similarity = "cosine",
    query_block: int = 1024,
    corpus_block: int = 8192,
) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """Finds the `k` most similar rows of `corpus` for every query, best first.

    The corpus stays in host memory. One block of it at a time visits the device and meets all
    queries, block by block; each query keeps its best `k` so far. So the device holds the queries,
    the blocks on their way, and `[query_block corpus_block]` scores. Few programs are compiled: the
    last block is filled up and masked, and an array smaller than a block takes a power of two.

    Equal scores rank in corpus order. Products are full float32, also on TPUs and GPUs, whose
    default is less.

    Args:
        queries: `[q d]`, finite; any float or integer type, compared in float32.
        corpus: `[c d]`, finite.
        k: How many to find. More than the corpus has is allowed, see below.
        similarity: "cosine" or "dot".
        query_block: Queries compared at a time.
        corpus_block: Documents compared at a time.

    Returns:
        `(scores, indices)`, float32 and int32, both `[q k]` in descending order of the score. If
        `k > c`, the last `k - c` columns are -inf and -1.

    Raises:
        ValueError: An array is empty or has not two axes, `d` differs, a number is below 1, or the
            similarity is unknown.

    >>> scores, indices = top_k_search(
    ...     np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [3.0, 0.0], [3.0, 4.0]]), k=2
    ... )
    >>> indices
    array([[1, 2]], dtype=int32)
    """
    check(queries, corpus, similarity, k=k, query_block=query_block, corpus_block=corpus_block)
    queries, corpus = np.asarray(queries), np.asarray(corpus)
    query_blocks = [block for block, _ in blocks(queries, query_block)]
    rows = len(query_blocks[0])
    nothing = np.full((rows, k), -np.inf, np.float32), np.full((rows, k), -1, np.int32)
    best = [jax.device_put(nothing)] * len(query_blocks)
    for documents, indices in blocks(corpus, corpus_block):
        best = [
            merge(found, block, documents, indices, similarity=similarity)
            for found, block in zip(best, query_blocks, strict=True)
        ]
    scores, indices = zip(*jax.device_get(best), strict=True)
    return np.concatenate(scores)[: len(queries)], np.concatenate(indices)[: len(queries)]


@partial(jax.jit, static_argnames="similarity")
def merge(
    best: tuple[Float[Array, "n k"], Int[Array, "n k"]],
    queries: Float[Array, "n d"],
    documents: Float[Array, "m d"],
    indices: Int[Array, " m"],
    *,
    similarity: Similarity,
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """Computes the best `k` of the best so far and a block of documents; index -1 is no document.

    `lax.top_k` puts the first of equal scores first, so older finds stand before the block.
    """
    found_scores, found_indices = best
    k = found_scores.shape[1]
    with jax.default_matmul_precision("highest"):
        scores = SIMILARITIES[similarity](queries, documents)
    scores = jnp.where(indices[None] >= 0, scores, -jnp.inf)  # [n, m]
    scores, columns = lax.top_k(scores, min(k, scores.shape[1]))
    scores = jnp.concatenate([found_scores, scores], axis=1)  # [n, up to 2k]
    candidates = jnp.concatenate([found_indices, indices[columns]], axis=1)
    scores, columns = lax.top_k(scores, k)
    return scores, jnp.take_along_axis(candidates, columns, axis=1)


def blocks(rows: np.ndarray, size: int) -> Iterator[tuple[Array, Array]]:
    """Yields blocks of one size with the index of each row; zeros with index -1 fill the last."""
    size = min(size, 1 << (len(rows) - 1).bit_length())
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        block, indices = np.zeros((size, rows.shape[1]), np.float32), np.full(size, -1, np.int32)
        block[: len(part)], indices[: len(part)] = part, np.arange(start, start + len(part))
        yield jax.device_put((block, indices))


def check(
    queries: Array | np.ndarray, corpus: Array | np.ndarray, similarity: str, **counts: int
) -> None:
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        raise ValueError(
            f"queries and corpus must be [q d] and [c d] with the same d, "
            f"got {list(queries.shape)} and {list(corpus.shape)}"
        )
    if len(queries) == 0 or len(corpus) == 0:
        raise ValueError(
            f"a search needs at least one query and one document, "
            f"got {len(queries)} and {len(corpus)}"
        )
    check_similarity(similarity)
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def check_similarity(similarity: str) -> None:
    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity must be one of {sorted(SIMILARITIES)}, got {similarity!r}")
