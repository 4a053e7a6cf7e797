"""Losses of pairs of documents of one query, and of the ranks that pairs add up to.

The arguments that all losses share are explained in `jaxembed.losses.reranking`. Every loss here
compares all pairs of a list: O(q k²).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from jaxembed.losses.arguments import check_choice, check_positive, takes_columns
from jaxembed.losses.elementwise import identity
from jaxembed.losses.reduction import mean
from jaxembed.losses.reranking.listwise import ListLabels, ListScores, ListWhere, clean_lists
from jaxembed.typing import Scalar

Discounts = Float[Array, " k"]
Weights = Float[Array, "#q #k #k"]
Weighting = Callable[[ListScores, Discounts], Weights]

MAX_DIFFERENCE = 1e8

# Weightings: from the gains in the predicted order, relative to the best DCG, and the discounts
# `D_r = log2(1 + r)` of their ranks to the weight of each pair.


def no_weighting(gains: ListScores, discounts: Discounts) -> Weights:
    """Computes the weight 1 of RankNet."""
    return jnp.ones((1, 1, 1), gains.dtype)


def ndcg_loss1(gains: ListScores, discounts: Discounts) -> Weights:
    """Computes `G_i / D_i`. With it, a loss is over all pairs, whatever their labels."""
    return (gains / discounts[None, :])[:, :, None]


def ndcg_loss2(gains: ListScores, discounts: Discounts) -> Weights:
    """Computes `|1 / D_|i-j| - 1 / D_(|i-j|+1)| |G_i - G_j|`."""
    ranks = jnp.arange(len(discounts))
    steps = jnp.abs(jnp.diff(1 / discounts, prepend=1 / discounts[:1]))  # [k], of distance 0, 1, …
    return steps[jnp.abs(ranks[:, None] - ranks[None, :])][None] * _gaps(gains)


def lambda_rank(gains: ListScores, discounts: Discounts) -> Weights:
    """Computes `|1 / D_i - 1 / D_j| |G_i - G_j|`, the change of NDCG by swapping the two."""
    return _gaps(1 / discounts[None, :]) * _gaps(gains)


def ndcg_loss2pp(gains: ListScores, discounts: Discounts, mu: Scalar = 10.0) -> Weights:
    """Computes `mu ndcg_loss2 + lambda_rank`."""
    return ndcg_loss2(gains, discounts) * mu + lambda_rank(gains, discounts)


def _gaps(values: Float[Array, "q k"]) -> Float[Array, "q k k"]:
    return jnp.abs(values[:, :, None] - values[:, None, :])


# Losses ------------------------------------------------------------------------------------------


@takes_columns
def lambda_loss(
    scores: ListScores,
    *,
    labels: ListLabels,
    weighting: Weighting = ndcg_loss2pp,
    k: int | None = None,
    sigma: Scalar = 1.0,
    epsilon: Scalar = 1e-10,
    reduction_log: str = "binary",
    activation_fn: Callable[[Array], Array] = identity,
    where: ListWhere | None = None,
) -> Array:
    """Computes how badly pairs of documents are ordered, weighted by what they matter to NDCG.

        loss = -mean over pairs (i, j) of all queries with y_i > y_j of
               weight_ij log2 σ(sigma (s_i - s_j))

        G_i = (2^y_i - 1) / best DCG     D_i = log2(1 + rank_i)     rank: by descending scores

    The ranks, and so the weights, are constants to the gradient; the loss jumps where scores are
    tied. Labels below 0 gain as much as 0.

    Args:
        weighting: from gains and discounts to weights: `ndcg_loss2pp` (another mu by `partial`),
            `ndcg_loss2`, `lambda_rank`, `no_weighting` or `ndcg_loss1`.
        k: only pairs with one of the k highest scores count, as for NDCG@k. None: all.
        sigma: steepness, > 0.
        epsilon: the least best DCG, for queries without a relevant document.
        reduction_log: "binary", or "natural" for the natural logarithm.

    Raises:
        ValueError: shapes that do not agree, a number out of range, an unknown logarithm.

    Source: Wang et al., The LambdaLoss Framework for Ranking Metric Optimization, 2018 (top k:
    equation 18).

    >>> scores, labels = jnp.array([[0.2, 0.8, 0.5]]), jnp.array([[2, 0, 1]])
    >>> lambda_loss(scores, labels=labels).round(3)
    Array(2.07, dtype=float32)
    """
    check_positive(k=k, sigma=sigma, epsilon=epsilon)
    check_choice("reduction_log", reduction_log, ("binary", "natural"))
    scores, labels, where = clean_lists(scores, labels, where, activation_fn)
    order = jnp.argsort(jnp.where(where, -scores, jnp.inf), axis=1)  # padding comes last
    scores, labels, where = (jnp.take_along_axis(x, order, axis=1) for x in (scores, labels, where))
    ranks = jnp.arange(1, scores.shape[1] + 1)
    top = ranks <= (scores.shape[1] if k is None else k)
    discounts = jnp.log2(1 + ranks.astype(scores.dtype))

    gains = _relative_gains(labels, where, discounts, top, epsilon)
    differences = scores[:, :, None] - scores[:, None, :]
    # Not jnp.clip: its slope takes longer than all the rest.
    bound = jnp.asarray(MAX_DIFFERENCE, differences.dtype)
    differences = lax.clamp(-bound, differences, bound)
    values = -weighting(gains, discounts) * jax.nn.log_sigmoid(sigma * differences)  # [q k k]
    pairs = where[:, :, None] & where[:, None, :] & (top[:, None] | top[None, :])[None]
    if getattr(weighting, "func", weighting) is not ndcg_loss1:
        pairs &= labels[:, :, None] > labels[:, None, :]
    loss = mean(values, pairs)
    return loss / math.log(2) if reduction_log == "binary" else loss


def _relative_gains(
    labels: ListScores,
    where: ListWhere,
    discounts: Discounts,
    top: Bool[Array, " k"],
    epsilon: Scalar,
) -> ListScores:
    """Computes each document's gain over the DCG that the best order reaches in the top ranks."""
    gains = jnp.where(where, jnp.exp2(jnp.maximum(labels, 0)) - 1, 0)
    ideal = jnp.sort(gains, axis=1, descending=True) / discounts[None, :]
    best = jnp.sum(jnp.where(top[None, :], ideal, 0), axis=1, keepdims=True)
    return gains / jnp.maximum(best, epsilon)


