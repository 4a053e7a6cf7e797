"""Several evaluators as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxembed.evaluators.checking import check_mapping
from jaxembed.evaluators.protocols import EmbedFn, Evaluator

MEAN = "mean"


@dataclass(frozen=True, eq=False, repr=False)
class Suite:
    """Gives the metrics of all its evaluators, and their means.

    A metric of the evaluator `sts` is named `sts/spearman`. Each metric that all evaluators have
    also gives `mean/spearman`, the mean of its values.

    Args:
        evaluators: Evaluators by name.
        main_metric: The name of the metric that ranks models; by default the mean of the main
            metric that all evaluators share, or else the main metric of the first.

    Raises:
        ValueError: No evaluators, something that is none, a name that is "mean", empty, no string
            or has a "/", or a main metric of no evaluator. While evaluating: a main metric that is
            not there.

    The mean over data sets: Thakur et al., "BEIR: A Heterogeneous Benchmark for Zero-shot
    Evaluation of Information Retrieval Models", 2021.

    >>> from jaxembed.evaluators import TripletEvaluator
    >>> suite = Suite({
    ...     "easy": TripletEvaluator(["a"], ["b"], ["abcd"]),
    ...     "hard": TripletEvaluator(["a"], ["abcd"], ["b"]),
    ... })
    >>> def embed(texts, *, role):
    ...     return np.array([[len(text), 1] for text in texts], np.float32)
    >>> suite.evaluate(embed)
    {'easy/accuracy': 1.0, 'hard/accuracy': 0.0, 'mean/accuracy': 0.5}
    """

    evaluators: Mapping[str, Evaluator]
    main_metric: str = ""

    def __post_init__(self) -> None:
        check_mapping("evaluators", self.evaluators, "names to evaluators")
        if len(self.evaluators) == 0:
            raise ValueError("a suite needs at least one evaluator, got none")
        for name, evaluator in self.evaluators.items():
            if not isinstance(name, str) or name in ("", MEAN) or "/" in name:
                raise ValueError(
                    f"an evaluator needs a name that has no '/' and is not {MEAN!r}, got {name!r}"
                )
            if isinstance(evaluator, type) or not isinstance(evaluator, Evaluator):
                raise ValueError(f"{name} is {evaluator!r}, not an evaluator")
        if not isinstance(self.main_metric, str):
            raise ValueError(f"main_metric must be the name of one, got {self.main_metric!r}")
        main = self.main_metric or self._default()
        owner = main.partition("/")[0]
        if owner not in (MEAN, *self.evaluators):
            raise ValueError(
                f"main_metric must be one of {MEAN}/…, "
                f"{', '.join(f'{name}/…' for name in self.evaluators)}, got {main!r}"
            )
        object.__setattr__(self, "main_metric", main)

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Asks one evaluator after the other; returns `{"name/metric": …, "mean/metric": …}`."""
        found = {name: each.evaluate(embed) for name, each in self.evaluators.items()}
        values = {
            f"{name}/{metric}": value
            for name, metrics in found.items()
            for metric, value in metrics.items()
        }
        for metric in next(iter(found.values())):
            if all(metric in metrics for metrics in found.values()):
                mean = np.mean([metrics[metric] for metrics in found.values()])
                values[f"{MEAN}/{metric}"] = float(mean)
        if self.main_metric not in values:
            raise ValueError(
                f"main_metric {self.main_metric!r} is not there, only {', '.join(values)}"
            )
        return values

    def _default(self) -> str:
        mains = [evaluator.main_metric for evaluator in self.evaluators.values()]
        shared = all(main == mains[0] for main in mains)
        return f"{MEAN if shared else next(iter(self.evaluators))}/{mains[0]}"
