"""What benchmarks report: the machine and its speed, versions, a table on screen and in files."""

from __future__ import annotations

import json
import os
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table
from timing import seconds_for

MIB = 2**20


def machine() -> dict[str, Any]:
    """Describes where this runs, without its name, and the limit of its speed."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    devices = jax.devices()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "devices": f"{len(devices)} {devices[0].device_kind}",
        "matmul_gflop_per_s": round(matmul_rate() / 1e9, 1),
    }


def matmul_rate(size: int = 2048, rounds: int = 5) -> float:
    """Measures the floating-point operations per second of a float32 matrix product."""
    left, right = jax.random.normal(jax.random.key(0), (2, size, size))
    product = jax.jit(jnp.matmul)
    product(left, right).block_until_ready()
    call = lambda: product(left, right).block_until_ready()  # noqa: E731
    seconds = [seconds_for(call, 1) for _ in range(rounds)]
    return 2 * size**3 / statistics.median(seconds)


def versions() -> dict[str, str]:
    """Names the versions of what is measured."""
    packages = ("jaxembed", "jax", "jaxlib", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def sentence(facts: dict[str, Any]) -> str:
    """Writes facts in one line."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def save(
    folder: Path, name: str, content: dict[str, Any], columns: list[str], rows: list[list[str]]
) -> None:
    """Prints the table, and writes it as Markdown and all that was measured as JSON."""
    facts = [sentence(content[part]) for part in ("settings", "machine", "versions")]
    console = Console()
    if not console.is_terminal:
        console.width = 140
    table = Table(columns[0], title=content["question"], caption="\n".join(facts))
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)

    line = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    alignment = ["---", *("---:" for _ in columns[1:])]
    text = [f"# {content['question']}", "", *(f"- {fact}" for fact in facts), ""]
    text += [line(columns), line(alignment), *map(line, rows)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text("\n".join(text) + "\n")
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"written to {folder / name}.json and .md", highlight=False)
