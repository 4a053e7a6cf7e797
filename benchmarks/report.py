"""What benchmarks report: the machine and its speed, versions, a table on screen and in files."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.table import Table
from timing import seconds_for

MIB = 2**20


def command(main: Callable[[Any], int], config: type, description: str | None) -> NoReturn:
    """Runs a benchmark with the flags of the command line; what is wrong with them is one line."""
    try:
        sys.exit(main(tyro.cli(config, description=description)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def machine(dtype: str = "float32") -> dict[str, Any]:
    """Describes where this runs, without its name, and the limit of its speed in that precision."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    devices = jax.devices()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "devices": f"{len(devices)} {devices[0].device_kind}",
        "matmul_gflop_per_s": round(matmul_rate(dtype) / 1e9, 1),
    }


def matmul_rate(dtype: str, rounds: int = 5, products: int = 5) -> float:
    """Measures the floating-point operations per second of a matrix product, several in a row."""
    size = 2048 if jax.devices()[0].platform == "cpu" else 8192
    left, right = jax.random.normal(jax.random.key(0), (2, size, size), jnp.dtype(dtype))

    @jax.jit
    def chain(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, products, lambda _, x: (x @ right) / size, x)

    call = lambda: chain(left).block_until_ready()  # noqa: E731
    call()
    seconds = [seconds_for(call, 1) for _ in range(rounds)]
    return 2 * size**3 * products / statistics.median(seconds)


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
