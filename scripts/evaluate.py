"""Measures text encoders: a table, a JSON file and pictures.

python scripts/evaluate.py all-MiniLM-L6-v2
python scripts/evaluate.py runs/my/model --suite sts.csv beir/scifact triplet:rows.jsonl
python scripts/evaluate.py org/model --suite suite.toml --dims 256 128 64 --output measured
"""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from command import command
from compiled_programs import keep_programs
from config import ConfigError
from evaluation_lines import evaluation_lines
from prompts import model_prompts
from results import versions, write_json
from rich.table import Table
from scores import labelled_pairs, plot_dims, plot_scores
from suites import open_suite

from jaxembed.console import Console
from jaxembed.encoders import Encoder, load
from jaxembed.encoders.inference import quantize_embeddings
from jaxembed.evaluators import Evaluator, at_dims, at_precisions
from jaxembed.metrics import collapse, embedding_health
from jaxembed.search import Similarity
from jaxembed.settings import Count, check_fields

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]


@dataclass(frozen=True)
class Config:
    """The flags."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A folder, or the name of a model on the hub."""
    suite: tuple[str, ...] = ("wordnet-gloss",)
    """What it is measured on, one or several: a folder of corpus, queries and qrels, a file of
    scored pairs, KIND:FILE such as triplet:rows.jsonl, a .toml suite, or the embedded set."""
    columns: tuple[str, ...] = ()
    """The columns of a file, by role; found by name if empty."""
    output: Path | None = None
    """A folder for results.json, results.md and pictures; only the table is shown without."""

    dims: tuple[Count, ...] = ()
    """Also measures embeddings that are cut to so many features each."""
    precisions: tuple[Precision, ...] = ()
    """Also measures embeddings of a byte (int8, uint8) or a bit (binary, ubinary) per feature."""
    metrics: tuple[str, ...] = ()
    """The metrics that the table shows; the main ones if empty. The JSON file has all."""

    query_prompt: str | None = None
    """Name of the model's prompt for queries; "query", if it has one, if not given."""
    document_prompt: str | None = None
    """Name of its prompt for all other texts; if not given, "document" for documents, and the
    default one for texts that are neither."""
    no_prompts: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Uses none of the model's prompts but those that are named."""
    similarity: Similarity | None = None
    """What compares embeddings, where a .toml suite does not say; the model's own if not given."""
    exclude_same_id: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """In retrieval, a query never finds the document of its own id, as in MTEB and BEIR."""
    max_seq_length: Count | None = None
    """Tokens that are kept of a text; the model's own limit if not given."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation."""
    batch_size: Count = 64
    """Texts that go through the model at once, on all devices together."""
    packing: bool = False
    """Puts several short texts into one row (our own models)."""
    encoder_source: Literal["auto", "jaxembed", "transformers"] = "auto"
    """Whose models: our own, or the Flax ones of transformers 4; auto takes ours where it can."""
    cache: Path | None = Path("~/.cache/jaxembed/compiled")
    """Where compiled programs are kept between runs; None keeps none."""


def main(config: Config) -> int:
    """Measures, shows, and writes what is asked for; returns the exit status."""
    check_fields(config)
    keep_programs(config.cache)
    if config.output is not None and config.output.exists() and not config.output.is_dir():
        raise ConfigError(f"{config.output} is a file; choose another --output")
    encoder = load(
        config.model,
        dtype=config.dtype,
        max_seq_length=config.max_seq_length,
        source=config.encoder_source,
    )
    similarity = config.similarity or encoder.similarity
    evaluator = open_suite(
        config.suite,
        columns=config.columns,
        similarity=similarity,
        exclude_same_id=config.exclude_same_id,
        say=partial(print, flush=True),
    )
    embed = Embedding(encoder, config)
    for line in evaluation_lines(encoder, embed.prompts, similarity, evaluator):
        print(line, flush=True)
    begin = time.perf_counter()
    values = evaluator.evaluate(embed)
    if config.dims:
        values |= at_dims(evaluator, config.dims).evaluate(embed)
    if config.precisions:
        values |= at_precisions(evaluator, config.precisions, quantize_embeddings).evaluate(embed)
    seconds = time.perf_counter() - begin
    health = embed.health()
    show(config, evaluator, values, seconds)
    if warning := collapse(health):
        print(f"warning: {warning}", file=sys.stderr)
    if config.output is not None:
        write(config, evaluator, values, health, seconds, embed)
    return 0


