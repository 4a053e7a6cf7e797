"""What do checkpoints cost: a save, the bytes on disk, and the way back after an interruption?

Training all-MiniLM-L6-v2 on pairs of the embedded data. Saving: parameters and both moments of
AdamW; for how long the training stands still, and until when the files are whole. Coming back:
scripts/train.py is stopped by SIGTERM after a few steps and goes on with --resume; seconds from the
start of the process to the end of its first step, beside those of a fresh start. The trainer of
sentence-transformers saves every few steps, and goes on from what it saved.

    python benchmarks/checkpoints.py --torch-python .venv-torch/bin/python
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import plots
import quality
import report
from fine_tuning import (
    OURS,
    TRAIN,
    FineTune,
    call_and_watch,
    command_of,
    records,
    run_peer,
    versions_of,
)
from peer import ST, PeerFlags
from report import Target
from sides import spread

import jaxembed
from jaxembed.training import Checkpoints, adamw, create_state, make_mesh

STOP_AFTER = 3  # steps


@dataclass(frozen=True)
class Config(PeerFlags):
    """Measures checkpoints and continuations."""

    model: str = "all-MiniLM-L6-v2"
    """A name or folder, as `jaxembed.load` takes it."""
    batch: int = 32
    """Pairs of a step."""
    rounds: int = 3
    """Of everything; the median counts."""
    output: Path = Path("runs/benchmarks")
    """Where table, picture and all times are written."""


def main(config: Config) -> int:
    """Measures and reports; returns 1 if a run that went on is not the run that was not stopped."""
    wanted = quality.Config(model=config.model, steps=3 * STOP_AFTER, batch=config.batch)
    job = replace(quality.on_wordnet(wanted, seed=0), evaluation=None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [ours(config, job, folder)]
        if python := config.interpreters.get(ST):
            rows.append(theirs(config, job, folder, python))
    content: dict[str, Any] = {
        "question": "The cost of checkpoints and of going on",
        "settings": {name: getattr(config, name) for name in ("model", "batch", "rounds")},
        "machine": report.machine(),
        "versions": report.versions() | versions_of((row["side"], row) for row in rows),
        "rows": rows,
    }
    columns = ["side", "MiB on disk", "of the state", "training stands still, s", "files whole, s"]
    columns += ["fresh start to first step, s", "continuation to first step, s"]
    report.save(
        config.output, "checkpoints", content, columns, list(map(cells, rows)), held_to(rows)
    )
    draw(rows, config.output / "checkpoints.png")
    if wrong := [row["side"] for row in rows if not row["same"]]:
        print(f"went on with other losses: {', '.join(wrong)}")
    return int(OURS in wrong)


def ours(config: Config, job: FineTune, folder: Path) -> dict[str, Any]:
    """Saves in this process, then stops and goes on in others."""
    row = saved(config, folder)
    cache = ("--cache", str(folder / "compiled"))
    whole = folder / "whole/run"
    row |= {"fresh_s": [], "resumed_s": [], "stopping_s": []}
    call_and_watch(command_of(job, folder / "whole", cache), whole / "log.jsonl")  # fills the cache
    uninterrupted = [record["loss"] for record in records(whole / "log.jsonl")]
    same = True
    for number in range(config.rounds):
        log = folder / f"{number}/run/log.jsonl"
        begin = time.time()
        first, stopping = stopped(command_of(job, folder / str(number), cache), log)
        row["fresh_s"].append(first - begin)
        row["stopping_s"].append(stopping)
        begin = time.time()
        resume = [sys.executable, str(TRAIN), "--resume", str(log.parent)]
        row["resumed_s"].append(call_and_watch(resume, log) - begin)
        same &= [record["loss"] for record in records(log)] == uninterrupted
    return row | {"same": same}


def saved(config: Config, folder: Path) -> dict[str, Any]:
    """Saves a state, as the training does while it goes on."""
    encoder = jaxembed.load(config.model)
    mesh = make_mesh(jax.devices()[:1])
    state = create_state({"encoder": encoder.params}, adamw(lambda step: 1e-5), mesh)
    key = jax.random.key(0)
    drawn = jax.tree.map(  # moments of a state that has not trained are zeros: they take no bytes
        lambda x: jax.random.normal(key, x.shape, x.dtype) if x.ndim else x, state.opt_state
    )
    state = jax.block_until_ready(replace(state, opt_state=drawn))
    row: dict[str, Any] = {"side": OURS, "blocked_s": [], "saved_s": []}
    row["state_bytes"] = sum(x.nbytes for x in jax.tree.leaves((state.params, state.opt_state)))
    for number in range(config.rounds + 1):  # the first finds nothing warm
        home = folder / f"checkpoint-{number}"
        checkpoints = Checkpoints(home, {}, keep=1)
        begin = time.perf_counter()
        checkpoints.save(1, state)
        blocked = time.perf_counter()
        checkpoints.close()
        if number:
            row["blocked_s"].append(blocked - begin)
            row["saved_s"].append(time.perf_counter() - begin)
    return row | {"disk_bytes": size_of(home)}


def stopped(words: list[str], log: Path) -> tuple[float, float]:
    """Stops a training by SIGTERM after some steps.

    Returns when its first step had ended, and the seconds from the signal to the end.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)
        first = 0.0
        while process.poll() is None and len(records(log)) < STOP_AFTER:
            first = first or (time.time() if records(log) else 0.0)
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        begin = time.time()
        process.wait()
        if process.returncode != 128 + signal.SIGTERM:
            said.seek(0)
            raise ValueError(f"{TRAIN.name} did not stop as it shall: {said.read()[-2000:]}")
    return first or begin, time.time() - begin


