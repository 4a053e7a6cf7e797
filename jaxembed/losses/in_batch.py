"""The in-batch losses: every row against the candidates that the other rows of the batch provide.

An in-batch loss is a reduction over rows of a function of (row, all candidates). `gather` builds
the rows and the two sets of candidates from the arguments that all these losses share; a loss
states its logits, takes its masks from `negatives`, and leaves the rest to
`jaxembed.losses.streaming.reduce_over_candidates`:

- `where [n]`: False rows are no anchors and no candidates. `negatives_where [n k]`: the same for
  single negatives.
- `ids [n 2]`, `anchor_ids [n 2]`, `negative_ids [n k 2]`: the two words of a 64-bit hash of the
  positive's, the anchor's and the negatives' text. A candidate with the id of the row's own
  positive is no negative, nor is the positive (or the anchor) of a row with the same anchor: one
  query, two right answers.
- `false_negative_margin`: a candidate whose similarity exceeds that of the own positive by more is
  no negative.
- `block_size`: so many rows at a time are compared with all candidates, and their gradients taken
  at once. Memory is O(block_size m) and not O(n m); values and gradients are the same.
- `axis_name`: inside `jax.shard_map`, the mesh axis over which the rows are spread: every device
  has the loss of them all. `jaxembed.transforms.over_mesh` does all of that for arrays of a mesh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int, UInt32

from jaxembed.losses.across import across_of
from jaxembed.losses.arguments import check_shape, check_shapes, clean
from jaxembed.losses.blocks import Constant, into_blocks, out_of_blocks
from jaxembed.mesh_axes import Axis
from jaxembed.similarity import as_float32
from jaxembed.typing import (
    Embeddings,
    Ids,
    NegativeIds,
    Negatives,
    NegativesWhere,
    Scalar,
    SimilarityFn,
    Where,
)

ROUNDING = 16  # units in the last place by which equal similarities may differ


class Rows(NamedTuple):
    """The rows of which the loss is computed, as they came: see `prepared`."""

    anchors: Float[Array, "n d"]
    positives: Float[Array, "n d"] | None
    index: Int[Array, " n"]
    real: Bool[Array, " n"] | None
    ids: UInt32[Array, "n 2"] | None
    anchor_ids: UInt32[Array, "n 2"] | None
    limit: Constant | None = None  # [n], of the similarity to a negative


class Candidates(NamedTuple):
    """What a row is compared with: the anchors of the batch, or its positives and negatives."""

    embeddings: Float[Array, "m d"]
    owner: Int[Array, " m"]  # the row that brought it
    paired: Bool[Array, " m"]  # is the owner's anchor or positive; False: one of its negatives
    real: Bool[Array, " m"]
    ids: UInt32[Array, "m 2"] | None
    anchor_ids: UInt32[Array, "m 2"] | None  # of the owner


def gather(
    anchors: Embeddings,
    positives: Embeddings,
    negatives: Negatives | None = None,
    *,
    prepare: Callable[[Array], Array] = as_float32,
    ids: Ids | None = None,
    anchor_ids: Ids | None = None,
    negative_ids: NegativeIds | None = None,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    axis_name: Axis | None = None,
) -> tuple[Rows, Candidates, Candidates]:
    """Builds the rows and two sets of candidates: anchors `[n]`, documents `[n + n k]`.

    The documents are all positives and behind them all negatives. Over an axis both are those of
    this device; the rows of all devices are numbered through. `prepare` is applied to the
    candidates.

    Raises:
        ValueError: shapes do not agree, masks or ids of negatives without negatives, or `ids`
            without `negative_ids` where there are negatives.
    """
    n = anchors.shape[0]
    check_shapes("anchors", anchors=anchors, positives=positives)
    check_shape((n,), where=where)
    check_shape((n, 2), ids=ids, anchor_ids=anchor_ids)
    index = across_of(axis_name).index * n + jnp.arange(n, dtype=jnp.int32)
    real = jnp.ones_like(index, bool) if where is None else where
    rows = Rows(as_float32(anchors), as_float32(positives), index, where, ids, anchor_ids)
    anchors, positives = map(prepare, clean(where, anchors, positives))
    paired = jnp.ones_like(index, bool)
    queries = Candidates(anchors, index, paired, real, ids, anchor_ids)
    documents = queries._replace(embeddings=positives)
    if negatives is None:
        for name, value in (("negatives_where", negatives_where), ("negative_ids", negative_ids)):
            if value is not None:
                raise ValueError(f"{name} needs negatives [n k d]; got none")
        return rows, queries, documents

    d = anchors.shape[1]
    if negatives.ndim != 3 or negatives.shape[::2] != (n, d):
        raise ValueError(f"negatives must be [{n} k {d}]; got {negatives.shape}")
    k = negatives.shape[1]
    check_shape((n, k), negatives_where=negatives_where)
    check_shape((n, k, 2), negative_ids=negative_ids)
    if (ids is None) != (negative_ids is None):
        raise ValueError("with negatives, ids and negative_ids go together; got one of them")
    negatives_real = jnp.repeat(real, k).reshape(n, k)
    if negatives_where is not None:
        negatives_real &= negatives_where
    (negatives,) = clean(negatives_real, negatives)
    documents = Candidates(
        embeddings=jnp.concatenate([positives, prepare(negatives).reshape(n * k, d)]),
        owner=jnp.concatenate([index, jnp.repeat(index, k)]),
        paired=jnp.concatenate([paired, jnp.zeros_like(negatives_real).reshape(-1)]),
        real=jnp.concatenate([real, negatives_real.reshape(-1)]),
        ids=None
        if ids is None or negative_ids is None
        else jnp.concatenate([ids, negative_ids.reshape(n * k, 2)]),
        anchor_ids=None
        if anchor_ids is None
        else jnp.concatenate([anchor_ids, jnp.repeat(anchor_ids, k, axis=0)]),
    )
    return rows, queries, documents


def prepared(rows: Rows, prepare: Callable[[Array], Array]) -> Rows:
    """Cleans and prepares the embeddings of rows; block by block, all of them are never copied."""

    def one(x):
        return None if x is None else prepare(*clean(rows.real, x))

    return rows._replace(anchors=one(rows.anchors), positives=one(rows.positives))


def limited(
    rows: Rows,
    prepare: Callable[[Array], Array],
    similarity_fn: SimilarityFn,
    false_negative_margin: Scalar | None,
) -> Rows:
    """Limits the similarity to negatives to that to the own positive plus the margin."""
    if false_negative_margin is None:
        return rows
    positive = with_own_positive(prepared(rows, prepare), similarity_fn)
    return rows._replace(limit=Constant(lax.stop_gradient(positive + false_negative_margin)))


def with_own_positive(
    rows: Rows, similarity_fn: SimilarityFn, tile: int = 128
) -> Float[Array, " n"]:
    """Computes the similarity of the anchor and the positive of prepared rows.

    As an entry of a matrix, so that a positive and its duplicate elsewhere are equally similar.
    """
    n = rows.index.size
    tiles = into_blocks((rows.anchors, rows.positives), tile)
    matrices = jax.vmap(similarity_fn)(*tiles)
    return out_of_blocks(jnp.diagonal(matrices, axis1=1, axis2=2), n)


def own(rows: Rows, candidates: Candidates) -> Bool[Array, "n m"]:
    """Says which candidates the row itself brought."""
    return rows.index[:, None] == candidates.owner[None, :]


def own_column(rows: Rows, candidates: Candidates) -> Int[Array, " n"]:
    """Returns where among the candidates the row's own anchor or positive is; -1: not there."""
    column = rows.index - candidates.owner[:1]
    inside = jnp.clip(column, 0, candidates.owner.size - 1)
    there = (candidates.owner[inside] == rows.index) & candidates.paired[inside]
    return jnp.where(there & (column == inside), column, -1)


