"""What a loss needs of its data and networks, checked before anything is computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jaxembed.data import DataError, Rows
from jaxembed.objectives import Objective, WeightedSum
from jaxembed.tasks.networks import Networks

OF_NEGATIVES = ("margins", "scores", "guide_negatives")  # labels, of which each negative has one
MOST_CLASSES = 1_000_000  # of a classifier; a thousand times what the largest sets have


def with_classes(objective: WeightedSum, rows: Rows, *, streamed: bool = False) -> WeightedSum:
    """Sets the number of labels where it is not given, and refuses labels beyond it."""

    def settled(one: Objective) -> Objective:
        if "num_labels" not in one.settings:
            return one
        if streamed and not one.settings["num_labels"]:
            raise DataError(f"{one.name} needs num_labels, which a stream does not tell")
        labels = rows.labels("labels", range(len(rows)))
        words = len(rows.words.get("labels", ()))
        number = one.settings["num_labels"] or max(int(labels.max()) + 1, words, 2)
        if number > MOST_CLASSES:
            raise DataError(
                f"{one.name} would need a classifier of {number:,} classes; the data has"
                f" {len(np.unique(labels)):,} labels, from {labels.min()} to {labels.max()}: number"
                " them from 0"
            )
        wrong = np.flatnonzero((labels < 0) | (labels >= number))
        if len(wrong):
            raise DataError(
                f"{one.name} with num_labels {number} needs labels from 0 to {number - 1}; row"
                f" {wrong[0]} has {labels[wrong[0]]}; give num_labels, number the classes from 0,"
                f" or drop these rows with --drop-label {labels[wrong[0]]}"
            )
        return one.with_settings(num_labels=number)

    return replace(objective, objectives=tuple(map(settled, objective.objectives)))


def check_networks(
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


def check_bounds(objective: WeightedSum, rows: Rows) -> None:
    """Refuses labels that the loss cannot use."""
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


def check_draws(objective: WeightedSum, rows: Rows, negatives_per_row: int | None) -> None:
    """Refuses to draw negatives that are not there, or to which labels belong one by one."""
    if negatives_per_row is None:
        return
    if not 0 < negatives_per_row <= rows.max_negatives:
        raise DataError(
            f"negatives_per_row is {negatives_per_row}, and rows have up to {rows.max_negatives}"
            " negatives that are used; give fewer, or use those of the data with --hard-negatives"
        )
    if fixed := [role for role in OF_NEGATIVES if role in rows.label_types]:
        labels = rows.labels(fixed[0], range(1))
        if labels.ndim > 1 or fixed[0] == "margins":
            raise DataError(
                f"{objective.leading.name} has {fixed[0]} for each negative, so none can be drawn;"
                " omit negatives_per_row, or give a network instead"
            )


def bounds_of(objective: WeightedSum) -> dict[str, tuple[float, float]]:
    """Returns the least and the greatest value that each label may have."""
    bounds = {role: span for one in objective.objectives for role, span in one.bounds.items()}
    for one in objective.objectives:
        if one.settings.get("num_labels"):
            bounds["labels"] = 0, one.settings["num_labels"] - 1
    return bounds
