"""The same fine-tuning by ours and other libraries, each in a fresh process, disk to saved model.

All sides get the same weights, the same texts in the same batches in the same order, the same
learning rates and precision, no dropout, and all cores. Ours is `scripts/train.py` as users run it.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from peer import HERE, DType, environment

from jaxembed.data import BatchPlan, open_dataset, plain_plan
from jaxembed.encoders.finding import find

TRAIN = HERE.parent / "scripts/train.py"
OURS = "ours"
METRICS = {"similarity": "spearman", "retrieval": "ndcg@10"}


@dataclass(frozen=True)
class FineTune:
    """What is trained, and what it is measured on.

    `columns` are texts and scores by role; their rows are in no order yet. `evaluation` is None or
    a table with `kind` similarity (left, right, scores) or retrieval (corpus, queries, relevant),
    and `every` so many steps.
    """

    model: str
    loss: str
    columns: dict[str, list[Any]]
    batch: int
    steps: int
    learning_rate: float
    evaluation: dict[str, Any] | None = None
    seed: int = 0
    dtype: DType = "float32"
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    max_seq_length: int = 128
    lengths: tuple[int, ...] = (16, 32, 64, 128)  # that ours and Representax pad to

    def __post_init__(self) -> None:
        rows, needed = len(next(iter(self.columns.values()))), self.batch * self.steps
        if rows != needed:
            raise ValueError(f"{self.steps} steps of {self.batch} take {needed} rows; got {rows}")

    @property
    def ordered(self) -> dict[str, list[Any]]:
        """The columns in the order of training: that of our plan."""
        rows = self.batch * self.steps
        plan = BatchPlan(partial(plain_plan, rows, batch_size=self.batch, seed=self.seed))
        order = np.concatenate([plan.rows(step) for step in range(self.steps)])
        return {name: [values[row] for row in order] for name, values in self.columns.items()}


def run(
    side: str,
    wanted: FineTune,
    folder: Path,
    *,
    python: Path | None = None,
    cache: Path | None = None,
    flags: Sequence[str] = (),
) -> dict[str, Any]:
    """Fine-tunes once.

    `cache` is a folder of compiled programs, a new one below `folder` if None; `flags` are further
    ones of `train.py`.

    Returns the seconds from the start of the process to the end of its first step, `first_step_s`,
    and to its own end, `total_s`; `training_s` of the steps alone, with compiling and waiting for
    data; the `losses` of all steps; and the `evaluations` with the seconds of training before.

    Raises:
        ValueError: it failed.
    """
    cache = cache or folder / "compiled"
    if side == OURS:
        return run_ours(wanted, folder, ["--cache", str(cache), *flags])
    assert python is not None
    return run_peer(side, wanted, folder, python, cache=cache)


def run_ours(wanted: FineTune, folder: Path, flags: Sequence[str]) -> dict[str, Any]:
    """Runs `train.py`, and reads its log."""
    words, log = command_of(wanted, folder, flags), folder / "run/log.jsonl"
    begin = time.time()
    first_step_s = call_and_watch(words, log) - begin
    total_s = time.time() - begin
    losses, evaluations, training_s = [], [], 0.0
    for record in records(log):
        if record["kind"] == "train":
            losses.append(record["loss"])
            training_s += record["seconds"]
        elif wanted.evaluation:
            value = record[METRICS[wanted.evaluation["kind"]]]
            found = {"step": record["step"], "training_s": training_s, "value": value}
            evaluations.append(found)
    times = {"first_step_s": first_step_s, "total_s": total_s, "training_s": training_s}
    return {**times, "losses": losses, "evaluations": evaluations}


def run_peer(
    side: str,
    wanted: FineTune,
    folder: Path,
    python: Path,
    *,
    cache: Path | None = None,
    **further: Any,
) -> dict[str, Any]:
    """Runs the script of a library; `further` entries of its request are its own."""
    folder.mkdir(parents=True, exist_ok=True)
    request = folder / "request.json"
    content = asdict(wanted) | {
        **{"columns": wanted.ordered, "output": str(folder / "model")},
        "model": str(find(wanted.model).resolve()),
        "warmup_steps": int(wanted.warmup_share * wanted.steps),
        **further,
    }
    request.write_text(json.dumps(content))
    script = HERE / "peers" / f"{side.replace('-', '_')}_finetune.py"
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {}
    begin = time.time()
    words = [str(python), str(script), str(begin), str(request)]
    answer = json.loads(call(words, environment() | compiled).strip().splitlines()[-1])
    seconds = answer.pop("seconds")
    times = {"first_step_s": seconds["to_first_step"], "training_s": seconds["training"]}
    return {**answer, **times, "total_s": time.time() - begin}


def versions_of(runs: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Collects versions and threads of the other libraries from the runs of sides."""
    return {
        f"{side}'s {name}": value
        for side, one in runs
        for name, value in one.get("versions", {}).items()
    }


