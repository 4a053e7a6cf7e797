"""What a run reads, as its flags say: rows, the plan and the making of batches, the evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from config import Config, ConfigError
from xxhash import xxh3_64

from jaxembed.data import (
    BatchPlan,
    Rows,
    bind_columns,
    make_batch,
    no_duplicates_plan,
    open_dataset,
    plain_plan,
    row_hashes,
    split_by_length,
    wordnet_gloss_retrieval,
)
from jaxembed.encoders import TextTokenizer
from jaxembed.evaluators import Evaluator, RetrievalEvaluator, SimilarityEvaluator
from jaxembed.typing import Roles


def open_data(config: Config, roles: Roles) -> tuple[Rows, BatchPlan, str]:
    """Opens the rows, the plan of their batches, and a name for exactly these texts."""
    datasets.disable_progress_bars()
    source: Any = config.data[0] if len(config.data) == 1 else list(config.data)
    dataset = open_dataset(source, split=config.split)
    rows = bind_columns(dataset, roles, config.columns, use_negatives=config.hard_negatives)
    hashes = row_hashes(rows)
    if config.batch_plan == "plain":
        plan_fn = partial(plain_plan, len(rows))
    else:
        plan_fn = partial(no_duplicates_plan, hashes)
    plan = BatchPlan(partial(plan_fn, batch_size=config.batch_size, seed=config.seed))
    return rows, plan, fingerprint([hashes])


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batch of a step: tokenized, padded to a bucket, split by length."""

    rows: Rows
    roles: Roles
    plan: BatchPlan
    tokenizer: TextTokenizer
    prompts: Mapping[str, str]
    split_rows: int | None  # the blocks of a split column are a multiple of so many rows

    def __call__(self, step: int) -> dict[str, Any]:
        return make_batch(self.rows, self.roles, self.plan.rows(step), self.tokenize)

    def tokenize(self, texts: list[str], role: str) -> dict[str, Any]:
        tokens = self.tokenizer(texts, self.prompts[role])
        if self.split_rows is None or role == "negatives":
            return tokens
        return split_by_length(tokens, buckets=self.tokenizer.buckets, multiple=self.split_rows)


def open_evaluator(config: Config) -> Evaluator | None:
    """Opens what the model is measured on; None if nothing."""
    embedded = config.data == ("wordnet-gloss",)
    if config.evaluate == "none" or (config.evaluate == "auto" and not embedded):
        return None
    if config.evaluate == "auto":
        return RetrievalEvaluator(*wordnet_gloss_retrieval())
    folder = Path(config.evaluate)
    if folder.is_dir():
        tables = []
        for name in ("corpus", "queries", "qrels"):
            files = sorted(folder.glob(f"*{name}.*")) or sorted(folder.glob(f"{name}/test.*"))
            if not files:
                raise ConfigError(
                    f"{folder} has no file {name}.parquet, .jsonl or .tsv to evaluate on"
                )
            tables.append(open_dataset(files[0]))
        return RetrievalEvaluator.from_beir(*tables)
    roles = Roles(("left", "right"), {"scores": float})
    rows = bind_columns(open_dataset(config.evaluate), roles, config.evaluate_columns or None)
    everything = range(len(rows))
    return SimilarityEvaluator(
        rows.texts("left", everything),
        rows.texts("right", everything),
        rows.labels("scores", everything).tolist(),
    )


def fingerprint(arrays: Iterable[Any]) -> str:
    """Computes a short name for the content of arrays."""
    digest = xxh3_64()
    for array in arrays:
        digest.update(np.asarray(array).tobytes())
    return digest.hexdigest()