class Embedding:
    """An embed function that keeps what it has embedded, so that no text is embedded twice."""

    def __init__(self, encoder: Encoder, config: Config) -> None:
        self.encoder, self.config = encoder, config
        self.prompts = model_prompts(
            encoder,
            query=config.query_prompt,
            document=config.document_prompt,
            disabled=config.no_prompts,
        )
        self._rows: dict[tuple[str, str], np.ndarray] = {}
        self.n_texts = 0

    def __call__(self, texts: list[str], *, role: str | None) -> np.ndarray:
        config = self.config
        prompt = self.prompts[role]
        if new := list(dict.fromkeys(text for text in texts if (prompt, text) not in self._rows)):
            embeddings = self.encoder.encode(
                new,
                prompt=prompt,
                batch_size=config.batch_size,
                packing=config.packing,
                show_progress=sys.stdout.isatty(),
            )
            self._rows |= {(prompt, text): row for text, row in zip(new, embeddings, strict=True)}
            self.n_texts += len(new)
        return np.stack([self._rows[prompt, text] for text in texts])

    def health(self) -> dict[str, float]:
        """Measures the health of some of the embeddings."""
        rows = list(self._rows.values())
        sample = np.stack(rows[:: max(1, len(rows) // 256)])
        measured = embedding_health(sample)
        return {name: float(value) for name, value in measured.items()}


def show(config: Config, evaluator: Evaluator, values: dict[str, float], seconds: float) -> None:
    """Prints the table of the metrics that matter."""
    table = Table("metric", config.model)
    for name in shown(config, evaluator, values):
        table.add_row(name, f"{values[name]:.4f}")
    console = Console()
    console.print(table)
    console.say(f"{len(values)} metrics in {seconds:.1f} s")


def shown(config: Config, evaluator: Evaluator, values: dict[str, float]) -> list[str]:
    """Names the metrics of the table: those asked for, or all that have the name of a main one.

    Raises:
        ConfigError: one that is asked for is not there.
    """
    if unknown := [name for name in config.metrics if name not in values]:
        raise ConfigError(f"there is no metric {unknown[0]}; there are {', '.join(values)}")
    if config.metrics:
        return list(config.metrics)
    every = [evaluator, *getattr(evaluator, "evaluators", {}).values()]
    main = {one.main_metric.rpartition("/")[2] for one in every}
    return [name for name in values if any(_is(name, metric) for metric in main)]


def _is(name: str, metric: str) -> bool:
    last = name.rpartition("/")[2]
    return last == metric or last.startswith(f"{metric}_")


def write(
    config: Config,
    evaluator: Evaluator,
    values: dict[str, float],
    health: dict[str, float],
    seconds: float,
    embed: Embedding,
) -> None:
    """Writes the results as JSON, as a Markdown table, and as pictures."""
    folder = config.output
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "model": config.model,
        "metrics": values,
        "main_metric": evaluator.main_metric,
        "prompts": {str(role): prompt for role, prompt in embed.prompts.texts.items()},
        "similarity": config.similarity or embed.encoder.similarity,
        "health": health,
        "texts": embed.n_texts,
        "seconds": seconds,
        "configuration": dataclasses.asdict(config),
        "versions": versions(),
    }
    write_json(folder / "results.json", content)
    lines = [f"| metric | {config.model} |", "|---|---|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in values.items()]
    (folder / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    parts = getattr(evaluator, "evaluators", {"": evaluator})
    pairs = {name: labelled_pairs(one) for name, one in parts.items()}
    written = [folder / "results.json", folder / "results.md"]
    for picture in (
        plot_scores({name: each for name, each in pairs.items() if each}, embed, folder),
        plot_dims(values, shown(config, evaluator, values), embed.encoder.dimension, folder),
    ):
        if picture is not None:
            written.append(picture)
    print("\n".join(map(str, written)))


if __name__ == "__main__":
    command(main, Config, __doc__)
