"""The README's table of objectives: `python -m jaxembed.objectives.table` prints it."""

from __future__ import annotations

import inspect

from jaxembed.objectives.objective import Objective
from jaxembed.objectives.registry import REGISTRY

HEADINGS = ("`--loss`", "published class", "columns", "own parameters", "batch plan", "flags")
OF_NETWORKS = {"guide": ["guide"], "teacher": ["teacher_model"]}
OF_PLANS = {"group_by_label": ["rows_per_label"], "contrastive_tension": ["pos_neg_ratio"]}
OF_DECODER = ["decoder_name_or_path", "tie_encoder_decoder", "deletion_ratio"]


def table() -> str:
    """Returns the table in Markdown, a line for each entry of the registry."""
    rows = [HEADINGS, ["---"] * len(HEADINGS), *map(_row, REGISTRY.values())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(objective: Objective) -> list[str]:
    if objective.wrapper is not None:
        settings = inspect.signature(objective.wrapper.wrap).parameters.keys() - {
            "loss",
            "truncate",
        }
        names = [name for name in objective.settings if name in settings]
        rest = ["those of its inner loss"] * 2 + ["that of its inner loss"]
        return [objective.name, objective.published, *rest, _flags(["inner_loss", *names])]
    flags = [
        *(["mini_batch_size"] if objective.mini_batch_size else []),
        *(flag for network in objective.networks for flag in OF_NETWORKS[network]),
        *(OF_DECODER if objective.decoded else []),
        *OF_PLANS.get(objective.plan, []),
        *("size_average" if name == "reduce_fn" else name for name in objective.settings),
    ]
    return [
        objective.name,
        objective.published or "(SigLIP)",
        _columns(objective),
        objective.own.what if objective.own else "",
        objective.plan,
        _flags(flags),
    ]


def _flags(names: list[str]) -> str:
    return " ".join(f"`--{name.replace('_', '-')}`" for name in names)


def _columns(objective: Objective) -> str:
    roles = objective.roles
    texts = [
        f"{role} (= {roles.same_as[role]})" if role in roles.same_as else role
        for role in roles.texts
    ]
    if roles.several:
        texts.append("more texts (optional)")
    if roles.negatives:
        texts.append("negatives" if roles.needs_negatives else "negatives (optional)")
    kinds = {float: "float", int: "class"}
    needed = [f"{n}: {kinds[k]}" for n, k in roles.labels.items() if n not in roles.optional]
    optional = [name for name in roles.labels if name in roles.optional]
    if objective.networks:
        network = next(iter(objective.networks))
        stored = (", " if network == "guide" else " or ").join(optional)
        targets = f"a {network} model or {stored}"
    else:
        targets = ", ".join(f"{name} (optional)" for name in optional)
    return ", ".join([*texts, *needed]) + (f"; {targets}" if targets else "")


if __name__ == "__main__":
    print(table(), end="")
