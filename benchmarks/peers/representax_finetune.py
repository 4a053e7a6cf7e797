"""Fine-tunes a whole model with Representax, in a process of its own.

    representax_finetune.py START REQUEST.json

START is the time at which the process was started. REQUEST has: `model`, a folder in the format of
sentence-transformers; `output`, the folder of the trained one; `loss`, "multiple_negatives_ranking"
(of the columns anchors and positives) or "cosent" (left, right, scores); `columns`, the rows in the
order of training; `batch`, `steps`, `learning_rate`, `warmup_steps`, `weight_decay`, `clip_norm`,
`max_seq_length`; `evaluation`, null or `kind` "similarity" (left, right, scores) or "retrieval"
(corpus and queries by id, relevant ids by query), every so many steps. And, if wanted, `lengths`,
to which texts are padded: Representax has but one by default, that of the longest.

The last line that is printed is JSON: versions, the loss of each step, seconds and evaluations.
Training is a job, as the library's README describes it, logged with its own timing. Its default is
to compute all layers again in the backward pass; that is off here, as it takes longer.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
from representax.config import (
    BatchConfig,
    ComponentConfig,
    DataConfig,
    EvaluationConfig,
    ExportConfig,
    InformationRetrievalEvaluatorConfig,
    JobConfig,
    LoggingConfig,
    ModelConfig,
    OptimizationConfig,
    SimilarityEvaluatorConfig,
    TrainingConfig,
)
from representax.core import Route
from representax.data import mix, source
from representax.evaluation.retrieval import RetrievalEvaluationBatch
from representax.models.processing import Processor
from representax.models.sentence import SentenceEncoder
from representax.tasks.pairwise import CoSENTConfig, PairwiseConfig
from representax.tasks.retrieval import MNRConfig, RetrievalConfig
from representax.train import run_job

SCALE = 20.0
EVALUATION_BATCH = 32  # the default of the library's `embed`
NOBODY = -1  # the id of a row that fills a batch up
Rows = Iterable[dict[str, Any]]


class Clock:
    """Hears what the training reports, and when."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.evaluations: list[dict[str, Any]] = []
        self.training_s = self.evaluating_s = self.first_step = 0.0
        self.mark = 0.0

    def write(self, row: Mapping[str, Any]) -> None:
        event = row["event"]
        if event == "training_step":
            self.losses.append(row["metrics"]["train/loss"])
        elif event == "training_started":
            self.mark = time.time()
        elif event == "executable_first_use_finished":
            self.first_step = self.first_step or time.time()
        elif event in ("evaluation_started", "training_finished"):
            self.training_s += self.lap()
        elif event == "evaluation_finished":
            self.evaluating_s += self.lap()
            self.evaluations.append({
                "step": row["iteration"],
                "training_s": self.training_s if row["iteration"] else 0.0,
                "value": row["primary_value"],
            })  # fmt: skip

    def lap(self) -> float:
        before, self.mark = self.mark, time.time()
        return self.mark - before

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class RetrievalRows:
    """Makes batches for the evaluation of retrieval: all rows of one are queries, or documents."""

    def __init__(self, processor: Processor):
        self.processor = processor

    def data_contract(self) -> Mapping[str, Any]:
        return self.processor.data_contract()

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> RetrievalEvaluationBatch:
        kind, ids = rows[0]["kind"], np.array([row["id"] for row in rows], np.int32)
        tokens = self.processor([row["text"] for row in rows], route=Route(kind))
        return RetrievalEvaluationBatch(tokens, ids, ids != NOBODY, kind)


def load_model(
    folder: str, lengths: list[int], rematerialization: str
) -> tuple[SentenceEncoder, Processor]:
    """Loads the model without dropout."""
    model, processor = SentenceEncoder.load_from_hf(
        folder, sequence_length_buckets=lengths, rematerialization=rematerialization
    )
    tower = model.backbone.tower
    off = {"hidden_dropout_probability": 0.0, "attention_dropout_probability": 0.0}
    tower = replace(tower, config=tower.config.model_copy(update=off))
    return eqx.tree_at(lambda model: model.backbone.tower, model, tower), processor


def linear_schedule(peak: float, steps: int, warmup_steps: int) -> optax.Schedule:
    down = optax.linear_schedule(peak, 0.0, steps - warmup_steps)
    if not warmup_steps:
        return down
    up = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([up, down], [warmup_steps])


def adamw(learning_rate: Any, weight_decay: float) -> optax.GradientTransformation:
    return optax.adamw(learning_rate, weight_decay=weight_decay, mask=decayed)


def decayed(parameters: Any) -> Any:
    """Says that matrices and embeddings decay, but neither biases nor norms."""

    def decays(path: Any, _: Any) -> bool:
        name = jax.tree_util.keystr(path)
        return not ("norm" in name or name.endswith("bias"))

    return jax.tree_util.tree_map_with_path(decays, parameters)


def here(name: str, **parameters: Any) -> dict[str, Any]:
    """Names something of this file, which the job imports, for its configuration."""
    return {"target": f"{Path(__file__).stem}.{name}", "parameters": parameters}


