"""The table of all losses: add a row in its family's file and every test of the contract applies."""

from tests.losses.cases import pairs, ranking
from tests.losses.cases.case import Case as Case

CASES = [*ranking.CASES, *pairs.CASES]
