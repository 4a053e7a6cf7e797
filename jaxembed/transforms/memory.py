"""A memory of earlier batches: their embeddings are further negatives of in-batch losses.

Late in a training embeddings drift slowly: those of the last steps stand for what the encoder would
give now, and need not be encoded again (Wang et al., Cross-Batch Memory for Embedding Learning,
2020). Where they drift, fill the memory with the embeddings of a moving average of the parameters,
`jaxembed.transforms.averaging.ema` (He et al., Momentum Contrast for Unsupervised Visual
Representation Learning, 2020).

A training step carries the memory; no gradient goes into it:

    loss(anchors, positives, ids=ids, where=where, **as_negatives(memory, n))
    memory = push(memory, positives, ids, where)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int, UInt32

from jaxembed.calls import checks_call
from jaxembed.typing import Embeddings, Ids, Where


class Memory(NamedTuple):
    """The last embeddings that were pushed, with their ids, in a ring.

    The first `count` places are filled; the next embedding goes to place `next`.
    """

    embeddings: Float[Array, "m d"]
    ids: UInt32[Array, "m 2"]
    count: Int[Array, ""]
    next: Int[Array, ""]


@checks_call
def init_memory(size: int, d: int, dtype: Any = jnp.float32) -> Memory:
    """Creates an empty memory for `size` embeddings of `d` features.

    In bfloat16 it takes half the space; losses compute in float32 all the same.

    >>> init_memory(4, 2).embeddings.shape
    (4, 2)
    """
    for name, number in (("size", size), ("d", d)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1; got {number}")
    return Memory(
        embeddings=jnp.zeros((size, d), dtype),
        ids=jnp.zeros((size, 2), jnp.uint32),
        count=jnp.zeros((), jnp.int32),
        next=jnp.zeros((), jnp.int32),
    )


@checks_call
def push(memory: Memory, embeddings: Embeddings, ids: Ids, where: Where | None = None) -> Memory:
    """Stores the rows that are real; the oldest give way. Of more rows than places the last stay.

    Rows that are not real take no place, whatever they hold. Donated to `jax.jit`, the memory is
    written in place. Push negatives `[n k d]` as `[n k, d]`, with their ids and mask.

    Args:
        ids: the two words of a 64-bit hash of each text.

    Raises:
        ValueError: shapes that do not agree, ids that are not uint32, or a mask that is not bool.

    >>> memory = init_memory(3, 1)
    >>> ids = jnp.array([[0, 7], [0, 8]], jnp.uint32)
    >>> memory = push(memory, jnp.array([[7.0], [8.0]]), ids)
    >>> memory = push(memory, jnp.array([[9.0], [jnp.nan]]), ids, jnp.array([True, False]))
    >>> memory = push(memory, jnp.array([[5.0], [6.0]]), ids)
    >>> memory.embeddings[:, 0]
    Array([5., 6., 9.], dtype=float32)
    """
    size, d = memory.embeddings.shape
    n = len(embeddings)
    _check("embeddings", embeddings, (n, d))
    _check("ids", ids, (n, 2))
    if ids.dtype != jnp.uint32:
        raise ValueError(f"ids must be uint32; got {ids.dtype}")
    real = jnp.ones(n, bool) if where is None else jnp.asarray(where)
    _check("where", real, (n,))
    if real.dtype != bool:
        raise ValueError(f"where must be booleans; got {real.dtype}")

    position = jnp.cumsum(real, dtype=jnp.int32)  # 1 for the first real row
    total = jnp.sum(real, dtype=jnp.int32)
    stays = real & (position > total - size)  # so that no place is written twice
    place = jnp.where(stays, (memory.next + position - 1) % size, size)  # size: nowhere
    stored = jnp.asarray(embeddings, memory.embeddings.dtype)
    return Memory(
        embeddings=memory.embeddings.at[place].set(stored, mode="drop"),
        ids=memory.ids.at[place].set(ids, mode="drop"),
        count=jnp.minimum(memory.count + total, size),
        next=(memory.next + total) % size,
    )


@checks_call
def as_negatives(memory: Memory, n: int) -> dict[str, Any]:
    """Returns the memory as the negatives of n rows, for the keywords of an in-batch loss.

    Every row gets an equal slice, `negatives [n k d]` with their `negative_ids` and
    `negatives_where`. Since the negatives of a row are candidates of all rows, every row is
    compared with the whole memory. Empty places are masked, and the ids keep copies of a row's own
    positive out. The slice of a row that is masked is no candidate in that batch.

    The loss needs `ids` too. Other negatives are joined along axis 1. What treats a row's own
    negatives apart, such as a triplet loss or `hardness_mode="hard_negatives"`, takes the slice for
    them.

    Raises:
        ValueError: a memory whose size is no multiple of n.

    >>> memory = push(init_memory(4, 1), jnp.array([[7.0]]), jnp.array([[0, 7]], jnp.uint32))
    >>> as_negatives(memory, 2)["negatives_where"]
    Array([[ True, False],
           [False, False]], dtype=bool)
    """
    size, d = memory.embeddings.shape
    if n < 1 or size % n:
        raise ValueError(f"the memory's size must be a multiple of the {n} rows; got {size}")
    filled = jnp.arange(size, dtype=jnp.int32) < memory.count
    return {
        "negatives": lax.stop_gradient(memory.embeddings).reshape(n, size // n, d),
        "negative_ids": memory.ids.reshape(n, size // n, 2),
        "negatives_where": filled.reshape(n, size // n),
    }


def _check(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}; got {array.shape}")