def command_of(wanted: FineTune, folder: Path, flags: Sequence[str]) -> list[str]:
    """Writes the data into files, and returns the command that trains on them."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data.parquet"
    open_dataset(wanted.columns).to_parquet(data)
    given = {
        "model": wanted.model,
        "data": data,
        "columns": [f"{name}={name}" for name in wanted.columns],
        "loss": wanted.loss,
        "steps": wanted.steps,
        "batch-size": wanted.batch,
        "batch-plan": "plain",
        "learning-rate": wanted.learning_rate,
        "warmup-share": wanted.warmup_share,
        "weight-decay": wanted.weight_decay,
        "clip-norm": wanted.clip_norm,
        "max-seq-length": wanted.max_seq_length,
        "buckets": list(wanted.lengths),
        "seed": wanted.seed,
        "dtype": wanted.dtype,
        "checkpoint-every": wanted.steps,
        "output": folder / "run",
        "evaluate": "none",
    }
    if wanted.evaluation:
        given |= {"evaluate": write_evaluation(wanted.evaluation, folder / "evaluation")}
        given |= {"evaluate-every": wanted.evaluation["every"]}
    words = [sys.executable, str(TRAIN), "--no-dropout", "--overwrite", *flags]
    for name, value in given.items():
        words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return words


def write_evaluation(given: dict[str, Any], folder: Path) -> str:
    """Writes a file of scored pairs, or a folder of corpus, queries and qrels, as users do."""
    folder.mkdir(parents=True, exist_ok=True)
    if given["kind"] == "similarity":
        file = folder / "scored.csv"
        with file.open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["left", "right", "scores"])
            rows.writerows(zip(given["left"], given["right"], given["scores"], strict=True))
        return f"similarity:{file}"
    for name in ("corpus", "queries"):
        lines = (json.dumps({"_id": key, "text": text}) for key, text in given[name].items())
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "qrels").mkdir(exist_ok=True)
    pairs = ((query, answer) for query, answers in given["relevant"].items() for answer in answers)
    lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{answer}\t1" for query, answer in pairs)]
    (folder / "qrels/test.tsv").write_text("\n".join(lines) + "\n")
    return str(folder)


def call(words: list[str], seen: dict[str, str]) -> str:
    """Runs a command, and returns what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, env=seen)
    if done.returncode:
        raise ValueError(f"{Path(words[1]).name} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def call_and_watch(words: list[str], log: Path) -> float:
    """Runs a training; returns when its first step stood in the log."""
    before = sum(record["kind"] == "train" for record in records(log))
    first = None
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.02)
            if first is None and sum(row["kind"] == "train" for row in records(log)) > before:
                first = time.time()
        if process.returncode:
            said.seek(0)
            raise ValueError(f"{Path(words[1]).name} failed: {said.read().strip()[-2000:]}")
    return first or time.time()


def records(log: Path) -> list[dict[str, Any]]:
    """Reads the whole lines of a log, none if it is not there."""
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
