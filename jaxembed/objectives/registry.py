"""The registry of objectives: what each is called, what data it needs, and how it is built."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from jaxembed.losses import (
    cosine_similarity_loss,
    multiple_negatives_ranking_loss,
    multiple_negatives_symmetric_ranking_loss,
)
from jaxembed.metrics import in_batch_accuracy
from jaxembed.objectives.columns import encode_columns, loss_keywords
from jaxembed.transforms import over_mesh
from jaxembed.typing import Batch, EncodeFn, LossFn, ObjectiveFn, Params, Roles

Metrics = dict[str, Array]
NOT_SETTINGS = {
    *("where", "negatives_where", "ids", "anchor_ids", "negative_ids"),
    *("reduce_fn", "axis_name"),
}


@dataclass(frozen=True)
class Objective:
    """One entry: a loss over encoded text columns."""

    name: str
    published: str  # the class of sentence-transformers
    loss: LossFn
    roles: Roles
    metrics: Callable[[list[Array], Batch], Metrics] = lambda embeddings, batch: {}

    @property
    def settings(self) -> dict[str, Any]:
        """The hyperparameters that the loss takes, with their defaults."""
        parameters = inspect.signature(self.loss).parameters.values()
        return {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.kind is parameter.KEYWORD_ONLY
            and parameter.name not in NOT_SETTINGS
            and parameter.name not in self.roles.labels
        }

    def build(self, encode: EncodeFn, mesh: Mesh | None = None, **settings: Any) -> ObjectiveFn:
        """Builds the scalar function of (params, batch, key); the encoder has `params["encoder"]`.

        With a `block_size` and a mesh of several devices the loss runs device by device
        (`over_mesh`).

        Raises:
            ValueError: a setting that the loss does not take, or a value that it refuses.
        """
        if unknown := [name for name in settings if name not in self.settings]:
            raise ValueError(
                f"{self.name} takes no {unknown[0]}; its settings are {', '.join(self.settings)}"
            )
        texts = [jnp.zeros((2, 2)) for _ in self.roles.texts]
        labels = {name: jnp.zeros(2) for name in self.roles.labels}
        jax.eval_shape(functools.partial(self.loss, **settings), *texts, **labels)  # refuses early
        loss_fn = self.loss
        if mesh is not None and mesh.size > 1 and settings.get("block_size"):
            loss_fn = over_mesh(loss_fn, mesh, block_size=settings.pop("block_size"))

        def objective(
            params: Params,
            batch: Batch,
            *,
            key: Array | None,
            frozen: Params | None = None,
            carried: Params | None = None,
        ) -> tuple[Array, tuple[Metrics, Params | None]]:
            embeddings = encode_columns(encode, params["encoder"], batch, self.roles, key=key)
            loss = loss_fn(*embeddings, **loss_keywords(batch, self.roles), **settings)
            return loss, (self.metrics(embeddings, batch), carried)

        return objective


def _accuracy(embeddings: list[Array], batch: Batch) -> Metrics:
    anchors, positives = embeddings[:2]
    accuracy = in_batch_accuracy(anchors, positives, where=batch.get("where"))
    return {"in_batch_accuracy": accuracy}


RANKED = Roles(("anchors", "positives"), negatives=True, ids=True)

REGISTRY: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective(
            "multiple_negatives_ranking",
            "MultipleNegativesRankingLoss",
            multiple_negatives_ranking_loss,
            RANKED,
            _accuracy,
        ),
        Objective(
            "multiple_negatives_symmetric_ranking",
            "MultipleNegativesSymmetricRankingLoss",
            multiple_negatives_symmetric_ranking_loss,
            RANKED,
            _accuracy,
        ),
        Objective(
            "cosine_similarity",
            "CosineSimilarityLoss",
            cosine_similarity_loss,
            Roles(("left", "right"), {"scores": float}),
        ),
    )
}
