"""What do the compiled programs take: operations, memory, and how many programs does a run need?

Nothing is timed: figures of programs are the same on every run of a version of JAX, so they are
tests (tests/test_programs.py). Value and gradient of every loss, the streamed ranking loss, a
training step plain and cached, and the programs that a whole `train.py` leaves in its cache.

    python benchmarks/programs.py
    python benchmarks/programs.py --store   # remembers them as right, for this version of JAX
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cached_step
import jax
import report
import streamed_loss
from fine_tuning import TRAIN
from loss_functions import compile_value_and_gradient
from loss_workloads import chosen, workloads

from jaxembed.encoders import load
from jaxembed.training.compiled import program_cost

STORED = Path(__file__).parent / "results/programs.json"
TINY = Path(__file__).parents[1] / "tests/goldens/encoders/tiny"
ROWS, FEATURES = 64, 32  # of every loss
STREAMED = (4096, 64, 256)  # rows, features, rows of a block
PAIRS, CHUNK, TOKENS = 16, 4, 16  # of a training step
Figures = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Config:
    """Compiles, and compares with what is stored."""

    only: tuple[str, ...] = ()
    """Losses whose name contains one of these, and what is no loss; all if empty."""
    store: bool = False
    """Stores the figures, instead of comparing with those stored."""
    output: Path = Path("runs/benchmarks")
    """Where the table is written."""


def main(config: Config) -> int:
    """Reports; returns 1 if a figure is not the stored one."""
    if config.only and config.store:
        raise ValueError("--store is for all figures, not for --only some")
    found = {**of_losses(config.only), **of_streamed_loss(), **of_steps(), **of_a_run()}
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    platform = jax.devices()[0].platform
    which = jax.__version__ if platform == "cpu" else f"{jax.__version__} for {platform}"
    if config.store:
        stored = dict(sorted({**stored, which: found}.items()))
        STORED.write_text(json.dumps(stored, indent=1) + "\n")
    before = stored.get(which, {})
    content: dict[str, Any] = {
        "question": "What compiled programs take",
        "settings": {"losses": f"[{ROWS} {FEATURES}]", "step": f"{PAIRS} pairs, chunks of {CHUNK}"},
        "machine": {"compiled for": jax.devices()[0].device_kind},
        "versions": report.versions(),
        "rows": [{"name": name, **figures} for name, figures in found.items()],
    }
    columns = ["program", "flops", "bytes read and written", "temporaries, bytes", "programs"]
    names = ("flops", "memory_traffic", "temporaries", "n_programs")
    table = [
        [name, *(f"{figures[n]:,}" if n in figures else "–" for n in names)]
        for name, figures in found.items()
    ]
    report.save(config.output, "programs", content, columns, table)
    differ = differences(before, found)
    if not config.only:
        differ += [f"{name} is missing" for name in before.keys() - found.keys()]
    print(*differ, sep="\n")
    if not before:
        print(f"nothing is stored for jax {which}; --store does it")
    return int(bool(differ))


def differences(stored: Figures, found: Figures) -> list[str]:
    """Says which figures are not the stored ones."""
    return [
        f"{name}: {figure} was {value}, is {found[name][figure]}"
        for name, figures in stored.items()
        if name in found
        for figure, value in figures.items()
        if found[name][figure] != value
    ]


def of_losses(only: tuple[str, ...]) -> Figures:
    """Value and gradient of every loss, or of those named like one of `only`."""
    table = chosen(workloads(ROWS, FEATURES), only)
    return {row.name: figures(compile_value_and_gradient(row)) for row in table}


def of_streamed_loss() -> Figures:
    """The ranking loss in blocks of rows, and dense."""
    n, d, block_size = STREAMED
    array = jax.ShapeDtypeStruct((n, d), "float32")
    found = {}
    for name, size in ((f"streamed, block_size={block_size}", block_size), ("dense", None)):
        function = streamed_loss.value_and_gradient(size)
        program = streamed_loss.compile_for(function, array, array, streamed_loss.distinct(n))
        found[f"ranking loss of [{n} {d}], {name}"] = figures(program)
    return found


def of_steps() -> Figures:
    """The training step of a tiny model, plain and cached."""
    encoder = load(str(TINY), max_seq_length=TOKENS, dropout=False)
    batch = cached_step.read_batch(encoder, PAIRS, TOKENS)
    config = cached_step.Config(tokens=TOKENS, dropout=False)
    build = partial(cached_step.Step, encoder, batch, config)
    return {
        "training step, plain": figures(build(None).program),
        "training step, cached": figures(build(CHUNK).program),
    }


def of_a_run() -> Figures:
    """The programs that a short training compiles, evaluation and saving included."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, str(TRAIN), "--model", str(TINY), "--steps", "2"]
        words += ["--batch-size", "8", "--buckets", "16", "--max-seq-length", "16", "--no-dropout"]
        words += ["--no-split-lengths", "--evaluate", "none", "--output", f"{folder}/run"]
        done = subprocess.run(
            [*words, "--cache", f"{folder}/cache"], capture_output=True, text=True
        )
        if done.returncode:
            raise ValueError(f"train.py failed: {done.stderr.strip()[-2000:]}")
        programs = list(Path(folder, "cache").glob("*-cache"))
    return {"a training of 2 steps": {"n_programs": len(programs)}}


def figures(program: Any) -> dict[str, int]:
    cost = program_cost(program)
    return {
        "flops": cost.flops,
        "memory_traffic": cost.memory_traffic,
        "temporaries": cost.temporary_bytes,
    }


if __name__ == "__main__":
    report.command(main, Config, __doc__)
