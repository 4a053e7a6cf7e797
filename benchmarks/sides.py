"""Sides of a comparison: measured in turns, held to targets, with the memory that a call takes."""

from __future__ import annotations

import ctypes
import re
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def in_turns(calls: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measures every side once a round, every second round in reverse; a call returns seconds."""
    seconds: dict[str, list[T]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            seconds[name].append(calls[name]())
    return seconds


def spread(seconds: list[float]) -> str:
    """Writes the median, the least and the greatest."""
    numbers = (statistics.median(seconds), min(seconds), max(seconds))
    return "{:.4g} ({:.3g}–{:.3g})".format(*numbers)


@dataclass(frozen=True)
class Target:
    """A number that is held to a bound, or only reported where there is none."""

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most

    def __str__(self) -> str:
        fact = f"{self.what}: {self.value:.3g}"
        if self.met is None:
            return fact
        bound = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        return f"{'met' if self.met else 'MISSED'}: {fact}, target {bound}"


def conclude(folder: Path, name: str, targets: list[Target]) -> None:
    """Prints which targets are met, and writes it below the table."""
    print("\n".join(map(str, targets)))
    with (folder / f"{name}.md").open("a") as file:
        file.write("".join(f"\n- {target}" for target in targets) + "\n")


def resident_growth(call: Callable[[], object]) -> int | None:
    """Measures how far a call raises resident bytes at its peak; None where that cannot be asked.

    Linux alone sets the peak of a process back.
    """
    if not sys.platform.startswith("linux"):
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return None
    trim(0)  # what was freed before would hide what the call takes
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])
