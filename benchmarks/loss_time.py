"""Is value-and-gradient of every loss at least as fast as the PyTorch library's, on one machine?

Both sides get the same arrays, n rows of d features in float32, and all cores. First they have to
agree on the value and on the norm of the gradient, then they are measured in turns: medians, after
compilation and warm-up. The library's own classes run in the other interpreter (README.md says how
to make it); without one, only ours is measured.

    python benchmarks/loss_time.py --torch-python .venv-torch/bin/python
    python benchmarks/loss_time.py --only cosent batch_ --rounds 11
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import report
from loss_functions import compile_value_and_gradient, inputs, losses_without_workload
from loss_workloads import Workload, chosen, workloads
from peer import Peer
from rich.progress import track
from timing import enough_repeats, seconds_per_call

TOLERANCE = 1e-3  # relative, of value and gradient norm
PATIENCE_S = 30.0  # no further round of a loss after so long


@dataclass(frozen=True)
class Config:
    """Measures the time of value and gradient of every loss."""

    torch_python: Path | None = None
    """The interpreter of an environment with torch and sentence-transformers."""
    only: tuple[str, ...] = ()
    """Losses whose name contains one of these."""
    rounds: int = 7
    """Measurements of each side; the median counts."""
    n: int = 1024
    """Rows."""
    d: int = 384
    """Features."""
    output: Path = Path("runs/benchmarks")
    """Where the table and all times are written."""


def main(config: Config) -> int:
    """Measures and reports; returns 1 if the sides disagree anywhere."""
    table = workloads(config.n, config.d)
    if missing := losses_without_workload(table):
        raise ValueError(f"loss_workloads.py has no row for {missing}")
    script = "sentence_transformers_losses.py"
    peer = Peer(config.torch_python, script) if config.torch_python else None
    settings = {"n": config.n, "d": config.d, "dtype": "float32", "rounds": config.rounds}
    content: dict[str, Any] = {
        "question": "Value and gradient of every loss: ours and the PyTorch library's",
        "settings": settings,
        "machine": report.machine(),
        "versions": report.versions() | (peer.versions if peer else {}),
    }
    rows = [
        measure(workload, config, peer)
        for workload in track(chosen(table, config.only), "measuring", transient=True)
    ]
    if peer:
        peer.close()
    columns = ["loss", "embeddings", "ours, ms", "library, ms", "library / ours"]
    columns += ["compile, s", "memory, MiB"]
    content["losses"] = rows
    report.save(config.output, "loss_time", content, columns, [cells(row) for row in rows])
    slower = [row["name"] for row in rows if (ratio(row) or 1) < 1]
    print(f"slower than the library: {', '.join(slower) or 'none'}")
    return int(not all(row["agrees"] for row in rows))


def measure(workload: Workload, config: Config, peer: Peer | None) -> dict[str, Any]:
    """Compares one loss, then measures both sides in turns."""
    begin = time.perf_counter()
    function = compile_value_and_gradient(workload)
    compile_s = time.perf_counter() - begin
    arrays = inputs(workload)

    def ours() -> Any:
        return jax.block_until_ready(function(*arrays))

    value, gradient = ours()
    squares = sum(float(jnp.vdot(part, part)) for part in jax.tree.leaves(gradient))
    memory = function.memory_analysis()
    row: dict[str, Any] = {
        "name": workload.name,
        "shape": workload.shape,
        "value": float(value),
        "gradient_norm": math.sqrt(squares),
        "compile_s": compile_s,
        "memory_bytes": memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes,
        "agrees": True,
        "seconds": [],
    }
    theirs = peer.ask(load=workload.name, n=config.n, d=config.d) if peer else {"known": False}
    if theirs["known"]:
        row["library_value"], row["library_gradient_norm"] = (
            theirs["value"],
            theirs["gradient_norm"],
        )
        row["agrees"] = all(
            math.isclose(row[name], row[f"library_{name}"], rel_tol=TOLERANCE)
            for name in ("value", "gradient_norm")
        )
        row["library_seconds"] = []

    repeats = enough_repeats(ours)
    begin = time.perf_counter()
    for turn in range(config.rounds):
        if time.perf_counter() - begin > PATIENCE_S:
            break
        for side in ("ours", "library") if turn % 2 == 0 else ("library", "ours"):
            if side == "ours":
                row["seconds"].append(seconds_per_call(ours, repeats))
            elif peer and theirs["known"]:
                row["library_seconds"].append(peer.ask(measure=workload.name)["seconds"])
    return row


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table."""
    ours = statistics.median(row["seconds"])
    library, times = "–", "–"
    if faster := ratio(row):
        library = f"{1e3 * statistics.median(row['library_seconds']):.2f}"
        times = f"{faster:.2f}" if row["agrees"] else "values differ"
    resources = [f"{row['compile_s']:.1f}", f"{row['memory_bytes'] / report.MIB:,.0f}"]
    return [row["name"], row["shape"], f"{1e3 * ours:.2f}", library, times, *resources]


def ratio(row: dict[str, Any]) -> float | None:
    """How many times as long the library takes; None where it has no counterpart."""
    if not row.get("library_seconds"):
        return None
    return statistics.median(row["library_seconds"]) / statistics.median(row["seconds"])


if __name__ == "__main__":
    report.command(main, Config, __doc__)
