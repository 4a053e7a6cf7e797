"""Tokenizes the texts of files once, so that trainings read their tokens and wait for none:

    python scripts/tokenize_texts.py all-MiniLM-L6-v2 --data pairs.parquet --cache tokens
    python scripts/tokenize_texts.py org/model --data a.jsonl --prompts "q=query: " --cache tokens

Any number of data sets, prompts and models share a folder: what is there already is not tokenized
again, and no model gets the tokens of another, nor those of another --max-seq-length.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from command import command
from config import ConfigError

from jaxembed.data import DataError, open_dataset
from jaxembed.encoders import load
from jaxembed.encoders.token_cache import TokenCache, cache_tokens
from jaxembed.folder_lock import locked
from jaxembed.settings import Count, check_fields

if TYPE_CHECKING:
    from datasets import Dataset

READ = 10_000  # rows read at once


@dataclass(frozen=True)
class Config:
    """The flags."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A folder, or the name of a model on the hub."""
    data: tuple[str, ...]
    """The embedded set, files (parquet, json, jsonl, csv, tsv, arrow), a folder, or a hub name."""
    cache: Path
    """The folder of the tokens."""
    columns: tuple[str, ...] = ()
    """Columns of texts, or of lists of texts; all such if empty."""
    prompts: tuple[str, ...] = ()
    """What goes before the texts of a column, in place of the model's default: "query=query: "."""
    split: str = "train"
    """The split of a set that has several."""
    max_seq_length: Count | None = None
    """Tokens that are kept of a text; the model's own limit if not given."""


@dataclass(frozen=True)
class Texts:
    """The texts of a column, or of the lists in it, read some rows at a time."""

    dataset: Dataset
    column: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[str]:
        from jaxembed.data.arrow_types import plain

        rows = self.dataset.select_columns([self.column]).with_format("arrow")
        for start in range(0, len(rows), READ):
            table: Any = rows[start : start + READ]
            for value in plain(table.column(0)).to_pylist():
                texts = [value] if isinstance(value, str) else value or ()
                yield from (text for text in texts if text is not None)


def main(config: Config) -> int:
    """Tokenizes column by column; returns the exit status."""
    check_fields(config)
    import datasets

    datasets.disable_progress_bars()
    source: Any = config.data[0] if len(config.data) == 1 else list(config.data)
    dataset = open_dataset(source, split=config.split)
    columns = columns_of(config, dataset)
    prompts = prompts_of(config, columns)
    encoder = load(config.model, max_seq_length=config.max_seq_length)
    default = encoder.prompt(None)
    cache = TokenCache.open(encoder.tokenizer, config.cache)
    with locked(config.cache):
        for column, lists in columns.items():
            texts, before = Texts(dataset, column), len(cache)
            cache = cache_tokens(
                encoder.tokenizer,
                iter(texts) if lists else texts,
                config.cache,
                prompt=prompts.get(column, default),
                show_progress=sys.stdout.isatty(),
            )
            print(f"{column}: {len(dataset):,} rows, {len(cache) - before:,} new texts", flush=True)
    print(f"tokens  {config.cache}")
    return 0


def columns_of(config: Config, dataset: Dataset) -> dict[str, bool]:
    """Returns the columns to tokenize, and whether they hold lists."""
    from jaxembed.data.arrow_types import is_text
    from jaxembed.data.rows import element_type, type_of

    found = {}
    for name in dataset.column_names:
        column = dataset.select_columns([name])
        if is_text(element_type(column)):
            found[name] = not is_text(type_of(column))
    if wrong := [name for name in config.columns if name not in found]:
        raise DataError(f"there is no column {wrong[0]!r} of texts; there are {', '.join(found)}")
    if not found:
        raise DataError(f"no column holds texts; the columns are {', '.join(dataset.column_names)}")
    return {name: found[name] for name in config.columns or found}


def prompts_of(config: Config, columns: dict[str, bool]) -> dict[str, str]:
    """Returns the prompts by column."""
    prompts = {}
    for prompt in config.prompts:
        column, equals, text = prompt.partition("=")
        if not equals or column not in columns:
            raise ConfigError(f"--prompts takes column=prompt, of {', '.join(columns)}: {prompt!r}")
        prompts[column] = text
    return prompts


if __name__ == "__main__":
    command(main, Config, __doc__, kept="whole files stay, the same command goes on")
