"""The table of all losses: a new row in its family's file is tested for the whole contract."""

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
