"""How long does a training take from the start of its process to its first finished step?

Fresh processes do what scripts/train.py does: import, load model, tokenizer and data, make a batch,
trace, compile, and take two steps, the second of which shows what a step takes later on. Cold,
nothing has been compiled before; warm, a run before has filled the cache of compiled programs. That
one also says which packages are imported until the first step, and how long their own modules take.

The last row compiles a step of BERT-base in bfloat16 for TPUs that are not there, by libtpu.

    python benchmarks/startup.py
    python benchmarks/startup.py --sources jaxembed --rounds 1 --topology None
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import report
from peer import DType, tolerance
from report import Target
from sides import in_turns, spread

HERE = Path(__file__).parent
PARTS = ("imports", "loading", "tracing", "compiling", "first step", "second step")
IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")  # of python -X importtime


@dataclass(frozen=True)
class Config:
    """Measures processes from their start to their first step."""

    model: str = "all-MiniLM-L6-v2"
    """A name or folder, as `jaxembed.load` takes it."""
    sources: tuple[str, ...] = ("jaxembed", "transformers")
    """Whose models: our own, and the Flax ones of transformers 4."""
    batch: int = 64
    """Pairs of texts of a step."""
    tokens: int = 64
    """Every text is padded or cut to so many."""
    dropout: bool = False
    """On a CPU it takes most of a step's time."""
    dtype: DType = "float32"
    """The precision of the step here; that for TPUs has bfloat16."""
    topology: str | None = "v5e:4x4"
    """The TPUs that a step is compiled for; None leaves that out."""
    tpu_model: Literal["tiny", "minilm", "bert-base"] = "bert-base"
    """The model of that step."""
    tpu_batch: int = 1024
    """Pairs of texts of that step."""
    libtpu: Path = Path(sys.prefix) / "libtpu"
    """The folder where libtpu is installed, apart from the environment."""
    rounds: int = 5
    """Processes of each kind; the median counts."""
    output: Path = Path("runs/benchmarks")
    """Where the table and all times are written."""


def main(config: Config) -> int:
    """Measures and reports; returns 1 if the sources disagree."""
    if config.topology and not config.libtpu.is_dir():
        raise ValueError(f"--libtpu must be a folder; got {config.libtpu}")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(config, Path(folder))
    targets = held_to(rows)
    names = ("model", "batch", "tokens", "dropout", "dtype", "topology")
    names += ("tpu_model", "tpu_batch", "rounds")
    content: dict[str, Any] = {
        "question": "From the start of a process to the first step of its training",
        "settings": {name: getattr(config, name) for name in names},
        "machine": report.machine(config.dtype),
        "versions": report.versions(),
        "rows": rows,
    }
    columns = ["process", *PARTS, "to the first step (min–max)", "of that, to wait for (min–max)"]
    report.save(config.output, "startup", content, columns, list(map(cells, rows)), targets)
    losses = [row["loss"] for row in rows if "loss" in row]
    if differ := not config.dropout and not math.isclose(
        min(losses, default=0), max(losses, default=0), rel_tol=tolerance(config.dtype, 1e-3)
    ):
        print(f"the losses of the second step differ: {losses}")
    return int(differ)


def measure(config: Config, folder: Path) -> list[dict[str, Any]]:
    """Fills the caches, then measures in turns."""
    rows: dict[str, dict[str, Any]] = {}
    calls: dict[str, Callable[[], dict[str, float]]] = {}

    def cold(source: str) -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            return first_steps(config, source, Path(empty))["seconds"]

    def warm(source: str) -> dict[str, float]:
        return first_steps(config, source, folder / source)["seconds"]

    for source in config.sources:
        facts = first_steps(config, source, folder / source, "-X", "importtime")
        del facts["seconds"]
        rows |= {f"{source}, cold": facts, f"{source}, warm": facts}
        calls |= {
            f"{source}, cold": partial(cold, source),
            f"{source}, warm": partial(warm, source),
        }
    if config.topology:
        name = f"{config.tpu_model} for {config.topology}"
        rows[name] = {}
        calls[name] = partial(tpu_compile, config)
    for name, runs in in_turns(calls, config.rounds).items():
        rows[name] = {"process": name, "runs": runs, "wait_s": list(map(wait, runs)), **rows[name]}
    return list(rows.values())


def wait(seconds: dict[str, float]) -> float:
    """Adds up what lies between the imports and the first step's end, less a steady step."""
    until_first = sum(seconds.get(part, 0) for part in PARTS[1:-1])
    return until_first - seconds.get("second step", 0)


def first_steps(config: Config, source: str, cache: Path, *options: str) -> dict[str, Any]:
    """Trains for two steps in a process of its own, with `options` of the interpreter."""
    flags = {
        "model": config.model,
        "encoder_source": source,
        "batch_size": config.batch,
        "max_seq_length": config.tokens,
        "buckets": [config.tokens],
        "split_lengths": False,
        "dropout": config.dropout,
        "dtype": config.dtype,
    }
    script = [*options, HERE / "first_steps.py", time.time(), cache, json.dumps(flags)]
    answer, errors = run(script, HERE.parent / "scripts")
    imports = [(name, int(us) / 1e6) for us, name in IMPORT_TIME.findall(errors)]
    answer["imported_s"] = {
        package: round(sum(s for name, s in imports if f"{name}.".startswith(f"{package}.")), 4)
        for package in answer.pop("imported")
    }
    return answer


def tpu_compile(config: Config) -> dict[str, float]:
    """Compiles a step for TPUs, in a process of its own."""
    arguments = [config.tpu_model, config.tpu_batch, config.tokens, config.topology]
    environment = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
    environment["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    return run([HERE / "tpu_compile.py", *arguments], config.libtpu, **environment)[0]["seconds"]


def run(script: Sequence[Any], path: Path, **environment: str) -> tuple[dict[str, Any], str]:
    """Runs a script that finds more modules in `path`; returns what it printed, read as JSON."""
    process = subprocess.run(
        [sys.executable, *map(str, script)],
        env={**os.environ, "PYTHONPATH": str(path), **environment},
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise ValueError(f"a process ended early: {process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1]), process.stderr


def held_to(rows: list[dict[str, Any]]) -> list[Target]:
    """Holds our own models to bounds; the other ones are only reported."""
    bounds = {"jaxembed, cold": 10, "jaxembed, warm": 3}
    return [
        Target(
            f"{row['process']}, seconds to wait for",
            statistics.median(row["wait_s"]),
            at_most=bounds.get(row["process"], None if "loss" in row else 30),
        )
        for row in rows
    ]


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table: medians of the parts, and spreads of the sums."""
    parts = {part: [run[part] for run in row["runs"] if part in run] for part in PARTS}
    medians = [f"{statistics.median(s):.2f}" if s else "–" for s in parts.values()]
    totals = [sum(run.values()) - run.get("second step", 0) for run in row["runs"]]
    return [row["process"], *medians, spread(totals), spread(row["wait_s"])]


if __name__ == "__main__":
    report.command(main, Config, __doc__)
