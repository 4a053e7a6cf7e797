"""How long does a whole fine-tuning take: disk to saved model, in a fresh process?

100 steps of all-MiniLM-L6-v2 on pairs of the embedded data. Ours is `scripts/train.py`: cold, with
an empty cache of compiled programs, and warm, with that of an earlier run. The same steps by the
trainer of sentence-transformers, which compiles nothing, and by Representax, cold and warm. Losses
of the first steps must agree.

    python benchmarks/finetune.py --torch-python .venv-torch/bin/python
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import plots
import quality
import report
from fine_tuning import OURS, FineTune, run, versions_of
from peer import ST, SideFlags, check_device, tolerance
from report import Target
from sides import in_turns, spread

PARTS = {"first_step_s": "to the first step", "training_s": "all steps", "total_s": "whole process"}


@dataclass(frozen=True)
class Config(SideFlags):
    """Measures whole processes."""

    model: str = "all-MiniLM-L6-v2"
    """A name or folder, as `jaxembed.load` takes it."""
    steps: int = 100
    """Steps of a training."""
    batch: int = 64
    """Pairs of a step."""
    rounds: int = 3
    """Processes of each kind; the median counts."""
    output: Path = Path("runs/benchmarks")
    """Where table, picture and all times are written."""


def main(config: Config) -> int:
    """Measures and reports; returns 1 if the sides disagree."""
    interpreters = config.interpreters
    job = quality.on_wordnet(
        quality.Config(model=config.model, steps=config.steps, batch=config.batch), 0
    )
    job = replace(job, evaluation=None, dtype=config.dtype)
    with tempfile.TemporaryDirectory() as name:
        runs = measure(config, job, interpreters, Path(name))
    first = runs[f"{OURS}, cold"][0]["losses"][: quality.COMPARED]
    limit = tolerance(config.dtype, quality.TOLERANCE)
    rows = [row_of(side, its, first, limit) for side, its in runs.items()]
    names = ("model", "steps", "batch", "dtype", "rounds")
    firsts = ((side.partition(",")[0], its[0]) for side, its in runs.items())
    content: dict[str, Any] = {
        "question": "A whole fine-tuning, from disk to a saved model",
        "settings": {name: getattr(config, name) for name in names},
        "machine": report.machine(config.dtype),
        "versions": report.versions() | versions_of(firsts),
        "rows": rows,
    }
    columns = ["process", *(f"{title}, s (min–max)" for title in PARTS.values())]
    table = [[row["side"], *(spread(row[part]) for part in PARTS)] for row in rows]
    report.save(config.output, "finetune", content, columns, table, held_to(rows))
    draw(rows, config.output / "finetune.png")
    if differ := [row["side"] for row in rows if not row["agrees"]]:
        print(f"the first losses differ from ours: {', '.join(differ)}")
    return int(bool(differ))


def measure(
    config: Config, job: FineTune, interpreters: dict[str, Path], folder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Runs all processes in turns; what is warm has run before."""

    def once(side: str, cache: Path | None) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            python = interpreters.get(side)
            one = run(side, job, Path(own), python=python, cache=cache, flags=("--packing",))
        check_device(versions_of([(side, one)]))
        return one

    calls: dict[str, Callable[[], dict[str, Any]]] = {}
    for side in (OURS, *interpreters):
        if side == ST:
            calls[side] = partial(once, side, None)
        else:
            calls[f"{side}, cold"] = partial(once, side, None)
            calls[f"{side}, warm"] = partial(once, side, folder / f"{side}-compiled")
    for name in [name for name in calls if name.endswith("warm")]:
        calls[name]()  # fills its cache
    return in_turns(calls, config.rounds)


def row_of(
    side: str, runs: list[dict[str, Any]], first: list[float], limit: float
) -> dict[str, Any]:
    """Collects the times of a side, and whether its first losses are ours."""
    return {
        "side": side,
        **{part: [one[part] for one in runs] for part in PARTS},
        "losses": runs[0]["losses"],
        "agrees": all(
            abs(a - b) <= limit * abs(b) for a, b in zip(runs[0]["losses"], first, strict=False)
        ),
    }


def held_to(rows: list[dict[str, Any]]) -> list[Target]:
    """Compares the whole process with those of the other libraries."""
    medians = {row["side"]: statistics.median(row["total_s"]) for row in rows}
    bounds = {f"{OURS}, cold": 1.0, f"{OURS}, warm": 1.2}
    return [
        Target(
            f"whole process, {side} / {own}",
            medians[side] / medians[own],
            at_least=bound if side == ST else None,
        )
        for side in medians
        if not side.startswith(OURS)
        for own, bound in bounds.items()
        if side == ST or side.split(", ")[-1] == own.split(", ")[-1]
    ]


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draws the seconds of each part."""
    panels = {
        f"{title}, s": {row["side"]: statistics.median(row[part]) for row in rows}
        for part, title in PARTS.items()
    }
    plots.bars(file, panels)


if __name__ == "__main__":
    # train.py asks for huge pages by itself; the other libraries run as they come
    report.command(main, Config, __doc__, huge_pages=False)