def theirs(config: Config, job: FineTune, folder: Path, python: Path) -> dict[str, Any]:
    """Has the library save after some steps, and go on from there."""
    row: dict[str, Any] = {"side": ST, "fresh_s": [], "resumed_s": [], "blocked_s": []}
    whole = run_peer(ST, job, folder / "their-whole", python)
    same = True
    for number in range(config.rounds):
        home = folder / f"theirs-{number}"
        first = run_peer(ST, job, home, python, save_every=STOP_AFTER, stop_after=STOP_AFTER)
        row["disk_bytes"] = size_of(home / "model-checkpoints")
        second = run_peer(ST, job, home, python, resume=True)
        row["fresh_s"].append(first["first_step_s"])
        row["blocked_s"] += first["save_s"]
        row["resumed_s"].append(second["first_step_s"])
        same &= whole["losses"][-len(second["losses"]) :] == second["losses"]
    return row | {"saved_s": row["blocked_s"], "same": same, "versions": whole["versions"]}


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def held_to(rows: list[dict[str, Any]]) -> list[Target]:
    """Says what going on takes beyond a fresh start, and compares with the library."""
    own, *others = rows
    median = statistics.median
    targets = [
        Target("bytes on disk / bytes of the state", own["disk_bytes"] / own["state_bytes"]),
        Target("going on / fresh start", median(own["resumed_s"]) / median(own["fresh_s"])),
        Target("from SIGTERM to the end of the process, seconds", median(own["stopping_s"])),
    ]
    for row in others:
        targets += [
            Target(f"{title}, {row['side']} / ours", median(row[fact]) / median(own[fact]))
            for title, fact in (
                ("training stands still", "blocked_s"),
                ("continuation to the first step", "resumed_s"),
            )
        ]
    return targets


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table."""
    return [
        row["side"] + ("" if row["same"] else ", other losses"),
        f"{row['disk_bytes'] / report.MIB:,.0f}",
        f"{row['disk_bytes'] / row['state_bytes']:.2f}" if "state_bytes" in row else "–",
        *(spread(row[fact]) for fact in ("blocked_s", "saved_s", "fresh_s", "resumed_s")),
    ]


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draws seconds and bytes."""
    panels = {
        title: {row["side"]: statistics.median(row[fact]) for row in rows}
        for title, fact in (
            ("training stands still for a save, s", "blocked_s"),
            ("continuation to its first step, s", "resumed_s"),
        )
    }
    panels["MiB on disk"] = {row["side"]: row["disk_bytes"] / report.MIB for row in rows}
    plots.bars(file, panels)


if __name__ == "__main__":
    # train.py asks for huge pages by itself; the other libraries run as they come
    report.command(main, Config, __doc__, huge_pages=False)
