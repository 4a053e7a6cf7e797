"""Exact nearest-neighbour search that never holds the scores of all queries with all documents."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int, Num

from jaxembed.calls import checks_call
from jaxembed.similarity import cosine, dot, euclidean, manhattan

Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]


def euclidean_from_first(queries: Array, documents: Array) -> Array:
    """Computes `-|x_i - y_j|` with the first document as origin.

    What all vectors have in common would otherwise take the digits of the distances.
    """
    return euclidean(queries - documents[:1], documents - documents[:1])


SIMILARITIES = {
    "cosine": cosine,
    "dot": dot,
    "euclidean": euclidean_from_first,
    "manhattan": manhattan,
}

OVER_DEVICES, EVERYWHERE = PartitionSpec("queries"), PartitionSpec()


class Stored(Protocol):
    """Vectors `[n d]` of which slices of rows can be read, as of an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


@checks_call
def top_k_search(
    queries: Num[Array | np.ndarray, "q d"] | Stored,
    corpus: Num[Array | np.ndarray, "c d"] | Stored,
    *,
    k: int,
    similarity: Similarity = "cosine",
    query_block: int = 512,
    corpus_block: int = 4096,
    exclude: Int[np.ndarray, "q e"] | None = None,
) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """Finds the `k` most similar rows of `corpus` for every query, best first.

    All devices of this process share the queries. The corpus stays where it is: one block of it at
    a time visits every device, the next one on its way, and meets the device's queries, block by
    block; each query keeps its best `k` so far. So a device holds its queries, three blocks of the
    corpus, and twice `[query_block corpus_block]` scores for each of the two comparisons under way.
    Nothing of a `np.memmap` is copied but blocks. Few programs are compiled: the last block is
    filled up and masked, and an array smaller than a block takes a power of two.

    Equal scores rank in corpus order. Products are full float32, also on TPUs and GPUs, whose
    default is less. Euclidean distances come from such products: of vectors that nearly touch they
    have an error of up to `3e-4` of the distance to the block's first document. Manhattan distances
    are sums of differences, exact and slower.

    Args:
        queries: `[q d]`, finite; any float or integer type, compared in float32.
        corpus: `[c d]`, finite.
        k: How many to find. More than the corpus has is allowed, see below.
        similarity: "cosine", "dot", or the negative distance "euclidean" or "manhattan".
        query_block: Queries that a device compares at a time.
        corpus_block: Documents that they are compared with.
        exclude: Rows of the corpus that are not to be found for a query; -1 is none.

    Returns:
        `(scores, indices)`, float32 and int32, both `[q k]` in descending order of the score. If
        fewer than `k` rows may be found, the last columns are -inf and -1.

    Raises:
        ValueError: An array is empty or has not two axes, `d` differs, a number is below 1,
            `exclude` is not of these queries or rows, the similarity is unknown, or a vector of
            NaN is found.

    >>> queries, corpus = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [3.0, 0.0], [3.0, 4.0]])
    >>> top_k_search(queries, corpus, k=2)[1]
    array([[1, 2]], dtype=int32)
    >>> top_k_search(queries, corpus, k=2, exclude=np.array([[1]]))[1]
    array([[2, 0]], dtype=int32)
    """
    check(queries, corpus, similarity, k=k, query_block=query_block, corpus_block=corpus_block)
    (n, _), (n_documents, _) = queries.shape, corpus.shape
    beyond, k = max(0, k - n_documents), min(k, n_documents)
    if exclude is None:
        exclude = np.full((n, 0), -1)
    check_exclude(exclude, n, n_documents)
    devices = jax.local_devices()
    axis = ("queries",)
    mesh = jax.make_mesh((len(devices),), axis, devices=devices, axis_types=(AxisType.Auto,))
    rows = len(devices) * min(query_block, power_of_two(-(-n // len(devices))))
    shared, everywhere = NamedSharding(mesh, OVER_DEVICES), NamedSharding(mesh, EVERYWHERE)

    nothing = np.full((rows, k), -np.inf, np.float32), np.full((rows, k), -1, np.int32)
    best = [jax.device_put(nothing, shared) for _ in range(0, n, rows)]
    query_blocks = [block for block, _, _ in blocks(queries, rows, shared)]
    excluded = [block for block, _, _ in blocks(exclude.astype(np.int32), rows, shared)]
    running = deque([(), ()])  # so many merges are under way, each with scores of its own
    size = min(corpus_block, power_of_two(n_documents))
    for documents, first, count in blocks(corpus, size, everywhere):
        for i, block in enumerate(query_blocks):
            jax.block_until_ready(running.popleft())
            best[i] = merge(
                *(best[i], block, documents, excluded[i], first, count),
                similarity=similarity,
                mesh=mesh,
            )
            running.append(best[i])
    found = jax.device_get(best)
    scores, indices = (np.concatenate(arrays)[:n] for arrays in zip(*found, strict=True))
    if len(broken := np.flatnonzero(np.isnan(scores).any(axis=1))):
        raise ValueError(f"the similarities of query {broken[0]} are NaN: vectors must be finite")
    indices = np.where(scores == -np.inf, -1, indices)
    more = ((0, 0), (0, beyond))
    return np.pad(scores, more, constant_values=-np.inf), np.pad(indices, more, constant_values=-1)


@partial(jax.jit, static_argnames=("similarity", "mesh"))
def merge(
    best: tuple[Float[Array, "n k"], Int[Array, "n k"]],
    queries: Num[Array, "n d"],
    documents: Num[Array, "m d"],
    exclude: Int[Array, "n e"],
    first: Int[Array, ""],
    count: Int[Array, ""],
    *,
    similarity: Similarity,
    mesh: Mesh,
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """Computes the best `k` of the best so far and the first `count` of a block of documents.

    `first` is the corpus row of the first document. `lax.top_k` puts the first of equal scores
    first, so older finds stand before the block. On CPUs it is fastest if it meets the best first:
    it keeps a heap, into which little of a later block goes.
    """

    def merge_share(best, queries, documents, exclude, first, count):
        found_scores, found = best
        k, m = found.shape[1], len(documents)
        with jax.default_matmul_precision("highest"):
            scores = SIMILARITIES[similarity](
                queries.astype(jnp.float32), documents.astype(jnp.float32)
            )
        scores = jnp.where(lax.iota(jnp.int32, m) < count, scores, -jnp.inf)  # [n, m]
        columns = jnp.where(exclude < first, m, exclude - first)  # m and more are no columns
        rows = lax.broadcasted_iota(jnp.int32, exclude.shape, 0)
        scores = scores.at[rows, columns].set(-jnp.inf, mode="drop")
        scores, columns = lax.top_k(jnp.concatenate([found_scores, scores], axis=1), k)
        older = jnp.take_along_axis(found, jnp.minimum(columns, k - 1), axis=1)
        return scores, jnp.where(columns < k, older, first + columns - k)

    shares = (OVER_DEVICES, OVER_DEVICES, EVERYWHERE, OVER_DEVICES, EVERYWHERE, EVERYWHERE)
    spread = jax.shard_map(merge_share, mesh=mesh, in_specs=shares, out_specs=OVER_DEVICES)
    return spread(best, queries, documents, exclude, first, count)


def blocks(
    rows: Array | np.ndarray | Stored, size: int, sharding: NamedSharding
) -> Iterator[tuple[Array, np.int32, np.int32]]:
    """Yields blocks of one size, the first row of each, and how many rows are not filled up."""
    for first in range(0, rows.shape[0], size):
        block = np.asarray(rows[first : first + size])
        if block.dtype.itemsize > 4:  # which JAX would cut
            block = block.astype(np.float32)
        count = len(block)
        if count < size:
            block = np.concatenate([block, np.zeros((size - count, block.shape[1]), block.dtype)])
        yield jax.device_put(block, sharding), np.int32(first), np.int32(count)


def power_of_two(n: int) -> int:
    """Computes the least power of two that is no less."""
    return 1 << (n - 1).bit_length()


def check(
    queries: Array | np.ndarray | Stored,
    corpus: Array | np.ndarray | Stored,
    similarity: str,
    **counts: int,
) -> None:
    for name, rows in (("queries", queries), ("corpus", corpus)):
        if not hasattr(rows, "shape"):
            raise ValueError(f"{name} must be an array of vectors; got {type(rows).__name__}")
    shapes = tuple(queries.shape), tuple(corpus.shape)
    if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            f"queries and corpus must be [q d] and [c d] with the same d, "
            f"got {list(shapes[0])} and {list(shapes[1])}"
        )
    if 0 in (shapes[0][0], shapes[1][0]):
        raise ValueError(
            f"a search needs at least one query and one document, "
            f"got {shapes[0][0]} and {shapes[1][0]}"
        )
    check_similarity(similarity)
    for name, count in counts.items():
        if not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {count!r}")


def check_exclude(exclude: np.ndarray, n_queries: int, n_documents: int) -> None:
    if exclude.dtype.kind not in "iu":
        raise ValueError(f"exclude must hold rows, as integers; got {exclude.dtype}")
    if exclude.ndim != 2 or len(exclude) != n_queries:
        raise ValueError(f"exclude must be [{n_queries} e], got {list(exclude.shape)}")
    if exclude.size and not -1 <= exclude.min() <= exclude.max() < n_documents:
        raise ValueError(
            f"exclude must hold rows of the corpus, below {n_documents}, or -1; "
            f"got {exclude.min()} to {exclude.max()}"
        )


def check_similarity(similarity: str) -> None:
    if not isinstance(similarity, str) or similarity not in SIMILARITIES:
        raise ValueError(f"similarity must be one of {sorted(SIMILARITIES)}, got {similarity!r}")
