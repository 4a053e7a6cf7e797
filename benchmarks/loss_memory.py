"""How much memory does value-and-gradient of each loss need at 4,096 rows: each less than 1 GiB?

Says what the compiled programs need in float32: arguments, temporaries and results. With --run each
also runs in a fresh process, which reports by how much that raises its peak of resident memory.

    python benchmarks/loss_memory.py --run
    python benchmarks/loss_memory.py --only ranking gist --n 8192
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import report
from loss_functions import compile_value_and_gradient, inputs, losses_without_workload
from loss_workloads import Workload, chosen, workloads
from rich.progress import track

BOUND = 2**30  # bytes


@dataclass(frozen=True)
class Config:
    """Measures the memory of value and gradient of every loss."""

    run: bool = False
    """Also runs each loss, in a process of its own."""
    only: tuple[str, ...] = ()
    """Losses whose name contains one of these."""
    n: int = 4096
    """Rows."""
    d: int = 384
    """Features."""
    output: Path = Path("runs/benchmarks")
    """Where the table is written."""


def main(config: Config) -> int:
    """Measures and reports; returns 1 if any loss needs more than the bound."""
    table = workloads(config.n, config.d)
    if missing := losses_without_workload(table):
        raise ValueError(f"loss_workloads.py has no row for {missing}")
    content: dict[str, Any] = {
        "question": "Memory of value and gradient of every loss: less than 1 GiB (2^30 bytes)?",
        "settings": {"n": config.n, "d": config.d, "dtype": "float32"},
        "machine": report.machine(),
        "versions": report.versions(),
    }
    rows = []
    for workload in track(chosen(table, config.only), "compiling", transient=True):
        rows.append(compiled_memory(workload))
        if config.run:
            rows[-1]["resident_growth"] = run_alone(workload.name, config)
    columns = ["loss", "embeddings", "arguments", "temporaries", "results", "sum, MiB"]
    columns += [*(["measured, MiB"] if config.run else []), "below 1 GiB"]
    content["losses"] = rows
    report.save(config.output, "loss_memory", content, columns, [cells(row) for row in rows])
    return int(any(needed(row) > BOUND for row in rows))


def compiled_memory(workload: Workload) -> dict[str, Any]:
    """Reads the bytes of a compiled program."""
    memory = compile_value_and_gradient(workload).memory_analysis()
    return {
        "name": workload.name,
        "shape": workload.shape,
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "results": memory.output_size_in_bytes,
    }


def run_alone(name: str, config: Config) -> int:
    """Runs one loss in a fresh process.

    Forked from a small server: the child of a large process would inherit its peak.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([])
    with context.Pool(1) as pool:
        return pool.apply(resident_growth, (name, config.n, config.d))


def resident_growth(name: str, n: int, d: int) -> int:
    """Measures how far arguments, temporaries and results raise the peak of resident bytes."""
    (workload,) = (row for row in workloads(n, d) if row.name == name)
    function = compile_value_and_gradient(workload)
    before = peak_resident()
    arrays = inputs(workload)
    jax.block_until_ready(function(*arrays))
    return peak_resident() - before


def peak_resident() -> int:
    """Reads the highest resident memory this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def needed(row: dict[str, Any]) -> int:
    """Returns the larger of what the program says and what was measured."""
    program = row["arguments"] + row["temporaries"] + row["results"]
    return max(program, row.get("resident_growth", 0))


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table."""
    sizes = [row["arguments"], row["temporaries"], row["results"]]
    sizes.append(sum(sizes))
    if "resident_growth" in row:
        sizes.append(row["resident_growth"])
    verdict = "yes" if needed(row) <= BOUND else "NO"
    return [row["name"], row["shape"], *(f"{x / report.MIB:,.0f}" for x in sizes), verdict]


if __name__ == "__main__":
    report.command(main, Config, __doc__)
