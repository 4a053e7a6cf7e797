"""Is value-and-gradient of every loss at least as fast as that of the other libraries?

All sides get the same arrays, n rows of d features, and all cores; the losses raise bfloat16 to
float32. First they have to agree on the value and on the norm of the gradient, then they are
measured in turns: medians, after compilation and warm-up. The libraries' own classes and functions
run in the interpreters that are given (`python -m benchmarks` makes them); without any, only ours
is measured.

    python benchmarks/loss_time.py --torch-python .venv-torch/bin/python
    python benchmarks/loss_time.py --only cosent batch_ --n 256 1024 4096
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import plots
import report
from loss_functions import compile_value_and_gradient, inputs, losses_without_workload
from loss_workloads import Workload, chosen, workloads
from peer import ST, Peer, SideFlags, close, open_peers, tolerance, versions_of
from report import Target
from rich.progress import track
from sides import in_turns
from timing import enough_repeats, seconds_per_call

TOLERANCE = 1e-3  # relative, of value and gradient norm
PATIENCE_S = 30.0  # no further round of a loss after so long
OURS = "ours"


@dataclass(frozen=True)
class Config(SideFlags):
    """Measures the time of value and gradient of every loss."""

    only: tuple[str, ...] = ()
    """Losses whose name contains one of these."""
    rounds: int = 7
    """Measurements of each side; the median counts."""
    n: tuple[int, ...] = (1024,)
    """Rows; several give curves."""
    peer_limit: int = 1024
    """With more rows than this, only ours is measured: others build cubes of numbers."""
    d: int = 384
    """Features."""
    output: Path = Path("runs/benchmarks")
    """Where table, picture and all times are written."""


def main(config: Config) -> int:
    """Measures and reports; returns 1 if the sides disagree anywhere."""
    tables = {n: workloads(n, config.d) for n in config.n}
    if missing := losses_without_workload(tables[config.n[0]]):
        raise ValueError(f"loss_workloads.py has no row for {missing}")
    wanted = [(n, row) for n, table in tables.items() for row in chosen(table, config.only)]
    peers = open_peers(config, "losses")
    content: dict[str, Any] = {
        "question": "Value and gradient of every loss",
        "settings": {"n": config.n, "d": config.d, "dtype": config.dtype, "rounds": config.rounds},
        "machine": report.machine(),
        "versions": report.versions() | versions_of(peers),
    }
    rows = [
        measure(workload, n, config, peers if n <= config.peer_limit else {})
        for n, workload in track(wanted, "measuring", transient=True)
    ]
    close(peers)
    content["losses"] = rows
    columns = ["loss", "embeddings", "ours, ms"]
    columns += [part for name in peers for part in (f"{name}, ms", f"{name} / ours")]
    columns += ["compile, s", "memory, MiB"]
    table = [cells(row, [*peers]) for row in rows]
    report.save(config.output, "loss_time", content, columns, table, held_to(rows, config))
    draw(rows, config.output / "loss_time.png")
    return int(not all(row["agrees"] for row in rows))


def measure(workload: Workload, n: int, config: Config, peers: dict[str, Peer]) -> dict[str, Any]:
    """Compares one loss, then measures all sides in turns."""
    begin = time.perf_counter()
    function = compile_value_and_gradient(workload, config.dtype)
    compile_s = time.perf_counter() - begin
    arrays = inputs(workload, config.dtype)

    def ours() -> Any:
        return jax.block_until_ready(function(*arrays))

    value, gradient = ours()
    memory = function.memory_analysis()
    found = {OURS: {"value": float(value), "gradient_norm": norm(gradient)}}
    calls: dict[str, Callable[[], float]] = {
        OURS: partial(seconds_per_call, ours, enough_repeats(ours))
    }
    for name, peer in peers.items():
        answer = peer.ask(load=workload.name, n=n, d=config.d, dtype=config.dtype)
        if answer.pop("known"):
            found[name], calls[name] = answer, partial(their_seconds, peer, workload.name)

    return {
        "name": workload.name,
        "n": n,
        "shape": workload.shape,
        "compile_s": compile_s,
        "memory_bytes": memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes,
        "found": found,
        "agrees": all(
            math.isclose(
                theirs[fact], found[OURS][fact], rel_tol=tolerance(config.dtype, TOLERANCE)
            )
            for theirs in found.values()
            for fact in found[OURS]
        ),
        "seconds": in_turns(calls, config.rounds, patience_s=PATIENCE_S),
    }


def norm(arrays: Any) -> float:
    """The Euclidean one of all entries."""
    whole = (part.astype(jnp.float32) for part in jax.tree.leaves(arrays))
    return math.sqrt(sum(float(jnp.vdot(part, part)) for part in whole))


def their_seconds(peer: Peer, name: str) -> float:
    return peer.ask(measure=name)["seconds"]


def ratio(row: dict[str, Any], peer: str) -> float | None:
    """How many times as long the peer takes; None where it has no counterpart."""
    if peer not in row["seconds"]:
        return None
    return statistics.median(row["seconds"][peer]) / statistics.median(row["seconds"][OURS])


def ratios(rows: list[dict[str, Any]], peer: str, n: int) -> dict[str, float]:
    """Those of all losses that the peer has, by name."""
    found = {row["name"]: ratio(row, peer) for row in rows if row["n"] == n}
    return {name: value for name, value in found.items() if value is not None}


def compared(rows: list[dict[str, Any]]) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yields what is compared: the peer, the number of rows, the ratio of each loss."""
    for peer in dict.fromkeys(name for row in rows for name in row["seconds"] if name != OURS):
        for n in dict.fromkeys(row["n"] for row in rows):
            if found := ratios(rows, peer, n):
                yield peer, n, found


