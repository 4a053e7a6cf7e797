"""The steps of a run: trained, reported, measured, saved, and stopped when it is time."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
from config import Config
from measuring import Measuring
from skips import SkippedSteps
from training import HEALTHY, Training

from jaxembed.data import load_batches
from jaxembed.metrics import collapse, embedding_health
from jaxembed.training import (
    Checkpoints,
    Hosts,
    RunLog,
    Screen,
    TrainState,
    join_rows,
    place_rows,
)
from jaxembed.typing import SAMPLE

FEW = 8  # rows: fewer tell nothing of a collapse


class Loop:
    """Runs the steps of a training from a state on."""

    def __init__(
        self,
        config: Config,
        hosts: Hosts,
        training: Training,
        measuring: Measuring,
        checkpoints: Checkpoints,
        log: RunLog,
        screen: Screen,
    ) -> None:
        self.config, self.hosts, self.training, self.measuring = config, hosts, training, measuring
        self.checkpoints, self.log, self.screen = checkpoints, log, screen
        file = config.output / "nonfinite.jsonl" if hosts.writes else None
        self.skipped = SkippedSteps(training.tasks, config.max_skipped, file)
        self.stop = StopRequest()
        self._pending: tuple[int, dict[str, Any], dict[str, int], float] | None = None
        self._clock = 0.0
        self._warned = False

    def run(self, state: TrainState) -> tuple[TrainState, int]:
        """Trains to the end, or until it shall stop; returns the state and the signal, or 0.

        The metrics of a step are read while the next one runs.
        """
        config, training, measuring = self.config, self.training, self.measuring
        start, steps = int(state.step), training.steps
        train_step = training.build_step()
        batches = load_batches(
            training.tasks, start_step=start, n_steps=steps - start, workers=config.workers
        )
        if start == 0:
            self._evaluate(0, state)
        self._clock = time.perf_counter()
        for step in range(start + 1, steps + 1):
            if measuring.exhausted:
                self.screen.say(f"stops early after step {step - 1}: {measuring.reason}")
                break
            begin = time.perf_counter()
            own = next(batches)
            waited = time.perf_counter() - begin
            batch, counted, signal_number = self._together(own)
            state, metrics = train_step(state, batch, training.root_key)
            self._report()
            self._pending = (step, metrics, counted, waited)
            stopping = signal_number > 0 and step < steps
            metric = None
            if not stopping and measuring.due(step, steps):
                self._report()
                metric = self._evaluate(step, state)
                self._clock = time.perf_counter()
            due = step % config.checkpoint_every == 0 or step == steps or measuring.exhausted
            chosen_from = config.save_best or config.average_last > 1
            if stopping or due or (chosen_from and metric is not None):
                self.checkpoints.save(step, state, metric=metric)
            if stopping:
                self._report()
                return state, signal_number
        self._report()
        return state, 0

    def _evaluate(self, step: int, state: TrainState) -> float | None:
        """Measures the model after `step` steps; returns the number by which checkpoints rank."""
        if self.measuring.evaluator is None:
            return None
        begin = time.perf_counter()
        hosts = self.hosts
        current = self.training.trained(state)

        def embed(texts: list[str], *, role: str | None) -> Any:
            own = texts[hosts.index :: hosts.count]
            embeddings = current.encode(own, prompt=self.training.prompts[role])
            return join_rows(embeddings, len(texts))

        values = self.measuring.evaluate(embed, self.screen.say, state)
        self.log.write(step, "evaluation", values)
        seconds = time.perf_counter() - begin
        metric = self.measuring.metric
        self.screen.say(f"step {step}: {metric} {values[metric]:.4f}  ({seconds:.0f} s)")
        return self.measuring.rank(values)

    def _together(self, batch: Any) -> tuple[Any, dict[str, int], int]:
        """Tells the other hosts what this one has; returns the batch, its counts and the signal."""
        tasks, hosts = self.training.tasks, self.hosts
        counts, number = tasks.count(batch), self.stop.signal
        here = {"shapes": tasks.shapes(batch), "counts": counts, "signal": number}
        everywhere = hosts.exchange("step", here)
        counts = {name: sum(host["counts"][name] for host in everywhere) for name in counts}
        number = max(host["signal"] for host in everywhere)
        if hosts.count > 1:
            shapes = [host["shapes"] for host in everywhere]
            batch = place_rows(tasks.share(batch, shapes), self.training.mesh)
        return batch, counts, number

    def _report(self) -> None:
        """Writes the metrics of the last step, which waits for it."""
        if self._pending is None:
            return
        config, (step, metrics, counted, waited) = self.config, self._pending
        self._pending = None
        metrics = with_health(jax.device_get(metrics))
        values = {name: float(value) for name, value in metrics.items()}
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        values |= {
            "seconds": seconds,
            "waited_share": min(waited / seconds, 1.0),
            "pairs_per_s": counted["pairs"] / seconds,
            "tokens_per_s": counted["tokens"] / seconds,
            "padding_share": 1 - counted["tokens"] / counted["places"],
        }
        self.log.write(step, "train", values)
        self.screen.step(step, values)
        self.skipped.see(step, values, self.screen.say)
        enough = counted["pairs"] >= FEW * config.gradient_accumulation_steps
        if enough and not values["skipped"] and not self._warned:
            for warning in collapses(values):
                self._warned = True
                self.screen.say(f"warning: in the batch of step {step} {warning}")


def collapses(values: dict[str, float]) -> Iterator[str]:
    """Says which samples of a step, of one task or several, have collapsed."""
    by_task: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        task, found, metric = name.rpartition("health/")
        if found:
            by_task.setdefault(task, {})[metric] = value
    for task, health in by_task.items():
        if warning := collapse(health):
            yield f"{task.rstrip('/')}: {warning}" if task else warning


def with_health(metrics: dict[str, Any]) -> dict[str, Any]:
    """Measures the samples of embeddings, NumPy's, that a step of one task or several returned."""
    measured: dict[str, Any] = {}
    for name, value in metrics.items():
        prefix, slash, last = name.rpartition("/")
        if last != SAMPLE:
            measured[name] = value
            continue
        health = embedding_health(**value, sample=HEALTHY)
        measured |= {f"{prefix}{slash}health/{key}": x for key, x in health.items()}
    return measured


class StopRequest:
    """Ctrl-C and SIGTERM end the run after the step that is running, a second Ctrl-C at once.

    One of the hosts is enough: before each step they tell each other what they were told.
    """

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)

    def _request(self, number: int, frame: object) -> None:
        self.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping after this step, and saving", file=sys.stderr, flush=True)
