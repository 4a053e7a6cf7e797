"""What a loss takes over all candidates of a row: a sum, a log-sum-exp, the own or the hardest.

`Total`, `Own`, `LogSumExp` and `Hardest` hold the entries of some rows against some of the
candidates, with masks:

- `of_all()`: the value `[n]` if these are all candidates, plainly differentiable.
- `statistics(across)`: what is known of a row from these entries and those of the other devices.
  Two such are joined by `merge`, and that of all candidates gives the value by `value()`.
- `gradient(statistics, cotangent)`: the gradient of these entries for one of the value over all
  candidates. The statistics are enough for that, so entries are not kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from jaxembed.losses.across import Across, Alone
from jaxembed.selection import first_max

Entries = Float[Array, "n _"]
PerRow = Float[Array, " n"]
Mask = Bool[Array, "n _"]


class TotalSoFar(NamedTuple):
    total: PerRow

    def merge(self, other: TotalSoFar) -> TotalSoFar:
        return TotalSoFar(self.total + other.total)

    def value(self) -> PerRow:
        return self.total


class Total(NamedTuple):
    """The sum of the entries of each row where the mask is True."""

    entries: Entries
    where: Mask

    def of_all(self) -> PerRow:
        return self.statistics(Alone()).value()

    def statistics(self, across: Across) -> TotalSoFar:
        entries = jnp.where(self.where, self.entries, 0)
        return TotalSoFar(across.total(jnp.sum(entries, axis=1)))

    def gradient(self, statistics: TotalSoFar, cotangent: PerRow) -> Any:
        return Total(jnp.where(self.where, cotangent[:, None], 0), no_slope(self.where))


class Own(NamedTuple):
    """One entry of each row, that of `column`; -1: it is not among these entries.

    Its gradient joins that of a softmax before any matrix product, which keeps the digits of
    `p - 1`.
    """

    entries: Entries
    column: Int[Array, " n"]

    def of_all(self) -> PerRow:
        return jnp.sum(jnp.where(self._chosen(), self.entries, 0), axis=1)

    def _chosen(self) -> Mask:
        return (
            lax.broadcasted_iota(self.column.dtype, self.entries.shape, 1) == self.column[:, None]
        )

    def statistics(self, across: Across) -> TotalSoFar:
        # A few reads rather than a sum over a masked copy.
        entry = jnp.take_along_axis(self.entries, self.column[:, None], axis=1, mode="clip")[:, 0]
        return TotalSoFar(across.total(jnp.where(self.column < 0, 0, entry)))

    def gradient(self, statistics: TotalSoFar, cotangent: PerRow) -> Any:
        return Own(jnp.where(self._chosen(), cotangent[:, None], 0), no_slope(self.column))


class LogSumExpSoFar(NamedTuple):
    highest: PerRow
    total: PerRow  # Σ exp(entry - finite(highest))

    def merge(self, other: LogSumExpSoFar) -> LogSumExpSoFar:
        highest = jnp.maximum(self.highest, other.highest)
        shifted = [x.total * jnp.exp(x.highest - _finite(highest)) for x in (self, other)]
        return LogSumExpSoFar(highest, shifted[0] + shifted[1])

    def value(self) -> PerRow:
        none = self.total == 0
        logarithm = jnp.log(jnp.where(none, 1, self.total)) + _finite(self.highest)
        return jnp.where(none, -jnp.inf, logarithm)


class LogSumExp(NamedTuple):
    """`log sum exp` of the entries of each row where the masks are True.

    Of several blocks together, without joining them. A row without any entry gives `-inf` with
    gradient 0.
    """

    blocks: tuple[tuple[Entries, Mask], ...]

    def of_all(self) -> PerRow:
        return self.statistics(Alone()).value()

    def statistics(self, across: Across) -> LogSumExpSoFar:
        greatest = [
            jnp.max(jnp.where(where, block, -jnp.inf), axis=1, initial=-jnp.inf)
            for block, where in self.blocks
        ]
        highest = across.greatest(lax.stop_gradient(jnp.stack(greatest).max(axis=0)))
        sums = [jnp.sum(_powers(*block, highest), axis=1) for block in self.blocks]
        return LogSumExpSoFar(highest, across.total(sum(sums[1:], start=sums[0])))

    def gradient(self, statistics: LogSumExpSoFar, cotangent: PerRow) -> Any:
        highest, total = statistics
        share = (cotangent / jnp.where(total == 0, 1, total))[:, None]
        return LogSumExp(
            tuple(
                (_powers(block, where, highest) * share, no_slope(where))
                for block, where in self.blocks
            )
        )


def excess(others: Float[Array, "*rows"], positive: Float[Array, "*rows"]) -> Array:
    """Computes `log(exp(others) + exp(positive)) - positive`, also where it is very small.

    With `others` the log-sum-exp of the negatives this is the cross-entropy of the positive. Its
    digits would be lost in the sum with a large positive, such as `scale` times a cosine of 1.
    """
    return jax.nn.softplus(others - positive)


class HardestSoFar(NamedTuple):
    greatest: PerRow
    order: Int[Array, " n"]

    def merge(self, other: HardestSoFar) -> HardestSoFar:
        replaces = (other.greatest > self.greatest) | jnp.isnan(other.greatest)
        replaces |= (other.greatest == self.greatest) & (other.order < self.order)
        return jax.tree.map(lambda old, new: jnp.where(replaces, new, old), self, other)

    def value(self) -> PerRow:
        return self.greatest


class Hardest(NamedTuple):
    """The greatest entry of each row where the mask is True, `-inf` where a row has none.

    Of equal ones, that of the lowest `order` gets the gradient.
    """

    entries: Entries
    where: Mask
    order: Int[Array, " _"]

    def of_all(self) -> PerRow:
        return first_max(jnp.where(self.where, self.entries, -jnp.inf))

    def statistics(self, across: Across) -> HardestSoFar:
        entries = jnp.where(self.where, lax.stop_gradient(self.entries), -jnp.inf)
        greatest = across.greatest(jnp.max(entries, axis=1))
        last = jnp.iinfo(self.order.dtype).max
        equal = jnp.where(entries == greatest[:, None], self.order[None], last)
        return HardestSoFar(greatest, across.least(jnp.min(equal, axis=1)))

    def gradient(self, statistics: HardestSoFar, cotangent: PerRow) -> Any:
        greatest, first = statistics
        chosen = (self.entries == greatest[:, None]) & (self.order[None] == first[:, None])
        entries = jnp.where(chosen & self.where, cotangent[:, None], 0)
        return Hardest(entries, no_slope(self.where), no_slope(self.order))


OverCandidates = Total | Own | LogSumExp | Hardest


def no_slope(x: Array) -> Any:
    """Returns what JAX takes as the gradient of integers and booleans."""
    return np.zeros(x.shape, jax.dtypes.float0)


def _finite(highest: Array) -> Array:
    return jnp.where(jnp.isfinite(highest), highest, 0)


def _powers(block: Entries, where: Mask, highest: PerRow) -> Entries:
    return jnp.exp(jnp.where(where, block, -jnp.inf) - _finite(highest)[:, None])
