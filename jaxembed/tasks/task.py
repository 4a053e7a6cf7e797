"""One task: a loss, the rows it learns from, and the plan of their batches, checked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxembed.data import (
    DataError,
    DataFacts,
    Rows,
    Shards,
    Stream,
    StreamRows,
    bind_columns,
    bind_stream,
    data_facts,
    row_hashes,
    text_hashes,
)
from jaxembed.objectives import WeightedSum
from jaxembed.tasks.batches import BatchMaker, Plan
from jaxembed.tasks.checking import (
    bounds_of,
    check_bounds,
    check_draws,
    check_networks,
    with_classes,
)
from jaxembed.tasks.networks import Networks
from jaxembed.tasks.planning import (
    columns_with_clusters,
    open_plan,
    roles_with_clusters,
    shrunken,
)
from jaxembed.tasks.reading import packed_roles, tokenizers_of

if TYPE_CHECKING:
    from datasets import Dataset

ONE = Shards()


@dataclass(frozen=True)
class Task:
    """A loss and what makes its batches.

    `hashes` are those of all texts, `[rows columns]`; of a stream, of its first rows.
    """

    objective: WeightedSum
    make: BatchMaker
    hashes: np.ndarray

    @property
    def rows(self) -> Rows:
        return self.make.rows

    @property
    def known(self) -> Rows:
        """The rows that can be looked at beforehand: all, or the first of a stream."""
        return self.rows.head if isinstance(self.rows, StreamRows) else self.rows

    @property
    def plan(self) -> Plan:
        return self.make.plan

    @property
    def size(self) -> int | None:
        """The number of rows, None of a stream."""
        return None if isinstance(self.rows, StreamRows) else len(self.rows)

    def facts(self) -> DataFacts:
        """Counts what is empty, double and over-long in the data."""
        tokenizers = self.make.tokenizers

        def count(texts: list[str], role: str) -> np.ndarray:
            tokenizer, prompt = tokenizers[role]
            return tokenizer(texts, prompt)["attention_mask"].sum(axis=1)

        limits = {role: tokenizers[role][0].max_length for role in self.rows.text_roles}
        facts = data_facts(self.known, self.hashes, count, limits)
        if (k := self.make.negatives_per_row) is not None:
            drawn = (
                f"{k} of up to {self.rows.max_negatives} negatives of a row are drawn in each step"
            )
            facts = replace(facts, remarks=(*facts.remarks, drawn))
        if isinstance(self.rows, StreamRows):
            return replace(facts, stream_files=len(self.rows.stream.files.names))
        return replace(facts, remarks=(*facts.remarks, *shrunken(self.plan, len(self.rows))))

    def content(self) -> list[np.ndarray]:
        """Returns what is the same for the same data: hashes, and the names of streamed files."""
        if not isinstance(self.rows, StreamRows):
            return [self.hashes]
        names = (PurePath(name).name for name in self.rows.stream.files.names)
        return [self.hashes, text_hashes(names)]


def open_task(
    networks: Networks,
    objective: WeightedSum,
    dataset: Dataset | Stream,
    *,
    columns: Any = None,
    use_negatives: bool = False,
    drop_incomplete: bool = False,
    drop_labels: Sequence[str] = (),
    negatives_per_row: int | None = None,
    batch_size: int,
    batch_plan: str | None = None,
    pos_neg_ratio: int = 8,
    rows_per_label: int = 2,
    cluster_column: str | None = None,
    mixture: Mapping[str, tuple[int, float]] | None = None,
    deletion_ratio: float = 0.6,
    prompts: Sequence[str | None] = (None, None),
    prompt_texts: Mapping[str, str] | None = None,
    buckets: Sequence[int] | None = None,
    token_cache: str | PurePath | None = None,
    shards: Shards = ONE,
    split_lengths: bool = False,
    packing: bool = False,
    seed: int = 0,
) -> Task:
    """Binds the columns of a data set or stream to the roles of a loss, and plans its batches.

    Args:
        columns, use_negatives, drop_incomplete, drop_labels: as `bind_columns` takes them.
        negatives_per_row: how many of a row's negatives to draw anew in each step; all if None.
        batch_plan: one of `PLANS`; None is the one that suits the loss. A stream has its own.
        pos_neg_ratio: of contrastive tension, one pair of so many is of a text with itself.
        rows_per_label: of each label that a batch visits.
        cluster_column: numbers of clusters, for the plan of that name.
        mixture: sizes and weights of the sources that the data set is made of, one behind the
            other; every batch then has rows of all, by weight.
        prompts: names of the encoder's prompts for the first text and for the others.
        prompt_texts: prompts by role, in place of those, such as `{"anchors": "query: "}`.
        buckets: lengths that texts are padded to.
        token_cache: folder of the tokens of texts, as `cache_tokens` writes it.
        shards: into how many parts devices share the rows of a batch, and which are made here.
        split_lengths: encodes the longest quarter of each column apart.
        packing: puts several short texts into one row instead; of our own transformers.

    Raises:
        ValueError: data that the loss cannot use, or a network that is missing; it says what is
            needed, what there is, and how to say it right.
    """
    roles = objective.roles
    if roles.ids and batch_size == 1:
        raise DataError(
            "a loss that takes its negatives from the batch learns nothing of batch_size 1; use at"
            " least 2"
        )
    options: dict[str, Any] = {
        "use_negatives": use_negatives,
        "find_optional": not objective.networks.keys() & networks.frozen.keys(),
    }
    if isinstance(dataset, Stream):
        if drop_labels:
            raise DataError("rows of a stream cannot be dropped by their label; do not stream them")
        rows: Rows = bind_stream(dataset, roles, columns, bounds=bounds_of(objective), **options)
        known = rows.head
    else:
        rows = known = bind_columns(
            dataset,
            roles if cluster_column is None else roles_with_clusters(roles),
            columns if cluster_column is None else columns_with_clusters(columns, cluster_column),
            drop_incomplete=drop_incomplete,
            drop_labels=drop_labels,
            **options,
        )
    objective = with_classes(objective, known, streamed=rows is not known)
    live = check_networks(objective, known, networks)
    check_bounds(objective, known)
    check_draws(objective, known, negatives_per_row)
    hashes = row_hashes(known)
    plan = open_plan(
        rows,
        hashes,
        batch_plan,
        suits=objective.leading.plan,
        batch_size=batch_size,
        pos_neg_ratio=pos_neg_ratio,
        rows_per_label=rows_per_label,
        mixture=mixture,
        seed=seed,
    )
    packed, packed_alone = ((), frozenset[str]())
    if packing:
        packed, packed_alone = packed_roles(networks, objective, rows, live)
    return Task(
        objective,
        BatchMaker(
            rows,
            roles,
            plan,
            tokenizers_of(
                networks,
                objective,
                rows,
                live,
                prompts=prompts,
                prompt_texts=prompt_texts or {},
                buckets=buckets,
                token_cache=token_cache,
            ),
            live,
            shards=shards,
            split_lengths=split_lengths,
            packed=packed,
            packed_alone=packed_alone,
            whole=objective.leading.decoded,
            deletion_ratio=deletion_ratio,
            seed=seed,
            negatives_per_row=negatives_per_row,
        ),
        hashes,
    )
