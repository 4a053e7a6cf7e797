"""How the scripts of this folder answer: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from sides import resident_growth
from timing import enough_repeats, seconds_for, seconds_per_call

Request = dict[str, Any]
Answer = Callable[[Request], dict[str, Any]]
Step = Callable[[], tuple[float, float]]


def serve(answer: Answer, packages: Sequence[str], **facts: Any) -> None:
    """Prints versions, cores and further facts, then the answer to each line of standard input."""
    pipe, sys.stdout = sys.stdout, sys.stderr  # nothing else gets between the lines
    known = {"python": platform.python_version(), "threads": os.cpu_count()}
    known |= {name: version(name) for name in packages}
    print(json.dumps(known | facts), file=pipe, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=pipe, flush=True)


def with_steps(
    load: Callable[[Request], Step], memory_growth: Callable[..., int | None] = resident_growth
) -> Answer:
    """Answers `{"load": name, …}` and `{"measure": name}` of training steps.

    `load` builds a step, which returns the loss and the norm of its gradient before clipping.
    """
    steps: dict[str, tuple[Step, int]] = {}

    def answer(request: Request) -> dict[str, Any]:
        if "measure" in request:
            return {"seconds": seconds_per_call(*steps[request["measure"]])}
        step = load(request)
        value, norm = step()
        growth = memory_growth(step)
        steps[request["load"]] = step, enough_repeats(step)
        return {"loss": value, "gradient_norm": norm, "resident_growth": growth}

    return answer


def with_calls(load: Callable[[Request, dict[str, Callable[[], Any]]], dict[str, Any]]) -> Answer:
    """Answers a request by `load`, which leaves calls by name, and `{"measure": name}` of those."""
    calls: dict[str, Callable[[], Any]] = {}

    def answer(request: Request) -> dict[str, Any]:
        if "measure" in request:
            return {"seconds": seconds_for(calls[request["measure"]], 1)}
        return load(request, calls)

    return answer
