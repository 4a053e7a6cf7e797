"""How does a training step grow with the number of chips, at the same rows for each?

scripts/plan.py compiles the cached step of BERT-base for slices of TPU v5e that are not there: what
a chip computes, reads and writes, and sends to others, on 8, 64 and 256 chips. Nothing runs; the
figures are those of the compiled programs.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --topologies v5e:2x4 v5e:4x4 --rows 64
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
from models import write_shape
from report import Target

SCRIPTS = Path(__file__).parents[1] / "scripts"


@dataclass(frozen=True)
class Config:
    """Compiles one step for several slices."""

    topologies: tuple[str, ...] = ("v5e:2x4", "v5e:8x8", "v5e:16x16")
    """The slices, from few chips to many."""
    rows: int = 256
    """Pairs of texts for each chip."""
    tokens: int = 128
    """Of each text."""
    mini_batch: int = 32
    """Texts that a chip encodes at once."""
    fsdp: int = 8
    """Chips that share one copy of the parameters."""
    output: Path = Path("runs/benchmarks")
    """Where table, picture and all figures are written."""


def main(config: Config) -> int:
    """Compiles and reports."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_shape("bert-base", Path(folder))
        rows = [compiled(config, model, topology) for topology in config.topologies]
    flops = [row["flops"] for row in rows]
    memory = max(row["memory_bytes"] for row in rows) / 2**30
    targets = [
        Target("most flops of a chip / fewest", max(flops) / min(flops), at_most=1.05),
        Target("memory of a chip, GiB", memory, at_most=15.75),
    ]
    names = ("rows", "tokens", "mini_batch", "fsdp")
    content: dict[str, Any] = {
        "question": "One training step of BERT-base on more and more chips",
        "settings": {"model": "bert-base, bfloat16", **{n: getattr(config, n) for n in names}},
        "machine": {"compiled for": ", ".join(config.topologies)},
        "versions": report.versions(),
        "rows": rows,
    }
    columns = ["slice", "chips", "pairs", "TFLOP", "memory traffic, GB", "sent, MB", "memory, GiB",
               "at least, ms", "at most, pairs/s"]  # fmt: skip
    report.save(config.output, "scaling", content, columns, list(map(cells, rows)), targets)
    draw(rows, config.output / "scaling.png")
    return 0


def compiled(config: Config, model: Path, topology: str) -> dict[str, Any]:
    """Asks scripts/plan.py about one slice."""
    chips = 1
    for side in topology.partition(":")[2].split("x"):
        chips *= int(side)
    answer = model / "plan.json"
    flags = {
        "topology": topology,
        "model": model,
        "batch-size": config.rows * chips,
        "tokens": config.tokens,
        "mini-batch-size": config.mini_batch,
        "fsdp": config.fsdp,
        "dtype": "bfloat16",
        "json": answer,
    }
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    process = subprocess.run(
        [sys.executable, SCRIPTS / "plan.py", *words, "--random-init"],
        capture_output=True,
        text=True,
    )
    if not answer.exists():
        raise ValueError(f"plan.py ended early: {process.stderr[-2000:]}")
    (plan,) = json.loads(answer.read_text())
    cost, least = plan["cost"], plan["least"]
    kinds = [*cost["collectives"].items(), *cost["loop_collectives"].items()]
    answer.unlink()
    return {
        "topology": topology,
        "chips": chips,
        "pairs": config.rows * chips,
        "flops": cost["flops"],
        "memory_traffic": cost["memory_traffic"],
        "collectives": {kind: traffic["bytes"] for kind, traffic in kinds},
        "memory_bytes": plan["needed_bytes"],
        "seconds": max(least.values()),
        "least": least,
    }


def cells(row: dict[str, Any]) -> list[str]:
    return [
        row["topology"],
        f"{row['chips']}",
        f"{row['pairs']:,}",
        f"{row['flops'] / 1e12:.2f}",
        f"{row['memory_traffic'] / 1e9:.0f}",
        f"{sum(row['collectives'].values()) / 1e6:.0f}",
        f"{row['memory_bytes'] / 2**30:.2f}",
        f"{row['seconds'] * 1e3:.0f}",
        f"{row['pairs'] / row['seconds']:,.0f}",
    ]


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draws what a chip does over the number of chips."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    FigureCanvasAgg(figure)
    chips = [row["chips"] for row in rows]
    panels = {
        "TFLOP of a chip": [row["flops"] / 1e12 for row in rows],
        "GB to and from its memory": [row["memory_traffic"] / 1e9 for row in rows],
        "MB sent to other chips": [sum(row["collectives"].values()) / 1e6 for row in rows],
    }
    for axes, (name, values) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.plot(chips, values, "o-")
        axes.set(title=name, xscale="log", xlabel="chips", ylim=(0, 1.25 * max(values)))
        axes.set_xticks(chips, [str(number) for number in chips])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    report.command(main, Config, __doc__)
