"""Training objectives: encode, loss and own parameters as one scalar of (params, batch, key)."""

from jaxembed.objectives.choices import ALIASES as ALIASES
from jaxembed.objectives.objective import Objective as Objective
from jaxembed.objectives.registry import REGISTRY as REGISTRY, named as named
from jaxembed.objectives.sums import (
    WeightedSum as WeightedSum,
    as_sum as as_sum,
    build_tasks as build_tasks,
)
