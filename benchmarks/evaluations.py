"""What does every kind of evaluation say of a model, on real data?

STS-B, 20 Newsgroups and WordNet, written as files and a .toml suite that `scripts/evaluate.py`
reads, whole and cut embeddings, as bytes and as bits.

    python benchmarks/evaluations.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
from datasets import Dataset
from objectives_data import newsgroups, same_sense, sts, wordnet

SCRIPT = Path(__file__).parents[1] / "scripts/evaluate.py"
DIM, PRECISIONS = 128, ("int8", "ubinary")


@dataclass(frozen=True)
class Config:
    """Measures a model."""

    model: str = "all-MiniLM-L6-v2"
    """A name or folder, as `jaxembed.load` takes it."""
    wheels: Path = Path("runs/wheels")
    """Where fetched data is kept."""
    work: Path = Path("runs/evaluations")
    """Where the suite is written, with the pictures of what is measured."""
    output: Path = Path("runs/benchmarks")
    """Where the table is written."""


def main(config: Config) -> int:
    """Writes the suite, and measures."""
    suite = write_suite(config)
    command = [sys.executable, str(SCRIPT), config.model, "--suite", str(suite)]
    command += ["--dims", str(DIM), "--precisions", *PRECISIONS, "--output", str(config.work)]
    if subprocess.run(command).returncode:
        raise ValueError("evaluate.py failed; what it says is above")
    results = json.loads((config.work / "results.json").read_text())
    metrics = results["metrics"]
    forms = (f"dim_{DIM}", *PRECISIONS)
    rows = {
        name: [value, *(metrics[f"{name}_{form}"] for form in forms)]
        for name, value in metrics.items()
        if all(f"{name}_{form}" in metrics for form in forms)
    }
    content: dict[str, Any] = {
        "question": "What evaluations say of a model",
        "settings": {"model": config.model, "texts": results["texts"]},
        "machine": report.machine(),
        "versions": report.versions(),
        "metrics": metrics,
        "health": results["health"],
        "seconds": results["seconds"],
    }
    table = [[name, *(f"{value:.4f}" for value in values)] for name, values in rows.items()]
    report.save(config.output, "evaluations", content, ["metric", "whole", *forms], table)
    return 0


def write_suite(config: Config) -> Path:
    """Writes the data of each evaluation, and the suite that names them."""
    config.work.mkdir(parents=True, exist_ok=True)
    files = {}

    def write(name: str, columns: dict[str, list[Any]]) -> None:
        files[name] = str((config.work / f"{name}.parquet").resolve())
        Dataset.from_dict(columns).to_parquet(files[name])

    senses, pairs = wordnet("test", config.wheels), same_sense("test", config.wheels)
    scored = sts("test", config.wheels)
    write("sts", scored)
    write("senses", {**pairs, "label": [int(label) for label in pairs["label"]]})
    write("triplets", senses)
    lists = {name: [[text] for text in senses[name]] for name in ("positive", "negative")}
    write("lists", {"query": senses["query"], **lists})
    same = [row for row, score in enumerate(scored["score"]) if score == 1]
    first, second = ([scored[side][row] for row in same] for side in ("sentence1", "sentence2"))
    write("matches", {"source": first, "target": second})
    write("texts", {"id": [f"t{row}" for row in range(2 * len(same))], "text": first + second})
    ids = {side: [f"t{row + start}" for row in range(len(same))] for side, start in
           (("first", 0), ("second", len(same)))}  # fmt: skip
    write("duplicates", ids)
    for part in ("train", "test"):
        write(f"topics-{part}", newsgroups(part, config.wheels))
    tables = {
        "sts": {"kind": "similarity", "data": files["sts"]},
        "wordnet": {"data": "wordnet-gloss"},
        "senses": {"kind": "binary_classification", "data": files["senses"]},
        "triplets": {"kind": "triplet", "data": files["triplets"]},
        "lists": {"kind": "reranking", "data": files["lists"]},
        "matches": {"kind": "translation", "data": files["matches"]},
        "paraphrases": {
            "kind": "paraphrase_mining",
            "data": files["texts"],
            "duplicates": files["duplicates"],
        },
        "clusters": {"kind": "clustering", "data": files["topics-test"]},
        "topics": {
            "kind": "classification",
            "train": files["topics-train"],
            "data": files["topics-test"],
        },
    }
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    file = config.work / "suite.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


if __name__ == "__main__":
    report.command(main, Config, __doc__)
