"""One task: a loss, the rows it learns from, and the plan of their batches, checked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxembed.data import (
    BatchPlan,
    DataError,
    DataFacts,
    Rows,
    Shards,
    bind_columns,
    cluster_plan,
    contrastive_tension_plan,
    data_facts,
    group_by_label_plan,
    no_duplicates_plan,
    plain_plan,
    row_hashes,
)
from jaxembed.encoders import TextTokenizer
from jaxembed.objectives import Objective, WeightedSum
from jaxembed.tasks.batches import BatchMaker
from jaxembed.tasks.networks import Networks

if TYPE_CHECKING:
    from datasets import Dataset

ONE = Shards()
NONE: frozenset[str] = frozenset()
PLANS = ("plain", "no_duplicates", "group_by_label", "contrastive_tension", "clusters")


@dataclass(frozen=True)
class Task:
    """A loss and what makes its batches. `hashes` are those of all texts, `[rows columns]`."""

    objective: WeightedSum
    make: BatchMaker
    hashes: np.ndarray

    @property
    def rows(self) -> Rows:
        return self.make.rows

    @property
    def plan(self) -> BatchPlan:
        return self.make.plan

    def facts(self) -> DataFacts:
        """Counts what is empty, double and over-long in the data."""
        tokenizers = self.make.tokenizers

        def count(texts: list[str], role: str) -> np.ndarray:
            tokenizer, prompt = tokenizers[role]
            return tokenizer(texts, prompt)["attention_mask"].sum(axis=1)

        limits = {role: tokenizers[role][0].max_length for role in self.rows.text_roles}
        return data_facts(self.rows, self.hashes, count, limits)


def open_task(
    networks: Networks,
    objective: WeightedSum,
    dataset: Dataset,
    *,
    columns: Any = None,
    use_negatives: bool = False,
    drop_incomplete: bool = False,
    batch_size: int,
    batch_plan: str | None = None,
    pos_neg_ratio: int = 8,
    rows_per_label: int = 2,
    cluster_column: str | None = None,
    deletion_ratio: float = 0.6,
    prompts: Sequence[str | None] = (None, None),
    prompt_texts: Mapping[str, str] | None = None,
    buckets: Sequence[int] | None = None,
    shards: Shards = ONE,
    split_lengths: bool = False,
    packing: bool = False,
    seed: int = 0,
) -> Task:
    """Binds the columns of a data set to the roles of a loss, and plans its batches.

    Args:
        columns, use_negatives, drop_incomplete: as `bind_columns` takes them.
        batch_plan: one of `PLANS`; None is the one that suits the loss.
        pos_neg_ratio: of contrastive tension, one pair of so many is of a text with itself.
        rows_per_label: of each label that a batch visits.
        cluster_column: numbers of clusters, for the plan of that name.
        prompts: names of the encoder's prompts for the first text and for the others.
        prompt_texts: prompts by role, in place of those, such as `{"anchors": "query: "}`.
        buckets: lengths that texts are padded to.
        shards: into how many parts devices share the rows of a batch, and which are made here.
        split_lengths: encodes the longest quarter of each column apart.
        packing: puts several short texts into one row instead; of our own transformers.

    Raises:
        ValueError: data that the loss cannot use, or a network that is missing; it says what is
            needed, what there is, and how to say it right.
    """
    roles = objective.roles
    clusters: dict[str, type] = {} if cluster_column is None else {"clusters": int}
    rows = bind_columns(
        dataset,
        replace(roles, labels={**roles.labels, **clusters}),
        _with_clusters(columns, cluster_column),
        use_negatives=use_negatives,
        find_optional=not objective.networks.keys() & networks.frozen.keys(),
        drop_incomplete=drop_incomplete,
    )
    objective = _with_classes(objective, rows)
    live = _check_networks(objective, rows, networks)
    _check_bounds(objective, rows)
    hashes = row_hashes(rows)
    suits = objective.leading.plan if cluster_column is None else "clusters"
    plan_fn = _plan_fn(batch_plan or suits, rows, hashes, pos_neg_ratio, rows_per_label)
    plan = BatchPlan(partial(plan_fn, batch_size=batch_size, seed=seed))
    return Task(
        objective,
        BatchMaker(
            rows,
            roles,
            plan,
            _tokenizers(networks, objective, rows, live, prompts, prompt_texts or {}, buckets),
            live,
            shards=shards,
            split_lengths=split_lengths,
            packed=_packed(networks, rows, live, objective.leading.decoded) if packing else NONE,
            whole=objective.leading.decoded,
            deletion_ratio=deletion_ratio,
            seed=seed,
        ),
        hashes,
    )


def _packed(
    networks: Networks, rows: Rows, live: dict[str, tuple[str, ...]], whole: frozenset[str]
) -> frozenset[str]:
    """Returns the roles that are packed: those of the encoder, and of the networks that can."""
    if not networks.encoder.packs:
        raise ValueError(
            f"packing is for transformers of the source jaxembed; {networks.encoder.name} is none"
        )
    roles = {*rows.text_roles, "negatives"} - whole
    for name, its_roles in live.items():
        if networks.frozen[name].packs:
            roles |= {f"{name}_{role}" for role in its_roles}
    return frozenset(roles)


def _plan_fn(
    name: str, rows: Rows, hashes: np.ndarray, pos_neg_ratio: int, rows_per_label: int
) -> Any:
    if name not in PLANS:
        raise DataError(f"batch_plan must be one of {', '.join(PLANS)}; got {name!r}")
    if name == "plain":
        return partial(plain_plan, len(rows))
    if name == "no_duplicates":
        return partial(no_duplicates_plan, hashes)
    if name == "contrastive_tension":
        return partial(contrastive_tension_plan, len(rows), pos_neg_ratio=pos_neg_ratio)
    if name == "clusters":
        if "clusters" not in rows.label_types:
            raise DataError("the plan clusters needs their numbers; name a cluster_column")
        return partial(cluster_plan, rows.labels("clusters", range(len(rows))))
    if rows.label_types.get("labels") is not int:
        raise DataError("the plan group_by_label needs class labels; the loss has none")
    labels = rows.labels("labels", range(len(rows)))
    return partial(group_by_label_plan, labels, rows_per_label=rows_per_label)


def _with_clusters(columns: Any, cluster_column: str | None) -> Any:
    """Adds the column of clusters to the named ones."""
    if cluster_column is None:
        return columns
    if isinstance(columns, Mapping):
        return {**columns, "clusters": cluster_column}
    named = columns.split(",") if isinstance(columns, str) else list(columns or ())
    return [*named, f"clusters={cluster_column}"]


def _with_classes(objective: WeightedSum, rows: Rows) -> WeightedSum:
    """Sets the number of labels where it is not given, and refuses labels beyond it."""

    def settled(one: Objective) -> Objective:
        if "num_labels" not in one.settings:
            return one
        labels = rows.labels("labels", range(len(rows)))
        number = one.settings["num_labels"] or max(int(labels.max()) + 1, 2)
        wrong = np.flatnonzero((labels < 0) | (labels >= number))
        if len(wrong):
            raise DataError(
                f"{one.name} with num_labels {number} needs labels from 0 to {number - 1}; row"
                f" {wrong[0]} has {labels[wrong[0]]}; give num_labels, or number the classes from 0"
            )
        return one.with_settings(num_labels=number)

    return replace(objective, objectives=tuple(map(settled, objective.objectives)))


def _check_networks(
    objective: WeightedSum, rows: Rows, networks: Networks
) -> dict[str, tuple[str, ...]]:
    """Returns which roles each frozen network reads, where the data does not stand for it."""
    live: dict[str, tuple[str, ...]] = {}
    for one in objective.objectives:
        for name in one.networks:
            if any(label in rows.label_types for label in (*one.targets, *one.network_arrays)):
                continue
            if name not in networks.frozen:
                stored = [role for role in one.roles.labels if role in one.roles.optional]
                raise DataError(
                    f"{one.name} needs a {name}: a model, or what one said before in the columns"
                    f" {' or '.join(f'{role}=…' for role in stored)}; the data has"
                    f" {', '.join(rows.column_names)}"
                )
            live[name] = objective.networks[name]
    return live


def _check_bounds(objective: WeightedSum, rows: Rows) -> None:
    for one in objective.objectives:
        for role, (low, high) in one.bounds.items():
            if role not in rows.label_types:
                continue
            values = rows.labels(role, range(len(rows)))
            wrong = np.flatnonzero((values < low) | (values > high))
            if len(wrong):
                raise DataError(
                    f"{one.name} needs {role} from {low} to {high}; row {wrong[0]} has"
                    f" {values[wrong[0]]:g} (all lie between {values.min():g} and"
                    f" {values.max():g}); scale them to that range"
                )


def _tokenizers(
    networks: Networks,
    objective: WeightedSum,
    rows: Rows,
    live: dict[str, tuple[str, ...]],
    prompts: Sequence[str | None],
    prompt_texts: Mapping[str, str],
    buckets: Sequence[int] | None,
) -> dict[str, tuple[TextTokenizer, str]]:
    def in_buckets(tokenizer: TextTokenizer) -> TextTokenizer:
        return tokenizer if buckets is None else tokenizer.with_buckets(buckets)

    encoder = networks.encoder
    of_query, of_document = (encoder.prompt(name) for name in prompts)
    tokenizer = in_buckets(encoder.tokenizer)
    others = (*rows.text_roles[1:], "negatives")
    tokenizers = {rows.text_roles[0]: (tokenizer, of_query)}
    tokenizers |= dict.fromkeys(others, (tokenizer, of_document))
    if unknown := prompt_texts.keys() - tokenizers.keys():
        raise DataError(
            f"there is no text {min(unknown)} to put a prompt before; there are"
            f" {', '.join(tokenizers)}"
        )
    tokenizers |= {role: (tokenizer, prompt) for role, prompt in prompt_texts.items()}
    for role in objective.leading.decoded:
        assert networks.decoder is not None
        tokenizers[role] = in_buckets(networks.decoder.tokenizer), ""
    for name, roles in live.items():
        network = networks.frozen[name]
        for role in roles:
            tokenizers[f"{name}_{role}"] = in_buckets(network.tokenizer), network.prompt(None)
    return tokenizers
