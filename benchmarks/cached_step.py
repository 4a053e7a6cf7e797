"""What does a cached training step cost beside the plain one, in time and memory?

One step of the product: the ranking loss over encoded anchors and positives, its gradient, clipping
and AdamW, in one compiled program with donated state. Once with all rows encoded at once and once
with `mini_batch_size`, which encodes some at a time and each twice. The steps of other libraries
have the same weights, tokens and threads. All agree on loss and gradient norm, then they are
measured in turns.

    python benchmarks/cached_step.py --torch-python .venv-torch/bin/python
    python benchmarks/cached_step.py --batch 64 --chunk 16 --dropout
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import plots
import report
from loss_time import TOLERANCE, their_seconds
from peer import Peer, SideFlags, close, open_peers, tolerance, versions_of
from program_figures import call_memory, figures
from report import Target
from rich.progress import track
from sides import in_turns, spread
from timing import enough_repeats, seconds_per_call

from jaxembed.data import (
    BatchPlan,
    bind_columns,
    make_batch,
    no_duplicates_plan,
    open_dataset,
    row_hashes,
)
from jaxembed.encoders import Encoder, load
from jaxembed.encoders.finding import find
from jaxembed.objectives import REGISTRY
from jaxembed.training import adamw, batch_sharding, build_train_step, create_state, make_mesh

OBJECTIVE = REGISTRY["multiple_negatives_ranking"]
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 2e-5, 0.01, 1.0
OURS = "ours"
KINDS = ("plain", "cached")


@dataclass(frozen=True)
class Config(SideFlags):
    """Measures training steps, plain and cached."""

    model: str = "all-MiniLM-L6-v2"
    """A name or folder, as `jaxembed.load` takes it."""
    batch: tuple[int, ...] = (64, 256)
    """Pairs of texts; several give a curve."""
    chunk: int = 32
    """Texts that the cached step encodes at once."""
    tokens: int = 32
    """Every text is padded or cut to so many."""
    dropout: bool = False
    """With it the sides draw differently, and are not compared."""
    rounds: int = 7
    """Measurements of each side; the median counts."""
    output: Path = Path("runs/benchmarks")
    """Where table, picture and all times are written."""


class Step:
    """A compiled training step, and the state that it moves on."""

    def __init__(self, encoder: Encoder, batch: dict[str, Any], config: Config, chunk: int | None):
        mesh = make_mesh()
        schedule = optax.constant_schedule(LEARNING_RATE)
        optimizer = adamw(schedule, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM)
        loss_fn = OBJECTIVE.build(encoder.apply, mini_batch_size=chunk, mesh=mesh)
        step = build_train_step(loss_fn, optimizer, schedule, mesh)
        self.batch = jax.device_put(batch, batch_sharding(mesh))
        self.key = jax.random.key(0) if config.dropout else None
        self.state = create_state({"encoder": encoder.params}, optimizer, mesh)
        begin = time.perf_counter()
        self.program = step.lower(self.state, self.batch, self.key).compile()
        self.compile_s = time.perf_counter() - begin

    def __call__(self) -> dict[str, Any]:
        self.state, metrics = self.program(self.state, self.batch, self.key)
        return jax.block_until_ready(metrics)


def main(config: Config) -> int:
    """Measures and reports; returns 1 if the sides disagree."""
    if not 1 <= config.chunk < min(config.batch):
        raise ValueError(f"--chunk must be less than --batch {config.batch}; got {config.chunk}")
    peers = open_peers(config, "steps")
    options = {"dropout": config.dropout, "dtype": jnp.dtype(config.dtype)}
    encoder = load(config.model, max_seq_length=config.tokens, **options)
    names = ("model", "chunk", "tokens", "dropout", "dtype", "rounds")
    content: dict[str, Any] = {
        "question": "A training step, plain and cached",
        "settings": {name: getattr(config, name) for name in names},
        "machine": report.machine(config.dtype),
        "versions": report.versions() | versions_of(peers),
    }
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for size in track(config.batch, "measuring", transient=True):
        sides = measure(encoder, size, config, peers)
        rows += sides.values()
        targets += held_to(size, sides)
    close(peers)
    content["sides"] = rows
    columns = ["step", "pairs", "seconds (min–max)", "/ plain", "/ ours", "GFLOP", "GFLOP/s"]
    columns += ["temporaries, MiB", "measured, MiB", "compile, s"]
    report.save(config.output, "cached_step", content, columns, list(map(cells, rows)), targets)
    draw(rows, config.output / "cached_step.png")
    if differ := [f"{row['library']}, {row['kind']}" for row in rows if not row["agrees"]]:
        print(f"loss or gradient norm differ from the plain step's: {', '.join(differ)}")
    return int(bool(differ))


def read_batch(encoder: Encoder, size: int, tokens: int) -> dict[str, Any]:
    """Reads a batch of the embedded data; no text is in it twice."""
    rows = bind_columns(open_dataset("wordnet-gloss"), OBJECTIVE.roles)
    plan_fn = partial(no_duplicates_plan, row_hashes(rows), batch_size=size, seed=0)
    tokenizer = encoder.tokenizer.with_buckets((tokens,))
    indices = BatchPlan(plan_fn).rows(0)
    return make_batch(rows, OBJECTIVE.roles, indices, lambda texts, role: tokenizer(texts))


def measure(
    encoder: Encoder, size: int, config: Config, peers: dict[str, Peer]
) -> dict[str, dict[str, Any]]:
    """Takes a first step of each side, compares them, then measures in turns."""
    batch = read_batch(encoder, size, config.tokens)
    real = [batch[role]["attention_mask"] for role in OBJECTIVE.roles.texts]
    rows: dict[str, dict[str, Any]] = {}
    calls = {}
    for kind, chunk in zip(KINDS, (None, config.chunk), strict=True):
        step = Step(encoder, batch, config, chunk)
        metrics = step()
        rows[f"{OURS}, {kind}"] = {
            **{"library": OURS, "kind": kind, "batch": size, "padding": 1 - float(np.mean(real))},
            "loss": float(metrics["loss"]),
            "gradient_norm": float(metrics["grad_norm"]),
            "resident_growth": call_memory(step, step.program),
            "compile_s": step.compile_s,
            **figures(step.program),
        }
        calls[f"{OURS}, {kind}"] = partial(seconds_per_call, step, enough_repeats(step))
        for library, peer in peers.items():
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "tokens.npz"
                np.savez(file, allow_pickle=False, **tokens_by_column(batch))
                answer = peer.ask(
                    load=kind,
                    model=str(find(config.model).resolve()),
                    tokens=str(file),
                    chunk=chunk,
                    dropout=config.dropout,
                    dtype=config.dtype,
                    learning_rate=LEARNING_RATE,
                    weight_decay=WEIGHT_DECAY,
                    clip_norm=CLIP_NORM,
                )
            name = f"{library}, {kind}"
            rows[name] = {"library": library, "kind": kind, "batch": size, **answer}
            calls[name] = partial(their_seconds, peer, kind)
    plain = rows[f"{OURS}, plain"]
    for row in rows.values():
        row["agrees"] = config.dropout or all(
            math.isclose(row[name], plain[name], rel_tol=tolerance(config.dtype, TOLERANCE))
            for name in ("loss", "gradient_norm")
        )
    for name, seconds in in_turns(calls, config.rounds).items():
        rows[name] |= {"seconds": seconds, "median_s": statistics.median(seconds)}
    for row in rows.values():
        row["by_plain"] = row["median_s"] / rows[f"{row['library']}, plain"]["median_s"]
        row["by_ours"] = row["median_s"] / rows[f"{OURS}, {row['kind']}"]["median_s"]
    return rows


def tokens_by_column(batch: dict[str, Any]) -> dict[str, np.ndarray]:
    """Names the arrays of tokens `column/entry`."""
    return {
        f"{role}/{entry}": array
        for role in OBJECTIVE.roles.texts
        for entry, array in batch[role].items()
    }


def held_to(size: int, rows: dict[str, dict[str, Any]]) -> list[Target]:
    """Compares cached with plain, and both with the other libraries."""
    ours, plain = rows[f"{OURS}, cached"], rows[f"{OURS}, plain"]
    what = f"{size} pairs, cached / plain"
    targets = [
        Target(f"{what}, time", ours["by_plain"], at_most=1.40),
        *(
            Target(f"{what}, {name}", ours[name] / plain[name])
            for name in ("flops", "temporaries")
            if name in ours
        ),
    ]
    for name, row in rows.items():
        if row["library"] != OURS:
            targets.append(Target(f"{size} pairs, {name} / ours, time", row["by_ours"]))
            if row["resident_growth"] and rows[f"{OURS}, {row['kind']}"]["resident_growth"]:
                growth = row["resident_growth"] / rows[f"{OURS}, {row['kind']}"]["resident_growth"]
                targets.append(Target(f"{size} pairs, {name} / ours, memory", growth))
    return targets


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table."""
    seconds, growth = row["median_s"], row["resident_growth"]
    known, counted = "temporaries" in row, "flops" in row
    return [
        f"{row['library']}, {row['kind']}",
        f"{row['batch']}",
        spread(row["seconds"]) + ("" if row["agrees"] else ", values differ"),
        f"{row['by_plain']:.3f}",
        f"{row['by_ours']:.3f}",
        f"{row['flops'] / 1e9:,.1f}" if counted else "–",
        f"{row['flops'] / seconds / 1e9:,.0f}" if counted else "–",
        f"{row['temporaries'] / report.MIB:,.0f}" if known else "–",
        "–" if growth is None else f"{growth / report.MIB:,.0f}",
        f"{row['compile_s']:.1f}" if known else "–",
    ]


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draws time and memory of all steps over the number of pairs."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for title, fact, unit in (
        ("a step, seconds", "median_s", 1),
        ("memory of a step, MiB", "resident_growth", report.MIB),
    ):
        for row in rows:
            if row[fact]:
                lines = panels.setdefault(title, {})
                name = f"{row['library']}, {row['kind']}"
                lines.setdefault(name, []).append((row["batch"], row[fact] / unit))
    plots.curves(file, panels, across="pairs")


if __name__ == "__main__":
    report.command(main, Config, __doc__)
