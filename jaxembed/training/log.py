"""What a run reports: one JSON object per step in a file, further loggers if asked, the screen."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from jaxembed.console import Console
from jaxembed.forms import At, FormError, check_form
from jaxembed.training.loggers import Logger

RECORD = {"step": At(int, least=0), "kind": str}  # and numbers, null where they are not finite


class RunLog:
    """Appends records to `log.jsonl`; a run that goes on drops those behind its checkpoint first.

    Without a folder, as on hosts that do not write, it keeps nothing. Each of `loggers` gets all
    numbers too.
    """

    def __init__(
        self, folder: Path | None, *, from_step: int = 0, loggers: Sequence[Logger] = ()
    ) -> None:
        self._stream = None
        self._loggers = loggers
        if folder is None:
            return
        self.file = folder / "log.jsonl"
        earlier = read_log(self.file) if from_step else []
        kept = [record for record in earlier if record["step"] <= from_step]
        partial = self.file.with_suffix(".partial")
        partial.write_text("".join(map(_line, kept)))
        partial.replace(self.file)
        self._stream = self.file.open("a", buffering=1)

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Writes what was measured after `step` steps; `kind` is "train" or "evaluation"."""
        if self._stream is not None:
            self._stream.write(_line({"step": step, "kind": kind, **values}))
        for logger in self._loggers:
            logger.write(step, kind, values)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        for logger in self._loggers:
            logger.close()


def _line(record: Mapping[str, Any]) -> str:
    """Writes a record as JSON, which has no NaN and no infinity: they are null."""
    broken = {k: None for k, v in record.items() if isinstance(v, float) and not math.isfinite(v)}
    return json.dumps({**record, **broken}) + "\n"


def read_log(file: Path) -> list[dict[str, Any]]:
    """Reads the whole records of a log, null as NaN; a last line that was cut off is omitted.

    Raises:
        FormError: another line is no record.
    """
    if not file.exists():
        return []
    records = []
    lines = file.read_bytes().decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        place = f"line {number} of {file}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise FormError(f"{place} is no record of a run ({error}); delete it") from None
        check_form(record, RECORD, place)
        check_form({k: v for k, v in record.items() if k != "kind"}, {str: (float, None)}, place)
        records.append({k: math.nan if v is None else v for k, v in record.items()})
    return records


class Screen:
    """A progress bar with the time left on a terminal, plain lines elsewhere."""

    def __init__(self, total: int, *, start: int, every: int, quiet: bool = False) -> None:
        self.console = Console(file=sys.stdout, quiet=quiet)
        self.every = every
        self.total = total
        self._bar = None
        if self.console.is_terminal and not quiet:
            columns = (
                TextColumn("training", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("left", markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self.console)
            self._task = self._bar.add_task("", total=total, completed=start, text="compiling")
            self._bar.start()

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows the metrics of a step."""
        text = (
            f"loss {metrics['loss']:.4f}  lr {metrics['learning_rate']:.2e}"
            f"  {metrics['pairs_per_s']:.1f} pairs/s"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=step, text=text)
        elif step % self.every == 0 or step in (1, self.total):
            left = (self.total - step) * metrics["seconds"]
            self.say(f"step {step}/{self.total}  {text}  left {left / 60:.1f} min")

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self.console.say(text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
