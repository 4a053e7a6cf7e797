"""The hosts of a run, processes with some of the devices each: what they tell one another."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

LOST = 75  # exit status where another host is gone: "try again" in sysexits.h


class HostError(ValueError):
    """Hosts that do not fit together; the message names the host and what differs."""


class LostHostError(RuntimeError):
    """A host that did not come, or that is gone; the message names it."""


def end_process(message: str) -> None:
    """Says why, and ends this process at once, in whatever its threads are."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(LOST)


class Hosts:
    """The hosts of a run, seen from one of them. `Hosts()` is a run on one host.

    >>> hosts = Hosts()
    >>> hosts.exchange("rows", 8)
    [8]

    Several are made by `meet_hosts`.
    """

    def __init__(self, index: int = 0, count: int = 1) -> None:
        self.index = index
        self.count = count

    @property
    def writes(self) -> bool:
        """Whether this is the host that writes files and the screen."""
        return self.index == 0

    def exchange(self, name: str, value: Any) -> list[Any]:
        """Returns the values of all hosts, in their order; JSON, and the same `name` on all."""
        return [value]

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Refuses to go on where the hosts differ in one of the facts.

        Raises:
            HostError: naming the first fact that differs, and the hosts.
        """
        ours = json.loads(json.dumps(facts, default=str))
        first, *others = self.exchange("facts", ours)
        for index, theirs in enumerate(others, start=1):
            for name in first | theirs:
                if first.get(name) != theirs.get(name):
                    raise HostError(
                        f"host {index} has {name} {theirs.get(name)!r}, host 0 has"
                        f" {first.get(name)!r}; start all hosts with the same code, flags and data"
                    )

    def leave(self, reason: str = "") -> None:
        """Says goodbye; with a reason, such as an error, the other hosts end too."""
