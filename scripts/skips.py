"""Steps that were skipped since they were not finite: counted, and a run of them is the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxembed.tasks import Tasks


class SkippedSteps:
    """Counts the skipped steps of a run; after `limit` in a row it writes their rows, and ends it.

    Where `file` is None, as on hosts that do not write, it only counts.
    """

    def __init__(self, tasks: Tasks, limit: int, file: Path | None) -> None:
        self.tasks, self.limit, self.file = tasks, limit, file
        self.count = 0
        self.in_a_row: list[int] = []

    def see(self, step: int, values: Mapping[str, float], say: Callable[[str], Any]) -> None:
        """Takes the metrics of a step.

        Raises:
            FloatingPointError: it is the last of `limit` steps in a row that were skipped.
        """
        if not values["skipped"]:
            self.in_a_row = []
            return
        self.count += 1
        self.in_a_row.append(step)
        say(
            f"step {step} skipped: loss {values['loss']}, gradient norm {values['grad_norm']}"
            f" ({len(self.in_a_row)} in a row, {self.limit} end the run)"
        )
        if len(self.in_a_row) < self.limit:
            return
        where = ""
        if self.file is not None:
            rows = [row for step in self.in_a_row for row in self.tasks.describe(step - 1)]
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            self.file.write_text("".join(lines), encoding="utf-8")
            where = f"; their rows are in {self.file}"
        raise FloatingPointError(
            f"loss or gradient of steps {self.in_a_row[0]} to {step} are not finite{where}; look at"
            " these, or start anew with a lower learning_rate"
        )
