"""Who reaches which quality in which time? The same fine-tunings by ours and by other libraries.

all-MiniLM-L6-v2 is trained on WordNet glosses (a word in its sentence and its definition, the
ranking loss; nDCG@10 of finding the definition of words held out) and on the STS benchmark (CoSENT;
Spearman's correlation on its test part). All sides take the same batches in the same order, with
the same learning rates and without dropout, so that they have to agree: on the metric before the
first step and on the losses of the first steps. Seconds of training are those of the steps, with
compiling, waiting for data and everything else but the evaluations. Seeds order the rows.

    python benchmarks/quality.py --torch-python .venv-torch/bin/python
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plots
import report
from fine_tuning import OURS, FineTune, run, versions_of
from objectives_data import N_MEASURED, Columns, distinct, sts, wordnet
from peer import REPRESENTAX, ST, PeerFlags
from report import Target
from rich.progress import track

from jaxembed.data import open_dataset

EQUAL = 0.001  # a mean metric that is less than so much below another is as good
COMPARED = 5  # steps whose losses have to agree: later, rounding has its way
TOLERANCE = 5e-3


@dataclass(frozen=True)
class Config(PeerFlags):
    """Fine-tunes with all sides and several seeds; what is done already is kept."""

    model: str = "all-MiniLM-L6-v2"
    """A name or folder, as `jaxembed.load` takes it."""
    tasks: tuple[str, ...] = ("WordNet", "STS-B")
    """What is trained on."""
    seeds: int = 3
    """Orders of the rows."""
    representax_seeds: int = 1
    """Of them, as many as Representax trains with; it takes several times as long."""
    steps: int = 60
    """Steps of a training: two thirds of an epoch of the STS benchmark."""
    batch: int = 64
    """Pairs of a step."""
    every: int = 15
    """Steps between evaluations."""
    work: Path = Path("runs/quality")
    """Where each run is kept; one that is there already is not done again."""
    wheels: Path = Path("runs/wheels")
    """Where the wheel with the STS benchmark is kept."""
    output: Path = Path("runs/benchmarks")
    """Where table, picture and all values are written."""


def main(config: Config) -> int:
    """Measures and reports; returns 1 if the sides disagree."""
    content: dict[str, Any] = {
        "question": "Quality at an equal budget: metric against the time of training",
        "settings": {
            name: getattr(config, name)
            for name in ("model", "tasks", "steps", "batch", "seeds", "every")
        },
        "machine": report.machine(),
        "versions": report.versions(),
    }
    wanted = [
        (task, seed, side)
        for task in config.tasks
        for seed in range(config.seeds)
        for side in (OURS, *config.interpreters)[:: 1 if seed % 2 == 0 else -1]
        if side != REPRESENTAX or seed < config.representax_seeds
    ]
    runs = [
        kept(config, task, seed, side)
        for task, seed, side in track(wanted, "fine-tuning", transient=True)
    ]
    for one in runs:
        (ours,) = (r for r in runs if (r["task"], r["seed"], r["side"]) == key(one, OURS))
        one["agrees"] = same(one, ours)
    content["runs"] = runs
    content["versions"] |= versions_of((one["side"], one) for one in runs)
    columns = [
        "task",
        "side",
        "before",
        "after, by seed",
        "mean",
        "training, s",
        "whole process, s",
    ]
    report.save(config.output, "quality", content, columns, table(runs), held_to(runs))
    draw(runs, config.output / "quality.png")
    if differ := [f"{r['side']}, {r['task']}, seed {r['seed']}" for r in runs if not r["agrees"]]:
        print(f"metric before, or first losses, differ from ours: {'; '.join(differ)}")
    return int(bool(differ))


def kept(config: Config, task: str, seed: int, side: str) -> dict[str, Any]:
    """Returns a run: that of before if the same one is in the folder of runs."""
    which = {"task": task, "seed": seed, "side": side, "model": config.model}
    which |= {name: getattr(config, name) for name in ("steps", "batch", "every")}
    file = config.work / f"{task}-{side}-{seed}.json"
    if file.exists() and (found := json.loads(file.read_text())).items() >= which.items():
        return found
    with tempfile.TemporaryDirectory() as folder:
        job, python = TASKS[task](config, seed), config.interpreters.get(side)
        found = which | run(side, job, Path(folder), python=python, flags=("--packing",))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found))
    return found


def on_wordnet(config: Config, seed: int) -> FineTune:
    """The ranking loss on pairs none of whose texts stands twice, measured on words held out."""
    everything = open_dataset("wordnet-gloss")
    rows = everything.select(distinct(everything, config.batch * config.steps))
    held_out = wordnet("test", config.wheels)
    queries, answers = held_out["query"][:N_MEASURED], held_out["positive"][:N_MEASURED]
    texts = dict.fromkeys((*answers, *held_out["negative"][:N_MEASURED]))
    ids = {text: f"d{number}" for number, text in enumerate(texts)}
    return FineTune(
        config.model,
        "multiple_negatives_ranking",
        {"anchors": list(rows["query"]), "positives": list(rows["positive"])},
        config.batch,
        config.steps,
        learning_rate=2e-4,
        evaluation={
            "kind": "retrieval",
            "corpus": {name: text for text, name in ids.items()},
            "queries": {f"q{number}": text for number, text in enumerate(queries)},
            "relevant": {f"q{number}": [ids[text]] for number, text in enumerate(answers)},
            "every": config.every,
        },
        seed=seed,
    )


def on_sts(config: Config, seed: int) -> FineTune:
    """CoSENT on the training part, measured on the test part."""
    train, test = (named(sts(part, config.wheels)) for part in ("train", "test"))
    rows = config.batch * config.steps
    if rows > len(train["scores"]):
        raise ValueError(f"STS-B has {len(train['scores'])} rows, too few for {config.steps} steps")
    return FineTune(
        config.model,
        "cosent",
        {name: values[:rows] for name, values in train.items()},
        config.batch,
        config.steps,
        learning_rate=2e-4,
        evaluation={"kind": "similarity", **test, "every": config.every},
        seed=seed,
    )


TASKS: dict[str, Callable[[Config, int], FineTune]] = {"WordNet": on_wordnet, "STS-B": on_sts}


def named(columns: Columns) -> Columns:
    return dict(zip(("left", "right", "scores"), columns.values(), strict=True))


def key(one: dict[str, Any], side: str) -> tuple[str, int, str]:
    return one["task"], one["seed"], side


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Returns True if both began with the same metric and the same losses."""
    first, theirs = ([*r["losses"][:COMPARED], r["evaluations"][0]["value"]] for r in (one, other))
    return all(math.isclose(a, b, rel_tol=TOLERANCE) for a, b in zip(first, theirs, strict=True))


