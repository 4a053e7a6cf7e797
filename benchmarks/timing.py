"""How both sides of a comparison measure: enough calls at once, on the same clock."""

from __future__ import annotations

import time
from collections.abc import Callable

MINIMUM_S = 0.05  # a measurement lasts at least so long


def seconds_for(call: Callable[[], object], repeats: int) -> float:
    """Measures so many calls; `call` must wait for its result."""
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - begin


def enough_repeats(call: Callable[[], object]) -> int:
    """Doubles the repetitions of a warm call until a measurement is long enough."""
    repeats = 1
    while seconds_for(call, repeats) < MINIMUM_S:
        repeats *= 2
    return repeats


def seconds_per_call(call: Callable[[], object], repeats: int) -> float:
    """Measures one call as the mean of many; short ones bring their data into the caches first."""
    if repeats > 1:
        call()
    return seconds_for(call, repeats) / repeats
