"""Do mined hard negatives help? The same fine-tuning with negatives of the batch alone, and mined.

Negatives of the embedded WordNet data are mined with the model that is then trained: one for each
query, at random among its ten most similar glosses that are not its answer. Both sides see the same
rows in the same order, and are measured on the held-out words.

    python benchmarks/mined_negatives.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report

SCRIPTS = Path(__file__).parents[1] / "scripts"
SIDES = {"negatives of the batch": (), "and a mined one": ("--hard-negatives",)}
METRIC = "ndcg@10"


@dataclass(frozen=True)
class Config:
    """Mines once, and trains both sides with several seeds; what is done already is kept."""

    model: str = "all-MiniLM-L6-v2"
    """A name or folder, as `jaxembed.load` takes it."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the order of the rows."""
    steps: int = 80
    """Steps of a training."""
    batch: int = 64
    """Pairs of a step."""
    work: Path = Path("runs/mined-negatives")
    """Where the negatives and the runs are kept."""
    output: Path = Path("runs/benchmarks")
    """Where the table and all values are written."""


def main(config: Config) -> int:
    """Trains what is not trained yet, and compares."""
    mined = config.work / "mined.parquet"
    mine = ["--data", "wordnet-gloss", "--columns", "query", "positive", "--num-negatives", "1"]
    mine += ["--range-max", "10", "--sampling", "random", "--output", str(mined)]
    run("mine_negatives.py", config.model, *mine)
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for seed in config.seeds:
        for number, (side, flags) in enumerate(SIDES.items()):
            folder = config.work / f"side-{number}-seed-{seed}"
            if not trained(config, folder):
                train = ["--model", config.model, "--data", str(mined), *flags]
                train += ["--columns", "query", "positive", "--evaluate", "wordnet-gloss"]
                train += ["--evaluate-every", str(config.steps), "--steps", str(config.steps)]
                train += ["--batch-size", str(config.batch), "--no-dropout", "--packing"]
                train += ["--seed", str(seed), "--output", str(folder), "--overwrite"]
                run("train.py", *train)
            found[side].append(json.loads((folder / "results.json").read_text()))
    rows: dict[str, Any] = {"before": {"values": [found[next(iter(SIDES))][0]["before"][METRIC]]}}
    rows |= {side: {"values": [one["after"][METRIC] for one in its]} for side, its in found.items()}
    for row in rows.values():
        row["mean"] = statistics.mean(row["values"])
    alone, with_mined = (rows[side] for side in SIDES)
    content: dict[str, Any] = {
        "question": f"Fine-tuning on WordNet glosses with mined negatives: {METRIC}",
        "settings": {
            "model": config.model,
            "steps": config.steps,
            "batch": config.batch,
            "seeds": config.seeds,
        },
        "machine": report.machine(),
        "versions": report.versions(),
        "rows": rows,
        "gain": with_mined["mean"] - alone["mean"],
    }
    table = [
        [side, f"{row['mean']:.4f}", ", ".join(f"{value:.4f}" for value in row["values"])]
        for side, row in rows.items()
    ]
    report.save(config.output, "mined_negatives", content, ["trained with", "mean", "seeds"], table)
    print(f"gain of mined negatives: {content['gain']:+.4f}")
    return 0


def trained(config: Config, folder: Path) -> bool:
    """Returns True if this training is there already, to its end."""
    if not (folder / "results.json").exists():
        return False
    flags = json.loads((folder / "config.json").read_text())
    wanted = {"model": config.model, "steps": config.steps, "batch_size": config.batch}
    return flags.items() >= wanted.items()


def run(script: str, *flags: str) -> None:
    """Runs a script, and stops where it fails."""
    if subprocess.run([sys.executable, str(SCRIPTS / script), *flags]).returncode:
        raise ValueError(f"{script} failed; what it says is above")


if __name__ == "__main__":
    report.command(main, Config, __doc__)
