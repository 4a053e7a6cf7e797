"""Losses of whole lists: how likely a query's scores make the order of its labels.

The arguments that all losses share are explained in `jaxembed.losses.reranking`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Real

from jaxembed.losses.arguments import check_shapes, clean, takes_columns
from jaxembed.losses.elementwise import identity, log_softmax
from jaxembed.losses.over_candidates import excess
from jaxembed.losses.reduction import mean, reduce
from jaxembed.similarity import as_float32
from jaxembed.typing import ReduceFn

ListScores = Float[Array, "q k"]
ListLabels = Real[Array, "q k"]
ListWhere = Bool[Array, "q k"]


def clean_lists(
    scores: ListScores,
    labels: ListLabels,
    where: ListWhere | None,
    activation_fn: Callable[[Array], Array],
) -> tuple[ListScores, ListScores, ListWhere]:
    """Returns activated scores, labels of their type and the mask, safe to compute with."""
    check_shapes("scores", scores=scores, labels=labels, where=where)
    if where is None:
        where = jnp.ones(scores.shape, bool)
    scores, labels = clean(where, scores, labels)
    scores = activation_fn(as_float32(scores))
    return scores, labels.astype(scores.dtype), where


@takes_columns
def listnet_loss(
    scores: ListScores,
    *,
    labels: ListLabels,
    activation_fn: Callable[[Array], Array] = identity,
    where: ListWhere | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the cross-entropy between the softmax of the labels and that of the scores.

        value_q = -Σ_i softmax(y)_i log softmax(s)_i

    Args:
        labels: logits of the target distribution, such as relevance or a teacher's scores.

    Raises:
        ValueError: shapes that do not agree.

    Source: Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, 2007.

    >>> listnet_loss(jnp.array([[2.0, 1.0, 0.0]]), labels=jnp.array([[1, 0, 0]])).round(3)
    Array(1.043, dtype=float32)
    """
    scores, labels, where = clean_lists(scores, labels, where, activation_fn)
    real = jnp.any(where, axis=1)
    keep = where | ~real[:, None]  # a softmax over nothing is no number
    targets = jax.nn.softmax(labels, axis=1, where=keep)
    log_probabilities = jnp.where(keep, log_softmax(scores, keep), 0)
    return reduce(-jnp.sum(targets * log_probabilities, axis=1), real, reduce_fn)


@takes_columns
def listmle_loss(
    scores: ListScores,
    *,
    labels: ListLabels | None = None,
    respect_input_order: bool = True,
    activation_fn: Callable[[Array], Array] = identity,
    where: ListWhere | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes how unlikely the right order is, drawn document by document without replacement.

        value_q = -Σ_r [s_(r) - logsumexp_{t ≥ r} s_(t)]     (r): the document of rank r

    Args:
        labels: relevance of the documents, needed where the order of the input is not the right
            one.
        respect_input_order: the documents come in the right order, the best first. False sorts them
            by labels, the highest first, equal ones as they come.

    Raises:
        ValueError: shapes that do not agree, or nothing to sort by.

    Source: Xia et al., Listwise Approach to Learning to Rank: Theory and Algorithm, 2008.

    >>> listmle_loss(jnp.array([[2.0, 1.0, 0.0]])).round(4)
    Array(0.7209, dtype=float32)
    """
    costs, where = _plackett_luce(scores, labels, where, activation_fn, respect_input_order)
    return reduce(jnp.sum(costs, axis=1), jnp.any(where, axis=1), reduce_fn)


@takes_columns
def p_listmle_loss(
    scores: ListScores,
    *,
    labels: ListLabels | None = None,
    respect_input_order: bool = True,
    activation_fn: Callable[[Array], Array] = identity,
    where: ListWhere | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes the ListMLE loss with weights that fall with the rank: the top counts most.

        value_q = -Σ_r u_r [s_(r) - logsumexp_{t ≥ r} s_(t)]     u_r ∝ 2^(n-r) - 1, Σ u = 1

    for n documents. The last one weighs nothing; a query with one document costs 0. The arguments
    are those of `listmle_loss`.

    Source: Lan et al., Position-Aware ListMLE: A Sequential Learning Process for Ranking, 2014.

    >>> p_listmle_loss(jnp.array([[2.0, 1.0, 0.0]])).round(4)
    Array(0.384, dtype=float32)
    """
    costs, where = _plackett_luce(scores, labels, where, activation_fn, respect_input_order)
    ranks = jnp.cumsum(where, axis=1, dtype=costs.dtype)  # [q k], of real documents
    smallest = jnp.exp2(-ranks[:, -1:])  # all is divided by 2^n, so that no list is too long
    weights = jnp.where(where, jnp.exp2(-ranks) - smallest, 0)
    weights /= jnp.sum(weights, axis=1, keepdims=True) + 1e-10 * smallest
    values = jnp.sum(weights * costs, axis=1)
    return reduce(values, jnp.any(where, axis=1), reduce_fn)


def _plackett_luce(
    scores: ListScores,
    labels: ListLabels | None,
    where: ListWhere | None,
    activation_fn: Callable[[Array], Array],
    respect_input_order: bool,
) -> tuple[ListScores, ListWhere]:
    """Returns, in the right order, `-log` of the probability of each document (0 if masked)."""
    if labels is None:
        if not respect_input_order:
            raise ValueError("labels are needed to sort by (respect_input_order=False); got None")
        labels = scores  # not read
    scores, labels, where = clean_lists(scores, labels, where, activation_fn)
    if not respect_input_order:
        order = jnp.argsort(jnp.where(where, -labels, jnp.inf), axis=1)
        scores, where = (jnp.take_along_axis(x, order, axis=1) for x in (scores, where))
    # The lowest number, not -inf: the rest of a list may be all padding.
    lowest = jnp.finfo(scores.dtype).min
    remaining = lax.cumlogsumexp(jnp.where(where, scores, lowest), axis=1, reverse=True)
    behind = jnp.pad(remaining[:, 1:], ((0, 0), (0, 1)), constant_values=lowest)
    return jnp.where(where, excess(behind, scores), 0), where
