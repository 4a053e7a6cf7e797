"""Regularisers over all encoded texts, to be added to any loss."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxembed.losses import global_orthogonal_regularization_loss
from jaxembed.losses.arguments import check_choice
from jaxembed.mesh_axes import Axis
from jaxembed.similarity import cosine
from jaxembed.typing import Ids, NegativeIds, NegativesWhere, Scalar, SimilarityFn, Where


def regularize_columns(
    *columns: Array,
    ids: Ids | None = None,
    anchor_ids: Ids | None = None,
    negative_ids: NegativeIds | None = None,
    mean_weight: Scalar = 1.0,
    second_moment_weight: Scalar = 1.0,
    similarity_fn: SimilarityFn = cosine,
    aggregation: str = "mean",
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    block_size: int | None = None,
    axis_name: Axis | None = None,
) -> Array:
    """Computes `global_orthogonal_regularization_loss` of each column; their mean or sum.

    The negatives `[n k d]` are k columns. Ids of the first column are `anchor_ids`, of the second
    `ids`; a single column has `ids`.
    """
    check_choice("aggregation", aggregation, ("mean", "sum"))
    texts = [column for column in columns if column.ndim == 2]
    of_texts = [ids] if len(texts) == 1 else [anchor_ids, ids, *[None] * (len(texts) - 2)]
    parts = [(x, its_ids, where) for x, its_ids in zip(texts, of_texts, strict=True)]
    for negatives in (column for column in columns if column.ndim == 3):
        for i in range(negatives.shape[1]):
            real = None if negatives_where is None else negatives_where[:, i]
            real = real if where is None or real is None else real & where
            its_ids = None if negative_ids is None else negative_ids[:, i]
            parts.append((negatives[:, i], its_ids, where if real is None else real))
    values = [
        global_orthogonal_regularization_loss(
            x,
            ids=its_ids,
            mean_weight=mean_weight,
            second_moment_weight=second_moment_weight,
            similarity_fn=similarity_fn,
            where=real,
            block_size=block_size,
            axis_name=axis_name,
        )
        for x, its_ids, real in parts
    ]
    of_all = jnp.sum(jnp.stack(values))
    return of_all / len(values) if aggregation == "mean" else of_all