@takes_columns
def ranknet_loss(
    scores: ListScores,
    *,
    labels: ListLabels,
    k: int | None = None,
    sigma: Scalar = 1.0,
    reduction_log: str = "binary",
    activation_fn: Callable[[Array], Array] = identity,
    where: ListWhere | None = None,
) -> Array:
    """Computes how badly pairs of documents are ordered: `lambda_loss` where all weigh 1.

        loss = -mean over pairs (i, j) of all queries with y_i > y_j of log2 σ(sigma (s_i - s_j))

    The published loss is the sum over the pairs, in natural logarithms.

    Source: Burges et al., Learning to Rank using Gradient Descent, 2005.

    >>> scores, labels = jnp.array([[0.2, 0.8, 0.5]]), jnp.array([[2, 0, 1]])
    >>> ranknet_loss(scores, labels=labels).round(3)
    Array(1.321, dtype=float32)
    """
    return lambda_loss(
        scores,
        labels=labels,
        weighting=no_weighting,
        k=k,
        sigma=sigma,
        reduction_log=reduction_log,
        activation_fn=activation_fn,
        where=where,
    )


@takes_columns
def adr_mse_loss(
    scores: ListScores,
    *,
    labels: ListLabels,
    alpha: Scalar = 1.0,
    activation_fn: Callable[[Array], Array] = identity,
    where: ListWhere | None = None,
) -> Array:
    """Computes how far smooth ranks of the scores lie from the ranks of the labels.

        loss = mean over all documents of (rank_i - smooth_i)² / log2(1 + rank_i)

        rank_i = #{j: y_j > y_i} + (#{j: y_j = y_i} + 1) / 2
        smooth_i = 1 + Σ_{j≠i} σ(alpha (s_j - s_i))

    Args:
        alpha: steepness, > 0: the larger, the closer the smooth ranks come to the true ones.

    Raises:
        ValueError: shapes that do not agree, or an alpha that is not above 0.

    Source: Schlatt et al., Rank-DistiLLM: Closing the Effectiveness Gap Between Cross-Encoders and
    LLMs for Passage Re-ranking, 2025.

    >>> scores, labels = jnp.array([[0.2, 0.8, 0.5]]), jnp.array([[2, 0, 1]])
    >>> adr_mse_loss(scores, labels=labels).round(3)
    Array(0.744, dtype=float32)
    """
    check_positive(alpha=alpha)
    scores, labels, where = clean_lists(scores, labels, where, activation_fn)
    other = where[:, None, :]  # [q 1 k]
    above = (labels[:, None, :] > labels[:, :, None]) & other
    equal = (labels[:, None, :] == labels[:, :, None]) & other
    count = partial(jnp.sum, axis=2, dtype=scores.dtype)
    ranks = count(above) + (count(equal) + 1) / 2

    beaten = jax.nn.sigmoid(alpha * (scores[:, None, :] - scores[:, :, None]))  # ½ by itself
    smooth = 0.5 + jnp.sum(jnp.where(other, beaten, 0), axis=2)
    values = jnp.square(ranks - smooth) / jnp.log2(1 + ranks)
    return mean(values, where)
