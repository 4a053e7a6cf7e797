"""Which rows form which batch of a task: the plan that is asked for, or suits the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jaxembed.data import (
    BatchPlan,
    DataError,
    MixedRows,
    Rows,
    StreamPlan,
    StreamRows,
    cluster_plan,
    contrastive_tension_plan,
    group_by_label_plan,
    no_duplicates_plan,
    plain_plan,
)
from jaxembed.tasks.batches import Plan
from jaxembed.typing import Roles

SHRUNKEN = 1.25  # a plan of this many times the fewest possible batches is named
PLANS = ("plain", "no_duplicates", "group_by_label", "contrastive_tension", "clusters")


def open_plan(
    rows: Rows,
    hashes: np.ndarray,
    name: str | None,
    *,
    suits: str,
    batch_size: int,
    pos_neg_ratio: int,
    rows_per_label: int,
    mixture: Mapping[str, tuple[int, float]] | None,
    seed: int,
) -> Plan:
    """Opens the plan of a name, or that which `suits` the loss."""
    if name is not None and name not in PLANS:
        raise DataError(f"batch_plan must be one of {', '.join(PLANS)}; got {name!r}")
    if isinstance(rows, StreamRows):
        if name not in (None, "plain") or suits in ("group_by_label", "contrastive_tension"):
            raise DataError(
                f"a stream comes in its own order; for the plan {name or suits} do not stream"
            )
        return StreamPlan(batch_size)
    if mixture is not None:
        if name not in (None, "plain"):
            raise DataError(f"rows are mixed by weight, so there is no plan {name}; leave it out")
        if (total := sum(size for size, _ in mixture.values())) != len(rows):
            raise DataError(
                f"of {total} rows {len(rows)} are there, and it is not known of which source; mix"
                " by weight what needs no rows left out"
            )
        sizes = {source: size for source, (size, _) in mixture.items()}
        weights = {source: weight for source, (_, weight) in mixture.items()}
        return MixedRows(sizes, weights, batch_size, seed=seed)
    if name is None and "clusters" in rows.label_types:
        name = "clusters"
    plan_fn = _plan_fn(name or suits, rows, hashes, pos_neg_ratio, rows_per_label)
    return BatchPlan(partial(plan_fn, batch_size=batch_size, seed=seed))


def _plan_fn(
    name: str, rows: Rows, hashes: np.ndarray, pos_neg_ratio: int, rows_per_label: int
) -> Any:
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


def shrunken(plan: Plan, n_rows: int) -> tuple[str, ...]:
    """Says that batches are not full, as texts repeat that may not be in one batch twice."""
    if not isinstance(plan, BatchPlan):
        return ()
    batches, size = plan.n_batches(0), plan.rows(0).shape[0]
    if batches <= SHRUNKEN * -(-n_rows // size):
        return ()
    return (
        f"batches have {n_rows / batches:.1f} of {size} rows on average, as texts repeat and none"
        " is in a batch twice; --batch-plan plain fills them and masks what is equal",
    )


def roles_with_clusters(roles: Roles) -> Roles:
    """Adds the numbers of clusters to what is read."""
    return replace(roles, labels={**roles.labels, "clusters": int})


def columns_with_clusters(columns: Any, cluster_column: str) -> Any:
    """Adds the column of clusters to the named ones."""
    if isinstance(columns, Mapping):
        return {**columns, "clusters": cluster_column}
    named = columns.split(",") if isinstance(columns, str) else list(columns or ())
    return [*named, f"clusters={cluster_column}"]
