"""Ranking with negatives of the batch: documents of other rows are drawn, then scored.

The arguments that all losses share are explained in `jaxembed.losses.reranking`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from jaxembed.losses.arguments import (
    check_not_negative,
    check_positive,
    check_shape,
    check_shapes,
    clean,
    takes_columns,
)
from jaxembed.losses.over_candidates import LogSumExp, excess
from jaxembed.losses.reduction import mean, reduce
from jaxembed.similarity import as_float32
from jaxembed.typing import NegativesWhere, ReduceFn, Scalar, Where


@takes_columns
def multiple_negatives_ranking_loss(
    scores: Float[Array, "n m"],
    *,
    scale: Scalar = 10.0,
    activation_fn: Callable[[Array], Array] = jax.nn.sigmoid,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    reduce_fn: ReduceFn | None = mean,
) -> Array:
    """Computes how badly the own positive stands out from the negatives (InfoNCE).

        value_i = logsumexp_j z_ij - z_i0     z = scale activation_fn(scores)

    Args:
        scores: of the own positive first, then of its negatives: those that `sample_negatives`
            drew from the batch, and the row's own hard ones.
        scale: inverse temperature, > 0.
        negatives_where: False takes a negative out, `[n m-1]`.

    Raises:
        ValueError: shapes that do not agree, or a scale that is not above 0.

    Source: Henderson et al., Efficient Natural Language Response Suggestion for Smart Reply, 2017.

    >>> multiple_negatives_ranking_loss(jnp.array([[2.0, 0.0, -1.0]])).round(4)
    Array(0.0241, dtype=float32)
    """
    check_shape(scores.shape[:1], where=where)
    check_shapes("negatives", negatives=scores[:, 1:], negatives_where=negatives_where)
    check_positive(scale=scale)
    keep = None  # the own positive always
    if negatives_where is not None:
        keep = jnp.pad(negatives_where, ((0, 0), (1, 0)), constant_values=True)
    (scores,) = clean(keep, *clean(where, scores))
    logits = jnp.asarray(scale * activation_fn(as_float32(scores)))
    negatives = logits[:, 1:]
    real = jnp.ones(negatives.shape, bool) if negatives_where is None else negatives_where
    values = excess(LogSumExp(((negatives, real),)).of_all(), logits[:, 0])
    return reduce(values, where, reduce_fn)


def sample_negatives(
    key: Array, n: int, columns: int, num_negatives: int | None = 4
) -> Int[Array, "n s"]:
    """Draws for each row documents of the other rows: uniformly, without replacement.

    The documents of all rows lie column by column: column c of row j (0 is the positive, the
    others are hard negatives) has the index `c n + j`.

    Args:
        n: number of rows.
        columns: documents per row.
        num_negatives: how many to draw. None, or as many as there are: all, in order.

    Raises:
        ValueError: a number below 0.

    >>> sample_negatives(jax.random.key(0), n=3, columns=2, num_negatives=None)
    Array([[1, 2, 4, 5],
           [0, 2, 3, 5],
           [0, 1, 3, 4]], dtype=int32)
    """
    check_not_negative(n=n, columns=columns, num_negatives=num_negatives)
    others = max(n - 1, 0)
    available = others * columns
    if num_negatives is None or num_negatives >= available:
        drawn = jnp.broadcast_to(jnp.arange(available, dtype=jnp.int32), (n, available))
    else:
        _, drawn = lax.top_k(jax.random.uniform(key, (n, available)), num_negatives)
    column, row = jnp.divmod(drawn, max(others, 1))
    own = jnp.arange(n, dtype=jnp.int32)[:, None]
    return column * n + jnp.where(row < own, row, row + 1)  # the own row is skipped
