"""The plans of several data sets at once: each batch comes from one of them, or from all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from typing import Protocol

import numpy as np

from jaxembed.data.draws import WeightedRows, WeightedSteps
from jaxembed.data.errors import DataError
from jaxembed.data.plans import SETS, BatchPlan, shuffled

SOURCES = 7  # the random stream of the rows of sources, beside those of `plans`, streams and draws


class StepPlan(Protocol):
    """From a step of its own to rows: a `BatchPlan`, or a `StreamPlan`."""

    def rows(self, step: int) -> np.ndarray: ...

    def n_steps(self, epochs: int) -> int: ...


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


class WeightedPlan:
    """Steps of several data sets by weight, without an end: small sets begin anew, as often as it
    takes, while large ones still go on.

    `plans` may be those of streams. An epoch has as many steps as all sets have batches.

    Raises:
        DataError: there is no plan, or a weight that is missing or not positive.

    >>> from jaxembed.data.plans import plain_plan
    >>> sizes = {"questions": 4, "titles": 2}
    >>> plans = {name: BatchPlan(partial(plain_plan, n, 2, seed=0)) for name, n in sizes.items()}
    >>> plan = WeightedPlan(plans, {"questions": 1.0, "titles": 3.0})
    >>> [plan.rows(step)[0] for step in range(4)], plan.n_steps(epochs=2)
    (['questions', 'titles', 'titles', 'questions'], 6)
    """

    def __init__(
        self, plans: Mapping[str, StepPlan], weights: Mapping[str, float], *, seed: int = 0
    ):
        self.plans = dict(plans)
        self._steps = WeightedSteps(list(plans), weights, seed=seed)

    def rows(self, step: int) -> tuple[str, np.ndarray]:
        """Returns the step's data set and the row numbers of its batch, as the set's plan does."""
        name, number = self._steps.locate(step)
        return name, self.plans[name].rows(number)

    def n_steps(self, epochs: int) -> int:
        """Counts the steps of the first epochs."""
        return epochs * sum(plan.n_steps(1) for plan in self.plans.values())


class MixedRows:
    """Batches with rows of several sources by weight; each source's rows are shuffled by epoch.

    The sources stand one behind the other in one data set. A source begins anew when it is through,
    while others still go on. An epoch has as many rows as all sources.

    Raises:
        DataError: there is no source, or a weight that is missing or not positive.

    >>> plan = MixedRows({"web": 4, "books": 3}, {"web": 2.0, "books": 1.0}, 3, seed=0)
    >>> plan.rows(0), plan.rows(1), plan.n_steps(epochs=1)
    (array([2, 0, 5]), array([3, 1, 6]), 3)
    """

    def __init__(
        self, sizes: Mapping[str, int], weights: Mapping[str, float], batch_size: int, *, seed: int
    ):
        self.sizes, self.batch_size, self.seed = dict(sizes), batch_size, seed
        self._shares = WeightedRows(list(sizes), weights, batch_size)

    def rows(self, step: int) -> np.ndarray:
        """Returns the rows of the step's batch, int64 `[batch_size]`, source by source."""
        parts, first = [], 0
        shares = self._shares.locate(step)
        for stream, (name, n) in enumerate(self.sizes.items()):
            for epoch, places in _by_epoch(shares[name], n):
                parts.append(first + self._order(n, epoch, stream)[places])
            first += n
        return np.concatenate(parts)

    def n_steps(self, epochs: int) -> int:
        """Counts the steps of the first epochs."""
        return -(-epochs * sum(self.sizes.values()) // self.batch_size)

    def _order(self, n: int, epoch: int, stream: int) -> np.ndarray:
        if self._orders.get(stream, (None,))[0] != epoch:
            self._orders[stream] = epoch, shuffled(n, self.seed, epoch, SOURCES, stream)
        return self._orders[stream][1]

    @cached_property
    def _orders(self) -> dict[int, tuple[int, np.ndarray]]:
        return {}


def _by_epoch(numbers: range, n: int) -> Iterator[tuple[int, np.ndarray]]:
    """Cuts numbers of endless rows into places within epochs of n rows."""
    start = numbers.start
    while start < numbers.stop:
        epoch = start // n
        stop = min(numbers.stop, (epoch + 1) * n)
        yield epoch, np.arange(start, stop) - epoch * n
        start = stop


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
