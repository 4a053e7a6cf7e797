"""The flags of the data that a run learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxembed.settings import Count, NotNegative, Positive

Texts = tuple[str, ...]


@dataclass(frozen=True)
class DataFlags:
    """What a run learns from."""

    # What it is trained on
    data: Texts = ("wordnet-gloss",)
    """The embedded set, files (parquet, arrow, jsonl, json, csv, tsv, and .gz of the last four), a
    folder, or a hub name."""
    data_weights: tuple[NotNegative, ...] = ()
    """The weight of each entry of --data: every batch then has rows of all of them."""
    weight: NotNegative | None = None
    """Of a task in a file of --tasks."""
    stream: bool = False
    """Reads the files (local or hf://) window by window instead of opening them as a whole."""
    window: Count = 65536
    """Rows of a stream that are shuffled together."""
    split: str = "train"
    """The split of a set that has several."""
    columns: Texts = ()
    """Columns in the order of the loss's roles, or role=column; if empty, those of the roles' names
    or of well-known ones, or all that there are."""
    hard_negatives: bool = False
    """Also uses the columns of negatives that the data has."""
    negatives_per_row: Count | None = None
    """Of the negatives of a row that are used, so many are drawn anew in each step; all if None."""
    drop_incomplete: bool = False
    """Leaves out rows without a text or label that they need, and says how many; else they are an
    error."""
    drop_label: Texts = ()
    """Leaves out rows with these labels, such as -1 (no label in SNLI), and says how many."""
    prompts: Texts = ()
    """Instructions before the texts of a role, in place of the model's own: "anchors=query: "."""
    tasks: Path | None = None
    """A TOML file of several tasks instead, each with data and loss of its own."""
    mix: Literal["proportional", "round_robin", "weighted", "temperature"] = "proportional"
    """How tasks take turns: by their numbers of batches, one after the other, by the `weight` of
    each, or by size^(1 / mix_temperature). Weights let small ones begin anew."""
    mix_temperature: Positive = 2.0
    """1 is in proportion to the sizes; the higher, the more alike."""
