"""The plan of several data sets at once: each batch comes from one of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from jaxembed.data.errors import DataError
from jaxembed.data.plans import SETS, BatchPlan, shuffled


class MixedPlan:
    """The epochs of several data sets: from a global step to a set and the rows of its batch.

    An epoch has, by `mix`:
        proportional: all batches of all sets, each set's in their own order; which set a step takes
            is drawn without replacement, in proportion to the sets' numbers of batches
        round_robin: a batch of each set in turn, in the order of `plans`, and as many of each as
            the set with the fewest batches has

    To resume, the step is enough, as with `BatchPlan`.

    Raises:
        DataError: there is no plan, no such mix, or a set without a batch.

    >>> from jaxembed.data.plans import plain_plan
    >>> sizes = {"questions": 4, "titles": 2}
    >>> plans = {name: BatchPlan(partial(plain_plan, n, 2, seed=0)) for name, n in sizes.items()}
    >>> plan = MixedPlan(plans)
    >>> plan.n_steps(epochs=2), [plan.locate(step) for step in range(3)]
    (6, [('questions', 0, 0), ('questions', 0, 1), ('titles', 0, 0)])
    >>> plan.rows(2)
    ('titles', array([1, 0]))
    """

    def __init__(self, plans: Mapping[str, BatchPlan], mix: str = "proportional", *, seed: int = 0):
        if not plans:
            raise DataError("MixedPlan needs the plan of one data set or more; got none")
        if mix not in MIXES:
            raise DataError(f"mix must be one of {', '.join(MIXES)}; got {mix!r}")
        self.plans = dict(plans)
        self._sets = BatchPlan(partial(_mixed, self.plans, mix, seed))

    def rows(self, step: int) -> tuple[str, np.ndarray]:
        """Returns the step's data set and the row numbers of its batch, as the set's plan does."""
        name, epoch, batch = self.locate(step)
        return name, self.plans[name].batch(epoch, batch)

    def locate(self, step: int) -> tuple[str, int, int]:
        """Returns the data set of a step, the epoch, and the batch within the set's epoch."""
        epoch, index = self._sets.locate(step)
        number, batch = self._sets.batch(epoch, index).tolist()
        return list(self.plans)[number], epoch, batch

    def n_steps(self, epochs: int) -> int:
        """Counts the steps of the first epochs."""
        return self._sets.n_steps(epochs)


def _mixed(plans: Mapping[str, BatchPlan], mix: str, seed: int, *, epoch: int) -> np.ndarray:
    """Returns for each step of an epoch the number of its data set and the batch, `[n 2]`."""
    counts = [_count(name, plan, epoch) for name, plan in plans.items()]
    return MIXES[mix](counts, seed, epoch)


def _count(name: str, plan: BatchPlan, epoch: int) -> int:
    try:
        return plan.n_batches(epoch)
    except DataError as error:
        raise DataError(f"data set {name!r}: {error}") from error


def _proportional(counts: list[int], seed: int, epoch: int) -> np.ndarray:
    sets = np.repeat(np.arange(len(counts)), counts)
    sets = sets[shuffled(len(sets), seed, epoch, SETS)]
    batches = np.empty_like(sets)
    batches[np.argsort(sets, kind="stable")] = np.concatenate([np.arange(n) for n in counts])
    return np.stack([sets, batches], axis=1)


def _round_robin(counts: list[int], seed: int, epoch: int) -> np.ndarray:
    batches, sets = np.divmod(np.arange(min(counts) * len(counts)), len(counts))
    return np.stack([sets, batches], axis=1)


MIXES = {"proportional": _proportional, "round_robin": _round_robin}
