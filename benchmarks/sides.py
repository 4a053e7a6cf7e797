"""Sides of a comparison: measured in turns, with the memory that a call takes."""

from __future__ import annotations

import ctypes
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
SETTLING_S = 0.2  # JAX gives memory back behind the end of a call


def in_turns(
    calls: Mapping[str, Callable[[], T]], rounds: int, *, patience_s: float = math.inf
) -> dict[str, list[T]]:
    """Measures every side once a round, every second round in reverse; a call returns seconds.

    No round begins after `patience_s`, but the first.
    """
    seconds: dict[str, list[T]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for turn in range(rounds):
        if turn and time.perf_counter() - begin > patience_s:
            break
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            seconds[name].append(calls[name]())
    return seconds


def spread(seconds: list[float]) -> str:
    """Writes the median, the least and the greatest."""
    numbers = (statistics.median(seconds), min(seconds), max(seconds))
    return "{:.4g} ({:.3g}–{:.3g})".format(*numbers)


def resident_growth(call: Callable[[], object]) -> int | None:
    """Measures how far a call raises resident bytes at its peak; None where that cannot be asked.

    Linux alone sets the peak of a process back.
    """
    if not sys.platform.startswith("linux"):
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return None
    time.sleep(SETTLING_S)
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
