"""The loss on held-out rows, as an evaluation of a training."""

from __future__ import annotations

from typing import Any

import jax
from inputs import open_held_out
from training import Training

from jaxembed.evaluators import EmbedFn
from jaxembed.training import Hosts, TrainState, build_loss, place_rows

LOSS = "loss"


class HeldOutLoss:
    """Measures `loss`, the training's own objective, on rows that it does not learn from.

    The batches are those of the first epoch over these rows, with the size, plan, prompts and seed
    of the training, the same in every evaluation. There is no dropout. The loss is the mean over
    the rows of all batches. Before each evaluation `state` is set to that of the training; all
    hosts evaluate together.
    """

    main_metric = LOSS
    state: TrainState | None = None

    def __init__(self, training: Training, hosts: Hosts, dataset: Any, columns: Any) -> None:
        self.hosts, self.mesh = hosts, training.mesh
        self.tasks = open_held_out(training.config, training.tasks, dataset, columns)
        self.loss = build_loss(training.objective, training.mesh)
        self.steps = self.tasks.n_steps(1)

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Computes the losses of all batches; texts are encoded in them, not by `embed`."""
        assert self.state is not None
        total, rows = 0.0, 0
        for step in range(self.steps):
            value, count = jax.device_get(self.loss(self.state, self._batch(step)))
            total, rows = total + float(value) * int(count), rows + int(count)
        return {LOSS: total / rows}

    def _batch(self, step: int) -> Any:
        batch = self.tasks(step)
        if self.hosts.count == 1:
            return batch
        shapes = self.hosts.exchange("held-out shapes", self.tasks.shapes(batch))
        return place_rows(self.tasks.share(batch, shapes), self.mesh)


def is_loss(metric: str) -> bool:
    """Returns True if a metric is a loss: the least is the best.

    >>> is_loss("loss"), is_loss("dev/loss"), is_loss("dev/ndcg@10")
    (True, True, False)
    """
    return metric.rpartition("/")[2] == LOSS
