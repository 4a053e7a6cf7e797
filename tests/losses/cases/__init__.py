"""The table of all losses: a new row in its family's file is tested for the whole contract."""

from collections import defaultdict

import numpy as np

from tests.losses.cases import (
    distillation,
    in_batch,
    late_interaction,
    pairs,
    ranking,
    reranking,
    sparse,
    tension,
    triplets,
)
from tests.losses.cases.case import Case as Case

CASES = [
    *ranking.CASES,
    *in_batch.CASES,
    *tension.CASES,
    *pairs.CASES,
    *triplets.CASES,
    *distillation.CASES,
    *sparse.CASES,
    *late_interaction.CASES,
    *reranking.CASES,
]


def loss_name(case: Case) -> str:
    return case.name.split("-")[0]


def richest(cases: list[Case]) -> Case:
    """The first of the cases with the most columns and, among these, the most other arrays."""

    def size(case: Case) -> tuple[int, int]:
        columns, rows = case.inputs(2)
        return len(columns), len(rows) + len(case.parameters(np.random.default_rng(0)))

    return max(cases, key=size)


CASES_OF: dict[str, list[Case]] = defaultdict(list)
for case in CASES:
    CASES_OF[loss_name(case)].append(case)
RICHEST = [richest(cases) for cases in CASES_OF.values()]
