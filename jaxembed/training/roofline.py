"""Chips, and how fast they could run a compiled program at best."""

from __future__ import annotations

from dataclasses import dataclass

from jaxembed.training.compiled import ProgramCost

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """What one chip can do, as its maker publishes it."""

    name: str
    flops: float  # per second, of bfloat16 products
    memory: float  # bytes
    memory_rate: float  # bytes per second
    network_rate: float  # bytes per second, over all links to other chips


# Source: the pages "TPU v4", "TPU v5e", "TPU v5p" and "TPU v6e" of the Cloud TPU documentation.
CHIPS = {
    "v4": Chip("TPU v4", 275e12, 32 * GIB, 1.2e12, 300e9),
    "v5e": Chip("TPU v5e", 197e12, 16 * GIB, 819e9, 200e9),
    "v5p": Chip("TPU v5p", 459e12, 95 * GIB, 2.765e12, 600e9),
    "v6e": Chip("TPU v6e", 918e12, 32 * GIB, 1.64e12, 448e9),
}


@dataclass(frozen=True)
class Roofline:
    """Seconds that a program takes at least: for products, for memory, and between chips.

    `seconds` is the longest of them, as if all three ran side by side at full rate. Real steps take
    longer; how much longer is a matter of sizes and layouts.
    """

    products: float
    memory: float
    network: float

    @property
    def seconds(self) -> float:
        return max(self.products, self.memory, self.network)

    @property
    def bound_by(self) -> str:
        times = {"products": self.products, "memory": self.memory, "network": self.network}
        return max(times, key=lambda name: times[name])


def roofline(cost: ProgramCost, chip: Chip) -> Roofline:
    """Estimates the least time of a program on a chip.

    A sum over chips goes twice through a chip's links, once to be added and once to be handed out.

    >>> from jaxembed.training.compiled import ProgramCost, Traffic
    >>> sums = {"all-reduce": Traffic(1, 10**10)}
    >>> cost = ProgramCost(197 * 10**12, 819 * 10**8, sums, {}, 0, 0, 0, 0)
    >>> roofline(cost, CHIPS["v5e"])
    Roofline(products=1.0, memory=0.1, network=0.1)
    """
    moved = sum(
        traffic.bytes * (2 if kind == "all-reduce" else 1)
        for kinds in (cost.collectives, cost.loop_collectives)
        for kind, traffic in kinds.items()
    )
    return Roofline(
        cost.flops / chip.flops, cost.memory_traffic / chip.memory_rate, moved / chip.network_rate
    )
