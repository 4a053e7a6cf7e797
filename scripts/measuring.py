"""Evaluations of a run: what is measured after which step, what was best, and when it is enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from config import Config, ConfigError

from jaxembed.evaluators import EmbedFn, Evaluator, Kept, at_dims
from jaxembed.metrics import collapse, embedding_health

HEALTHY = 256  # embeddings of a step or an evaluation whose health is measured


class Measuring:
    """Measures a model now and then, and remembers the best.

    Of several metrics, `metric` ranks; it is the evaluator's main one if the flags name none.
    """

    def __init__(self, config: Config, evaluator: Evaluator | None, steps: int) -> None:
        self.evaluator = evaluator
        self.metric = config.metric or (evaluator.main_metric if evaluator else "")
        self.dims = config.evaluate_dims
        self.patience = config.early_stopping
        every = config.evaluate_every
        self.every = max(1, round(every * steps if every < 1 else every))
        self.best = -math.inf
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
        """Says whether the model is measured after a step."""
        return self.evaluator is not None and (step % self.every == 0 or step == steps)

    @property
    def exhausted(self) -> bool:
        """Whether the last evaluations were not better than one before."""
        return self.patience is not None and self.since_best >= self.patience

    def evaluate(self, embed: EmbedFn, say: Callable[[str], Any]) -> dict[str, float]:
        """Measures the model, and the health of its embeddings; says so if they collapse."""
        assert self.evaluator is not None
        seen: list[np.ndarray] = []

        def watched(texts: list[str], *, role: Any) -> np.ndarray:
            embeddings = embed(texts, role=role)
            seen.append(embeddings[:: max(1, len(embeddings) // HEALTHY)])
            return embeddings

        kept = Kept(watched)
        values = self.evaluator.evaluate(kept)
        if self.dims:
            values |= at_dims(self.evaluator, self.dims).evaluate(kept)
        if self.metric not in values:
            raise ConfigError(f"there is no metric {self.metric}; there are {', '.join(values)}")
        health = embedding_health(np.asarray(seen[0], np.float32), sample=HEALTHY)
        health = {name: float(value) for name, value in health.items()}
        if warning := collapse(health):
            say(f"warning: {warning}")
        self._rank(values)
        return {**values, **{f"health/{name}": value for name, value in health.items()}}

    def _rank(self, values: Mapping[str, Any]) -> None:
        value = values.get(self.metric, math.nan)  # and NaN is above nothing
        if value > self.best:
            self.best, self.since_best = value, 0
        else:
            self.since_best += 1
