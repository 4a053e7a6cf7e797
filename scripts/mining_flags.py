"""The flags of a mining: their meaning, their defaults, and which go together."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from config import ConfigError
from mined_rows import Format

from jaxembed.mining import Filters
from jaxembed.search import Similarity
from jaxembed.settings import Count, Natural, Seed, Share, check_fields

KINDS = (".parquet", ".jsonl")
OTHERS = (".json", ".csv", ".tsv", ".arrow", ".txt")
FILTERS = tuple(field.name for field in dataclasses.fields(Filters))


@dataclass(frozen=True, kw_only=True)
class Config:
    """The flags."""

    model: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="MODEL")] = None
    """A folder, or the name of a model on the hub; needed for what has no stored embeddings."""
    data: tuple[str, ...]
    """Files (parquet, json, jsonl, csv, tsv, arrow), a folder, the embedded set or a hub name."""
    output: Path
    """A .parquet or .jsonl file, or a folder for negatives.parquet. Beside it come a .png of the
    similarities and a folder .mining, with a report, and with what the same command goes on from,
    also with other filters."""
    split: str = "train"
    """The split of a set that has several."""
    columns: tuple[str, ...] = ()
    """The columns of query and answer; found by name if empty. An answer may be a list of texts."""
    drop_incomplete: bool = False
    """Leaves out rows without a query or an answer; else they are an error."""

    # Where negatives are looked for
    corpus: tuple[str, ...] = ()
    """Further documents, a BEIR corpus for example, beside the answers of all rows."""
    corpus_split: str = "train"
    """Its split."""
    corpus_column: str = "text"
    """The column of its texts. If it has _id and title, a document is "title text", as in BEIR."""
    embeddings_of_queries: tuple[str, ...] = ()
    """Files .npy, as encode.py writes them, with a row for each row of the data."""
    embeddings_of_corpus: tuple[str, ...] = ()
    """The same for each row of the corpus; without --corpus, of the answers of the data."""
    similarity: Similarity | None = None
    """What compares embeddings; the model's own if not given, and cosine without a model."""
    normalize: bool = True
    """Scales embeddings to length 1 before, as sentence-transformers' miner does: dot products are
    cosines then. --no-normalize compares them as they are."""
    candidates: Count = 100
    """How many documents are searched for a query, most similar first, and kept."""
    rescore: str | None = None
    """A second model, whose scores of these candidates take the place of the first one's."""

    # Which of the candidates are negatives
    num_negatives: Count = 3
    """Of a query."""
    range_min: Natural = 0
    """Skips so many of the most similar that the other filters leave."""
    range_max: Count | None = None
    """Takes none beyond the so many first; answers do not count."""
    absolute_margin: float | None = None
    """Takes none that scores more than the answer less this."""
    relative_margin: Share | None = None
    """Takes none that scores more than the answer less this share of it; 0.05 is a good value."""
    max_score: float | None = None
    """Takes none that scores more."""
    min_score: float | None = None
    """Takes none that scores less."""
    sampling: Literal["top", "random"] = "top"
    """Of those left: the most similar, or any."""
    seed: Seed = 0
    """Of the random ones."""

    # What is written
    output_format: Format = "n-tuple"
    """n-tuple: query, answer, negative_1, …; scored: the same with scores; triplet: a row for each
    negative; labeled-pair: a row for each text, with a label; labeled-list: lists with labels."""
    keep_incomplete: bool = False
    """Keeps queries that have fewer negatives, but one at least."""

    # How texts are encoded
    query_prompt_name: str | None = None
    """Name of the model's prompt for queries; "query", if it has one, if not given."""
    query_prompt: str | None = None
    """What to put in front of queries instead."""
    document_prompt_name: str | None = None
    """Name of the model's prompt for documents; "document", if it has one, if not given."""
    document_prompt: str | None = None
    """What to put in front of documents instead."""
    no_prompts: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Uses no prompts of the models but those that are named."""
    rescore_prompts: tuple[str, str] | None = None
    """What to put in front of queries and of documents for the second model instead of its own."""
    truncate_dim: Count | None = None
    """Keeps the first so many features; as many as the model says if not given."""
    max_seq_length: Count | None = None
    """Tokens that are kept of a text; the model's own limit if not given."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the encoders' computation."""

    # Speed
    shard_size: Count = 20_000
    """Texts, or queries, of a shard: what is in memory at once, and lost by an interruption."""
    batch_size: Count = 64
    """Texts that go through the model at once, on all devices together."""
    packing: bool = False
    """Puts several short texts into one row, so that almost nothing is padding (our own models)."""
    encoder_source: Literal["auto", "jaxembed", "transformers"] = "auto"
    """Whose models: our own, or the Flax ones of transformers 4; auto takes ours where it can."""
    cache: Path | None = Path("~/.cache/jaxembed/compiled")
    """Where compiled programs are kept between runs; None keeps none."""

    @property
    def file(self) -> Path:
        """The file of the rows."""
        return self.output if self.output.suffix in KINDS else self.output / "negatives.parquet"

    @property
    def work(self) -> Path:
        """The folder of what is computed on the way."""
        return self.file.with_suffix(".mining")

    @property
    def picture(self) -> Path:
        """The picture of the similarities."""
        return self.file.with_suffix(".png")

    @property
    def report(self) -> Path:
        """All counts and statistics."""
        return self.work / "report.json"

    @property
    def filters(self) -> Filters:
        return Filters(**{name: getattr(self, name) for name in FILTERS})


def check(config: Config) -> None:
    """Refuses flags that cannot work, before anything is loaded."""
    check_fields(config)
    if not config.data:
        raise ConfigError("--data names no file")
    filters = config.filters
    needed = filters.range_max or filters.range_min + filters.num_negatives
    if needed > config.candidates:
        raise ConfigError(f"these filters reach to {needed} candidates; raise --candidates to that")
    for side in ("query", "document"):
        if None not in (getattr(config, f"{side}_prompt"), getattr(config, f"{side}_prompt_name")):
            raise ConfigError(f"give either --{side}-prompt or --{side}-prompt-name")
    if config.rescore is None and config.rescore_prompts is not None:
        raise ConfigError("--rescore-prompts are of a second model; name it with --rescore")
    if config.output != config.file and config.output.suffix in OTHERS:
        raise ConfigError(f"{config.output} must end in {' or '.join(KINDS)}, or be a folder")
    if config.output != config.file and config.output.is_file():
        raise ConfigError(f"{config.output} is a file; choose another --output")
    for written in (config.file, config.picture):
        if written.is_dir() or (written.exists() and not config.work.exists()):
            raise ConfigError(f"{written} is there already; choose another --output")