def held_to(rows: list[dict[str, Any]], config: Config) -> list[Target]:
    """Compares the least and the median ratio; the targets are those of 1,024 rows."""
    targets = []
    for peer, n, found in compared(rows):
        bounds = (1.0, 1.8) if (peer, n) == (ST, 1024) else (None, None)
        least = min(found, key=lambda name: found[name])
        slower = sum(value < 1 for value in found.values())
        what = f"{peer} / ours at {n:,} rows"
        targets += [
            Target(f"{what}, least of {len(found)} ({least})", found[least], at_least=bounds[0]),
            Target(f"{what}, median", statistics.median(found.values()), at_least=bounds[1]),
            Target(f"{what}, losses below 1", slower),
        ]
    return targets


def cells(row: dict[str, Any], peers: list[str]) -> list[str]:
    """Writes a row of the table."""
    theirs = []
    for name in peers:
        times = ratio(row, name)
        if times is None:
            theirs += ["–", "–"]
        else:
            median = f"{1e3 * statistics.median(row['seconds'][name]):.2f}"
            theirs += [median, f"{times:.2f}" if row["agrees"] else "values differ"]
    ours = f"{1e3 * statistics.median(row['seconds'][OURS]):.2f}"
    resources = [f"{row['compile_s']:.1f}", f"{row['memory_bytes'] / report.MIB:,.0f}"]
    return [row["name"], row["shape"], ours, *theirs, *resources]


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draws how many times as long the libraries take, or over n how long ours takes."""
    panels = {f"{peer}'s time / ours, {n:,} rows": found for peer, n, found in compared(rows)}
    if panels:
        plots.bars(file, panels, line=1.0)
    else:
        names = dict.fromkeys(row["name"] for row in rows)
        lines = {
            name: [
                (row["n"], 1e3 * statistics.median(row["seconds"][OURS]))
                for row in rows
                if row["name"] == name
            ]
            for name in names
        }
        plots.curves(file, {"value and gradient, ms": lines}, across="rows")


if __name__ == "__main__":
    report.command(main, Config, __doc__)
