"""Drawing from several sources in proportion to weights, as pure functions of the step.

A batch of n has n times the share of each source, rounded up or down: source i gets the integers in
an interval as long as n times its share, one interval beginning where the other ends. From batch to
batch all are shifted by another part of 1, so that over many batches the rounding is even.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxembed.data.errors import DataError
from jaxembed.data.plans import shuffled

BLOCK = 256  # steps that are shuffled together
DRAWS = 6  # the random stream of that, beside those of `plans` and `streams`
HALVINGS = 12  # there are 2**HALVINGS offsets, after which they repeat


def temperature_weights(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Computes weights size^(1/temperature), relative to the largest.

    1 is in proportion to the sizes; the higher, the more alike the weights.

    Raises:
        DataError: the temperature or a size is not positive.

    Source: Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer, 2020, section 3.5.2.

    >>> temperature_weights({"web": 1_000_000, "books": 10_000}, temperature=2)
    {'web': 1.0, 'books': 0.1}
    """
    if not 0 < temperature < math.inf:
        raise DataError(f"temperature must be positive; got {temperature}")
    _checked(list(sizes), sizes, "size")
    most = max(sizes.values())
    return {name: (size / most) ** (1 / temperature) for name, size in sizes.items()}


class WeightedRows:
    """How many rows of each source a batch has, and how many its earlier batches had.

    `weights` need not sum to 1; the order of `names` is that of the sources. A source's rows are
    numbered without an end, as those of a stream are, or the steps of a plan of single rows.

    Raises:
        DataError: a source without a weight, with one that is not positive, or an unknown one.

    >>> rows = WeightedRows(["web", "books"], {"web": 3, "books": 1}, batch_size=6)
    >>> rows.locate(0), rows.locate(1)
    ({'web': range(0, 5), 'books': range(0, 1)}, {'web': range(5, 9), 'books': range(1, 3)})
    """

    def __init__(self, names: Sequence[str], weights: Mapping[str, float], batch_size: int):
        if batch_size < 1:
            raise DataError(f"batch_size must be 1 or more; got {batch_size}")
        self.names = tuple(names)
        ends = np.cumsum(np.append(0, _checked(names, weights)))
        ends = batch_size * ends / ends[-1]
        offsets = np.zeros(1)  # 0, 1/2, 1/4, 3/4, 1/8, …: any first few are spread evenly
        for halving in range(1, HALVINGS + 1):
            offsets = np.concatenate([offsets, offsets + 0.5**halving])
        offsets += 0.5 / len(offsets)  # no end is an integer then, so rounding errors are none
        counts = np.diff(np.ceil(ends - offsets[:, None]).astype(int), axis=1)  # [offsets k]
        self._before = np.concatenate([np.zeros_like(counts[:1]), np.cumsum(counts, axis=0)])

    def span(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first of each source's rows in a step, and the one after the last, `[k]`."""
        times, place = divmod(step, len(self._before) - 1)
        return tuple(times * self._before[-1] + self._before[[place, place + 1]])

    def locate(self, step: int) -> dict[str, range]:
        """Returns the numbers of the step's rows of each source."""
        spans = zip(self.names, *(ends.tolist() for ends in self.span(step)), strict=True)
        return {name: range(start, stop) for name, start, stop in spans}


class WeightedSteps:
    """Which source has the batch of a step, and how many batches it had before.

    Of 256 steps each source has its share, rounded up or down, in an order drawn at random. The
    arguments and errors are those of `WeightedRows`.

    >>> steps = WeightedSteps(["web", "books"], {"web": 3, "books": 1})
    >>> steps.locate(0), steps.locate(10**7)
    (('web', 0), ('books', 2499999))
    """

    def __init__(self, names: Sequence[str], weights: Mapping[str, float], *, seed: int = 0):
        self.seed = seed
        self._blocks = WeightedRows(names, weights, BLOCK)
        self._current: tuple[int, np.ndarray, np.ndarray] | None = None

    def locate(self, step: int) -> tuple[str, int]:
        """Returns the source of a step, and which of the source's batches that is."""
        block, place = divmod(step, BLOCK)
        current = self._current
        if current is None or current[0] != block:
            current = self._current = block, *self._block(block)
        return self._blocks.names[current[1][place]], int(current[2][place])

    def _block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        start, stop = self._blocks.span(block)
        sources = np.repeat(np.arange(len(start)), stop - start)
        sources = sources[shuffled(BLOCK, self.seed, block, DRAWS)]
        batches = np.empty_like(sources)
        numbers = [np.arange(*ends) for ends in zip(start, stop, strict=True)]
        batches[np.argsort(sources, kind="stable")] = np.concatenate(numbers)
        return sources, batches


def _checked(
    names: Sequence[str], weights: Mapping[str, float], what: str = "weight"
) -> list[float]:
    """Returns the weights in the order of the names."""
    if not names:
        raise DataError("there is nothing to draw from; name one source or more")
    if unknown := [name for name in weights if name not in names]:
        raise DataError(
            f"there is a weight for {unknown[0]!r}, which is none of {', '.join(names)}"
        )
    for name in names:
        if name not in weights:
            raise DataError(f"{name!r} has no weight; give all a weight, or none")
        if not 0 < weights[name] < math.inf:
            raise DataError(
                f"the {what} of {name!r} must be positive; got {weights[name]} (to do without"
                " it, leave it out)"
            )
    return [weights[name] for name in names]
