"""What benchmarks report: the machine and its limits, versions, a table, which targets are met."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
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
SCRIPTS = Path(__file__).parents[1] / "scripts"


@dataclass(frozen=True)
class Target:
    """A number that is held to a bound, or only reported where there is none."""

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most

    def __str__(self) -> str:
        fact = f"{self.what}: {self.value:.3g}"
        if self.met is None:
            return fact
        bound = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        return f"{'met' if self.met else 'MISSED'}: {fact}, target {bound}"


def command(
    main: Callable[[Any], int], config: type, description: str | None, *, huge_pages: bool = True
) -> NoReturn:
    """Runs a benchmark with the flags of the command line; what is wrong with them is one line.

    With `huge_pages` it asks for those, as the training script does, for the other libraries too.
    """
    if huge_pages:
        sys.path.append(str(SCRIPTS))
        from huge_pages import begin_again

        begin_again()
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
        "date": date.today().isoformat(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "devices": f"{len(devices)} {devices[0].device_kind}",
        "matmul_gflop_per_s": round(matmul_rate(dtype) / 1e9, 1),
        "copy_gb_per_s": round(copy_rate() / 1e9, 1),
    }


def matmul_rate(dtype: str, rounds: int = 5, products: int = 5) -> float:
    """Measures the floating-point operations per second of a matrix product, several in a row."""
    size = 2048 if jax.devices()[0].platform == "cpu" else 8192
    left, right = jax.random.normal(jax.random.key(0), (2, size, size), jnp.dtype(dtype))

    @jax.jit
    def chain(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, products, lambda _, x: (x @ right) / size, x)

    return 2 * size**3 * products / median_seconds(lambda: chain(left).block_until_ready(), rounds)


def copy_rate(rounds: int = 5, size: int = 2**28) -> float:
    """Measures the bytes per second that are read and written again by the devices' memory."""
    array = jnp.zeros(size // 4, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return 2 * size / median_seconds(lambda: copy(array).block_until_ready(), rounds)


def median_seconds(call: Callable[[], object], rounds: int) -> float:
    """Measures a call several times, after a first."""
    call()
    return statistics.median(seconds_for(call, 1) for _ in range(rounds))


def versions() -> dict[str, str]:
    """Names the versions of what is measured."""
    packages = ("jaxembed", "jax", "jaxlib", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def sentence(facts: dict[str, Any]) -> str:
    """Writes facts in one line."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def save(
    folder: Path,
    name: str,
    content: dict[str, Any],
    columns: list[str],
    rows: list[list[str]],
    targets: Sequence[Target] = (),
) -> None:
    """Prints the table and which targets are met; writes both as Markdown, and all as JSON.

    Bounds are those of float32.
    """
    if content["settings"].get("dtype", "float32") != "float32":
        targets = [replace(target, at_least=None, at_most=None) for target in targets]
    content["targets"] = [asdict(target) | {"met": target.met} for target in targets]
    content["table"] = {"columns": columns, "rows": rows}
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
    if targets:
        console.print("\n".join(map(str, targets)), highlight=False)
        text += ["", *(f"- {target}" for target in targets)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text("\n".join(text) + "\n")
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"written to {folder / name}.json and .md", highlight=False)
