"""Evaluations of a run: what is measured after which step, what was best, and when it is enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from config import Config, ConfigError
from held_out import HeldOutLoss, is_loss
from training import HEALTHY

from jaxembed.evaluators import EmbedFn, Evaluator, Kept, Suite, at_dims
from jaxembed.metrics import collapse, embedding_health
from jaxembed.training import TrainState


class Measuring:
    """Measures a model now and then, and remembers the best.

    Of several metrics, `metric` ranks; it is the evaluator's main one if the flags name none. The
    greatest is the best, of a loss the least.
    """

    def __init__(self, config: Config, evaluator: Evaluator | None, steps: int) -> None:
        self.evaluator = evaluator
        self.metric = config.metric or (evaluator.main_metric if evaluator else "")
        self.dims = config.evaluate_dims
        self.patience = config.early_stopping
        every = config.evaluate_every
        self.every = max(1, round(every * steps if every < 1 else every))
        self.sign = -1 if is_loss(self.metric) else 1
        self.best = -self.sign * math.inf
        self.since_best = 0
        needing = ("metric", "early_stopping", "save_best")
        if evaluator is None and (flags := [name for name in needing if getattr(config, name)]):
            flag = flags[0].replace("_", "-")
            raise ConfigError(f"--{flag} needs something to --evaluate on")

    def remember(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Takes the evaluations of a run that goes on."""
        for record in records:
            if record["kind"] == "evaluation":
                self._rank(record)

    def due(self, step: int, steps: int) -> bool:
        """Returns True if the model is measured after a step."""
        return self.evaluator is not None and (step % self.every == 0 or step == steps)

    @property
    def exhausted(self) -> bool:
        """Whether the last evaluations were not better than one before."""
        return self.patience is not None and self.since_best >= self.patience

    @property
    def reason(self) -> str:
        """Why it is enough."""
        better = "above" if self.sign > 0 else "below"
        return f"{self.metric} was not {better} {self.best:.4f} in {self.since_best} evaluations"

    def rank(self, values: Mapping[str, Any]) -> float | None:
        """Returns the number by which checkpoints rank, the greatest first; None if it is NaN."""
        value = values[self.metric]
        return None if math.isnan(value) else self.sign * value

    def evaluate(
        self, embed: EmbedFn, say: Callable[[str], Any], state: TrainState
    ) -> dict[str, float]:
        """Measures the model, and the health of its embeddings; says so if they collapse."""
        assert self.evaluator is not None
        losses, embedded = split_losses(self.evaluator)
        for loss in losses:
            loss.state = state
        seen: list[np.ndarray] = []

        def watched(texts: list[str], *, role: Any) -> np.ndarray:
            embeddings = embed(texts, role=role)
            seen.append(embeddings[:: max(1, len(embeddings) // HEALTHY)])
            return embeddings

        kept = Kept(watched)
        values = self.evaluator.evaluate(kept)
        if self.dims and embedded is not None:
            values |= at_dims(embedded, self.dims).evaluate(kept)
        if self.metric not in values:
            raise ConfigError(f"there is no metric {self.metric}; there are {', '.join(values)}")
        self._rank(values)
        if not seen:
            return values
        health = embedding_health(np.asarray(seen[0], np.float32), sample=HEALTHY)
        health = {name: float(value) for name, value in health.items()}
        if warning := collapse(health):
            say(f"warning: {warning}")
        return {**values, **{f"health/{name}": value for name, value in health.items()}}

    def _rank(self, values: Mapping[str, Any]) -> None:
        value = values.get(self.metric, math.nan)  # and NaN is better than nothing
        if self.sign * value > self.sign * self.best:
            self.best, self.since_best = value, 0
        else:
            self.since_best += 1


def split_losses(evaluator: Evaluator) -> tuple[list[HeldOutLoss], Evaluator | None]:
    """Returns the held-out losses of an evaluator, and what embeds texts, None if nothing does."""
    if isinstance(evaluator, HeldOutLoss):
        return [evaluator], None
    if not isinstance(evaluator, Suite):
        return [], evaluator
    parts = evaluator.evaluators
    losses = [each for each in parts.values() if isinstance(each, HeldOutLoss)]
    others = {name: each for name, each in parts.items() if not isinstance(each, HeldOutLoss)}
    if not losses:
        return [], evaluator
    return losses, Suite(others) if others else None
