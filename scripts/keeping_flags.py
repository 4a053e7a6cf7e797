"""The flags of what a run measures, and of what it keeps and reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from jaxembed.search import Similarity
from jaxembed.settings import Count, Positive

Texts = tuple[str, ...]


@dataclass(frozen=True)
class KeepingFlags:
    """What a run measures, keeps and reports."""

    # What is measured
    evaluate: Texts = ("auto",)
    """Folders of corpus, queries and qrels, files of scored pairs, KIND:FILE such as
    triplet:rows.jsonl, or .toml suites (scripts/README.md); loss:FILE, the loss on rows that are
    not trained on; "none"; or "auto", which is the embedded set's own evaluation for the embedded
    set."""
    evaluate_columns: Texts = ()
    """The columns of a file that is evaluated on, by role; found by name if empty."""
    evaluate_dims: tuple[Count, ...] = ()
    """Also measures the embeddings cut to so many features each."""
    evaluate_every: Positive = 60
    """Steps between evaluations; below 1, a share of all steps."""
    query_prompt: str | None = None
    """Name of the model's prompt for queries (the first text column). If not given, evaluations use
    its prompt "query", if it has one, and the training the default one, if there is one."""
    document_prompt: str | None = None
    """Name of the model's prompt for documents (the other text columns). If not given, evaluations
    use its prompt "document", if it has one, and the training the default one."""
    no_prompts: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Evaluates with none of the model's prompts but those that are named."""
    similarity: Similarity | None = None
    """What compares embeddings in evaluations, where a .toml suite does not say; the model's own if
    not given."""
    exclude_same_id: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """In retrieval, a query never finds the document of its own id, as in MTEB and BEIR."""
    metric: str | None = None
    """The metric that ranks checkpoints, greatest first, but a loss least first; the evaluation's
    main one if not given."""
    early_stopping: Count | None = None
    """Stops after so many evaluations in a row that were not better than the best."""

    # What is kept
    checkpoint_every: Count = 60
    """Steps between checkpoints."""
    keep: Count = 2
    """Checkpoints that are kept, besides the best of those that were measured."""
    save_best: bool = False
    """Saves the model of the best evaluation instead of the last; each makes a checkpoint then."""
    average_last: Count = 1
    """Saves the average of the last so many checkpoints, which are kept; above 1, each evaluation
    makes one."""
    max_skipped: Count = 5
    """A step whose loss or gradient is not finite changes nothing; after so many in a row the run
    stops, with their rows and texts in nonfinite.jsonl."""
    push_to_hub: str | None = None
    """Uploads the model to this repository of the hub in the end, such as me/my-model."""
    private: bool = False
    """Makes that repository a private one, if it is new."""

    # What is reported, besides log.jsonl and report.html
    log_every: Count = 10
    """Steps between printed lines, where there is no terminal."""
    log_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Further places for all numbers (extra log)."""