def chosen(runs: list[dict[str, Any]], task: str, side: str) -> list[dict[str, Any]]:
    return [one for one in runs if (one["task"], one["side"]) == (task, side)]


def final(one: dict[str, Any]) -> float:
    return one["evaluations"][-1]["value"]


def seconds_to(one: dict[str, Any], value: float) -> float:
    """Reads from the curve, straight between evaluations, when a metric was first reached."""
    before = one["evaluations"][0]
    for point in one["evaluations"]:
        if point["value"] >= value:
            x, y = (before["value"], point["value"]), (before["training_s"], point["training_s"])
            return float(np.interp(value, x, y)) if x[1] > x[0] else y[1]
        before = point
    return math.inf


def pairs_of(runs: list[dict[str, Any]], task: str, side: str) -> list[tuple[Any, Any]]:
    """Ours and the other side's run of each seed that both have."""
    ours = {one["seed"]: one for one in chosen(runs, task, OURS)}
    return [(ours[one["seed"]], one) for one in chosen(runs, task, side)]


def times_as_long(ours: dict[str, Any], theirs: dict[str, Any]) -> float | None:
    """Compares the seconds to the best metric that both reach; None if no step improved it."""
    best = min(max(point["value"] for point in one["evaluations"]) for one in (ours, theirs))
    own = seconds_to(ours, best)
    return seconds_to(theirs, best) / own if own else None


def held_to(runs: list[dict[str, Any]]) -> list[Target]:
    """Compares the metric after all steps, and the time to the best metric that both reach."""
    targets = []
    for task in dict.fromkeys(one["task"] for one in runs):
        for side in dict.fromkeys(one["side"] for one in runs if one["side"] != OURS):
            pairs = pairs_of(runs, task, side)
            if not pairs:
                continue
            better = statistics.mean(final(ours) - final(theirs) for ours, theirs in pairs)
            times = [time for ours, theirs in pairs if (time := times_as_long(ours, theirs))]
            bounds = (-EQUAL, 1.3) if side == ST else (None, None)
            steps = statistics.median(t["training_s"] / o["training_s"] for o, t in pairs)
            targets += [
                Target(
                    f"{task}: metric after all steps, ours - {side}", better, at_least=bounds[0]
                ),
                Target(f"{task}: time of all steps, {side} / ours", steps),
            ]
            if times:
                what = f"{task}: time to the same metric, {side} / ours"
                targets.append(Target(what, statistics.median(times), at_least=bounds[1]))
    return targets


def table(runs: list[dict[str, Any]]) -> list[list[str]]:
    """Writes a row for each side of each task."""
    rows = []
    for task, side in dict.fromkeys((one["task"], one["side"]) for one in runs):
        its = chosen(runs, task, side)
        after = [final(one) for one in its]
        rows.append([
            *(task, side + ("" if all(one["agrees"] for one in its) else ", differs")),
            f"{its[0]['evaluations'][0]['value']:.4f}",
            ", ".join(f"{value:.4f}" for value in after),
            f"{statistics.mean(after):.4f}",
            *(f"{statistics.median(one[name] for one in its):.1f}" for name in
              ("training_s", "total_s")),
        ])  # fmt: skip
    return rows


def draw(runs: list[dict[str, Any]], file: Path) -> None:
    """Draws the metric over the seconds of training, a line for each run."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for one in runs:
        points = [(point["training_s"], point["value"]) for point in one["evaluations"]]
        panels.setdefault(one["task"], {})[f"{one['side']}, seed {one['seed']}"] = points
    plots.curves(file, panels, across="seconds of training", logarithmic=False)


if __name__ == "__main__":
    # train.py asks for huge pages by itself; the other libraries run as they come
    report.command(main, Config, __doc__, huge_pages=False)
