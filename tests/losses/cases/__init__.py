"""The table of all losses: a new row in its family's file is tested for the whole contract."""

from tests.losses.cases import pairs, ranking
from tests.losses.cases.case import Case as Case

CASES = [*ranking.CASES, *pairs.CASES]