def data(file: Path, rows: Rows, collate: dict[str, Any], *, whole: bool) -> DataConfig:
    """Writes rows into a file that is read in this order; `whole` batches leave a rest out."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    origin = source(str(file), map="representax.data.identity")
    return DataConfig(
        distribution=mix(origin, shuffle=False),
        collate=ComponentConfig(**collate),
        drop_remainder=whole,
    )


def training_data(request: dict[str, Any], file: Path) -> DataConfig:
    columns = request["columns"]
    if request["loss"] == "cosent":
        return data(file, scored_rows(**columns), pairs_collator(), whole=True)
    pairs = zip(columns["anchors"], columns["positives"], strict=True)
    rows = ({"query": anchor, "positive": positive} for anchor, positive in pairs)
    collate = {"target": "representax.tasks.retrieval.RetrievalCollator"}
    return data(file, rows, collate, whole=True)


def pairs_collator(**parameters: Any) -> dict[str, Any]:
    return {"target": "representax.tasks.pairwise.PairwiseCollator", "parameters": parameters}


def scored_rows(left: list[str], right: list[str], scores: list[float]) -> Rows:
    for first, second, score in zip(left, right, scores, strict=True):
        yield {"sentence1": first, "sentence2": second, "score": score}


def evaluation(request: dict[str, Any], file: Path) -> EvaluationConfig:
    """Configures the evaluation before the first step, every so many, and after the last."""
    if request["kind"] == "similarity":
        rows = scored_rows(request["left"], request["right"], request["scores"])
        held_out = data(file, rows, pairs_collator(pad_to_size=EVALUATION_BATCH), whole=False)
        evaluator = SimilarityEvaluatorConfig(similarity_functions=("cosine",))
        metric = "valid/similarity/spearman_cosine"
    else:
        numbers = {"query": numbered(request["queries"]), "document": numbered(request["corpus"])}
        relevant = {
            numbers["query"][query]: frozenset(numbers["document"][text] for text in texts)
            for query, texts in request["relevant"].items()
        }
        rows = [
            *filled("query", request["queries"], numbers["query"]),
            *filled("document", request["corpus"], numbers["document"]),
        ]
        held_out = data(file, rows, here("RetrievalRows"), whole=True)
        evaluator = InformationRetrievalEvaluatorConfig(relevant_documents=relevant)
        metric = "valid/retrieval/cosine_ndcg@10"
    return EvaluationConfig(
        data=held_out,
        batch_size=EVALUATION_BATCH,
        evaluators=(evaluator,),
        every_steps=request["every"],
        on_start=True,
        primary_metric=metric,
        save_best=False,
    )


def numbered(texts: dict[str, str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(texts)}


def filled(kind: str, texts: dict[str, str], numbers: dict[str, int]) -> Rows:
    """Yields texts of a kind, and rows that fill the last batch up."""
    for name, text in texts.items():
        yield {"kind": kind, "id": numbers[name], "text": text}
    for _ in range(-len(texts) % EVALUATION_BATCH):
        yield {"kind": kind, "id": NOBODY, "text": ""}


def job_of(request: dict[str, Any], folder: Path) -> JobConfig:
    ranking = request["loss"] == "multiple_negatives_ranking"
    held_out, steps = request["evaluation"], request["steps"]
    schedule = {"peak": request["learning_rate"], "steps": steps}
    schedule["warmup_steps"] = request["warmup_steps"]
    lengths = request.get("lengths") or [request["max_seq_length"]]
    return JobConfig(
        name="finetune",
        model=ModelConfig(**here("load_model", folder=request["model"], lengths=lengths)),
        task=RetrievalConfig() if ranking else PairwiseConfig(),
        loss=MNRConfig(scale=SCALE) if ranking else CoSENTConfig(scale=SCALE),
        optimization=OptimizationConfig(
            optimizer=ComponentConfig(**here("adamw", weight_decay=request["weight_decay"])),
            schedule=ComponentConfig(**here("linear_schedule", **schedule)),
            max_gradient_norm=request["clip_norm"],
        ),
        data=training_data(request, folder / "train.jsonl"),
        training=TrainingConfig(
            global_batch_size=request["batch"],
            max_steps=steps,
            seed=0,
            batch=BatchConfig(micro_batch_size=request["batch"]),
            activation_rematerialization="none",
        ),
        logging=LoggingConfig(console_every=steps, timing=True),
        evaluation=evaluation(held_out, folder / "held-out.jsonl") if held_out else None,
        export=ExportConfig(enabled=False),
    )


def main(start: float, file: str) -> None:
    """Trains, evaluates and saves."""
    imports_s = time.time() - start
    pipe, sys.stdout = sys.stdout, sys.stderr  # the library prints too
    request = json.loads(Path(file).read_text())
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        job = job_of(request, Path(folder))
        result = run_job(job, Path(folder) / "run", reporters=(clock,))
        result.selected_model.save_to_hf(request["output"], source_checkpoint=request["model"])
    total_s = time.time() - start
    packages = ("representax", "jax", "equinox", "optax", "transformers")
    answer = {
        "versions": {
            **{"python": platform.python_version(), "threads": os.cpu_count()},
            **{name: version(name) for name in packages},
        },
        "losses": clock.losses,
        "seconds": {
            "imports": imports_s,
            "to_first_step": clock.first_step - start,
            "training": clock.training_s,
            "evaluating": clock.evaluating_s,
            "total": total_s,
        },
        "evaluations": clock.evaluations,
    }
    print(json.dumps(answer), file=pipe)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
