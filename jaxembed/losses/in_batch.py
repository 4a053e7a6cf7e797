"""The in-batch engine: every row against the candidates that the other rows of the batch provide.

An in-batch loss is a reduction over rows of a function of (row, all candidates). `gather` builds
the rows and the two sets of candidates from the arguments that all these losses share; a loss
states its logits, and takes its masks from `negatives`:

- `where [n]`: False rows are no anchors and no candidates. `negatives_where [n k]`: the same for
  single negatives.
- `ids [n 2]`, `anchor_ids [n 2]`, `negative_ids [n k 2]`: the two words of a 64-bit hash of the
  positive's, the anchor's and the negatives' text. A candidate with the id of the row's own
  positive is no negative, nor is the positive (or the anchor) of a row with the same anchor: one
  query, two right answers.
- `false_negative_margin`: a candidate whose similarity exceeds that of the own positive by more is
  no negative.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int, UInt32

from jaxembed.losses.arguments import check_shape, check_shapes, clean
from jaxembed.typing import Embeddings, Ids, NegativeIds, Negatives, NegativesWhere, Scalar, Where


class Rows(NamedTuple):
    """The rows of which the loss is computed."""

    anchors: Float[Array, "n d"]
    positives: Float[Array, "n d"]
    index: Int[Array, " n"]
    ids: UInt32[Array, "n 2"] | None
    anchor_ids: UInt32[Array, "n 2"] | None


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
    ids: Ids | None = None,
    anchor_ids: Ids | None = None,
    negative_ids: NegativeIds | None = None,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
) -> tuple[Rows, Candidates, Candidates]:
    """Builds the rows and two sets of candidates: anchors `[n]`, documents `[n + n k]`.

    The documents are all positives and behind them all negatives.

    Raises:
        ValueError: shapes do not agree, masks or ids of negatives without negatives, or `ids`
            without `negative_ids` where there are negatives.
    """
    n = anchors.shape[0]
    check_shapes("anchors", anchors=anchors, positives=positives)
    check_shape((n,), where=where)
    check_shape((n, 2), ids=ids, anchor_ids=anchor_ids)
    anchors, positives = clean(where, anchors, positives)
    index = jnp.arange(n)
    real = jnp.ones(n, bool) if where is None else where
    rows = Rows(anchors, positives, index, ids, anchor_ids)
    queries = Candidates(anchors, index, jnp.ones(n, bool), real, ids, anchor_ids)
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
        embeddings=jnp.concatenate([positives, negatives.reshape(n * k, d)]),
        owner=jnp.concatenate([index, jnp.repeat(index, k)]),
        paired=jnp.arange(n + n * k) < n,
        real=jnp.concatenate([real, negatives_real.reshape(-1)]),
        ids=None
        if ids is None or negative_ids is None
        else jnp.concatenate([ids, negative_ids.reshape(n * k, 2)]),
        anchor_ids=None
        if anchor_ids is None
        else jnp.concatenate([anchor_ids, jnp.repeat(anchor_ids, k, axis=0)]),
    )
    return rows, queries, documents


def own(rows: Rows, candidates: Candidates) -> Bool[Array, "n m"]:
    """Says which candidates the row itself brought."""
    return rows.index[:, None] == candidates.owner[None, :]


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


def not_closer(
    similarities: Float[Array, "n m"],
    positive: Float[Array, " n"],
    false_negative_margin: Scalar | None,
) -> Bool[Array, "n m"] | bool:
    """Says which candidates are not more similar than the own positive plus the margin."""
    if false_negative_margin is None:
        return True
    # Negated, so that what is not a number stays and shows.
    return lax.stop_gradient(~(similarities > (positive + false_negative_margin)[:, None]))


def pick(matrix: Float[Array, "n m"], mask: Bool[Array, "n m"]) -> Float[Array, " n"]:
    """Takes the one entry of each row that the mask marks.

    Its gradient joins that of the softmax before any matrix product, which keeps the digits of `p -
    1`.
    """
    return jnp.sum(jnp.where(mask, matrix, 0), axis=1)


def logsumexp(*blocks: Float[Array, "n _"]) -> Float[Array, " n"]:
    """Computes `log sum exp` over the columns of all blocks together, without joining them.

    A row that holds only `-inf` gives `-inf` with gradient 0.
    """
    highest = jnp.stack([jnp.max(block, axis=1, initial=-jnp.inf) for block in blocks]).max(axis=0)
    highest = lax.stop_gradient(jnp.where(jnp.isfinite(highest), highest, 0))
    exponentials = sum(jnp.sum(jnp.exp(block - highest[:, None]), axis=1) for block in blocks)
    none = exponentials == 0
    return jnp.where(none, -jnp.inf, jnp.log(jnp.where(none, 1, exponentials)) + highest)


def equal(left: UInt32[Array, "n 2"], right: UInt32[Array, "m 2"]) -> Bool[Array, "n m"]:
    """Compares all pairs of ids."""
    return (left[:, None, 0] == right[None, :, 0]) & (left[:, None, 1] == right[None, :, 1])
