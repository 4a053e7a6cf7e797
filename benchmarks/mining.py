"""How long does mining hard negatives take from stored embeddings, and in how much memory?

`scripts/mine_negatives.py` in a process of its own, from files to a file: random unit vectors of
queries and of their answers, which are the corpus; of each query's nearest `candidates` documents
three become negatives. Beside it the search alone in NumPy, for some of the queries: a block of
them at a time with the whole corpus, and `argpartition`.

    python benchmarks/mining.py
    python benchmarks/mining.py --rows 10000 --baseline-queries 2000
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import report
from report import Target

SCRIPT = Path(__file__).parents[1] / "scripts/mine_negatives.py"
BLOCK = 1000  # rows that are written, or compared, at once
GIB = 2**30


@dataclass(frozen=True)
class Config:
    """Measures the mining of hard negatives."""

    rows: int = 100_000
    """Queries, and as many documents."""
    d: int = 384
    """Features."""
    candidates: int = 100
    """Documents that are found for each query."""
    baseline_queries: int = 10_000
    """Queries of the search in NumPy; 0 leaves it out."""
    output: Path = Path("runs/benchmarks")
    """Where the table and all times are written."""


def main(config: Config) -> int:
    """Measures and reports."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(config, folder)
        rows = [mined(config, folder)]
        if config.baseline_queries:
            rows.append(searched_in_numpy(config, folder))
    content: dict[str, Any] = {
        "question": "Mining hard negatives from stored embeddings: time and memory",
        "settings": {name: value for name, value in asdict(config).items() if name != "output"},
        "machine": report.machine(),
        "versions": report.versions(),
        "rows": rows,
    }
    memory = Target("peak resident memory, GiB", rows[0]["peak_bytes"] / GIB, at_most=4)
    columns = ["side", "queries", "documents", "seconds", "queries/s", "peak memory, GiB"]
    report.save(config.output, "mining", content, columns, [cells(row) for row in rows], [memory])
    return 0


def write_data(config: Config, folder: Path) -> None:
    """Writes pairs of texts, and a random unit vector for each text."""
    import pyarrow as pa
    from pyarrow import parquet

    numbers = range(config.rows)
    columns = {"query": [f"query {n}" for n in numbers], "answer": [f"answer {n}" for n in numbers]}
    parquet.write_table(pa.table(columns), folder / "pairs.parquet")
    rng = np.random.default_rng(0)
    for name in columns:
        file = folder / f"{name}.npy"
        vectors = np.lib.format.open_memmap(file, "w+", np.float32, (config.rows, config.d))
        for start in range(0, config.rows, BLOCK):
            block = rng.normal(size=vectors[start : start + BLOCK].shape)
            vectors[start : start + BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
        vectors.flush()


def mined(config: Config, folder: Path) -> dict[str, Any]:
    """Runs the script; the memory is the greatest that its process had at any time."""
    command = [sys.executable, str(SCRIPT), "--data", str(folder / "pairs.parquet")]
    command += ["--embeddings-of-queries", str(folder / "query.npy")]
    command += ["--embeddings-of-corpus", str(folder / "answer.npy")]
    command += ["--candidates", str(config.candidates), "--output", str(folder / "mined.parquet")]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ValueError(f"the mining ended early: {said[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "side": "mine_negatives.py, whole process",
        "queries": config.rows,
        "documents": config.rows,
        "seconds": time.perf_counter() - start,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * unit,
    }


def searched_in_numpy(config: Config, folder: Path) -> dict[str, Any]:
    """Finds the nearest documents of some queries, the greatest first."""
    queries, corpus = (np.load(folder / f"{name}.npy") for name in ("query", "answer"))
    n = min(config.baseline_queries, config.rows)
    start, processor = time.perf_counter(), time.process_time()
    for first in range(0, n, BLOCK):
        scores = queries[first : min(first + BLOCK, n)] @ corpus.T
        found = np.argpartition(scores, -config.candidates, axis=1)[:, -config.candidates :]
        order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1)
        np.take_along_axis(found, order, axis=1)
    return {
        "side": "NumPy, the search alone",
        "queries": n,
        "documents": config.rows,
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - processor,
    }


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table."""
    return [
        row["side"],
        f"{row['queries']:,}",
        f"{row['documents']:,}",
        f"{row['seconds']:.1f}",
        f"{row['queries'] / row['seconds']:,.0f}",
        f"{row['peak_bytes'] / GIB:.2f}" if "peak_bytes" in row else "–",
    ]


if __name__ == "__main__":
    report.command(main, Config, __doc__)