def negatives(rows: Rows, candidates: Candidates) -> Bool[Array, "n m"]:
    """Says which candidates are real and known by no id to be right for the row.

    Without ids this is True for the row's own; a loss keeps or drops those by `own`.
    """
    keep = candidates.real[None, :]
    if rows.ids is not None and candidates.ids is not None:
        keep &= ~equal(rows.ids, candidates.ids)
    if rows.anchor_ids is not None and candidates.anchor_ids is not None:
        keep &= ~(equal(rows.anchor_ids, candidates.anchor_ids) & candidates.paired[None, :])
    return jnp.broadcast_to(keep, (rows.index.size, candidates.owner.size))


def not_closer(similarities: Float[Array, "n m"], rows: Rows) -> Bool[Array, "n m"] | bool:
    """Says which candidates are not more similar than the row's limit, by more than rounding.

    The own positive and a duplicate of it elsewhere come from products of different shapes, whose
    last digits differ.
    """
    if rows.limit is None:
        return True
    limit = rows.limit.value
    rounding = ROUNDING * jnp.finfo(limit.dtype).eps * jnp.maximum(jnp.abs(limit), 1)
    # Negated, so that what is not a number stays and shows.
    return ~(lax.stop_gradient(similarities) > (limit + rounding)[:, None])


def equal(left: UInt32[Array, "n 2"], right: UInt32[Array, "m 2"]) -> Bool[Array, "n m"]:
    """Compares all pairs of ids."""
    return (left[:, None, 0] == right[None, :, 0]) & (left[:, None, 1] == right[None, :, 1])
