"""The report over all questions: targets and verdicts first, then each table and picture."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CAUSES = Path(__file__).with_name("causes.toml")


def write_report(folder: Path, names: Sequence[str]) -> Path:
    """Writes report.md of the results in a folder, in the order of `names`; returns the file."""
    results = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in names
        if (folder / f"{name}.json").exists()
    }
    text = ["# Benchmarks of jaxembed", ""]
    text += ["Every number was measured by `python -m benchmarks`; each .json has all of them.", ""]
    text += ["## Targets", "", *targets_table(results), ""]
    for name in results:
        text += ["", *section(folder, name)]
    file = folder / "report.md"
    file.write_text("\n".join(text) + "\n")
    return file


def targets_table(results: dict[str, Any]) -> list[str]:
    """Writes what is held to a bound: target, figure, verdict, and the cause of each miss."""
    lines = ["| question | figure | target | measured | verdict |", "|---|---|---:|---:|---|"]
    missed = []
    for name, content in results.items():
        for target in content.get("targets", ()):
            if target["met"] is None:
                continue
            verdict = "met" if target["met"] else "**missed**"
            lines.append(
                f"| [{name}]({name}.md) | {target['what']} | {bound(target)} |"
                f" {target['value']:.3g} | {verdict} |"
            )
            if not target["met"]:
                missed.append((name, target["what"]))
    causes = tomllib.loads(CAUSES.read_text())
    if missed:
        lines += ["", "What is missed, and why:", ""]
        lines += [f"- {what}: {cause_of(causes, name, what)}" for name, what in missed]
    return lines


def bound(target: dict[str, Any]) -> str:
    least, most = target["at_least"], target["at_most"]
    return f"≥ {least:g}" if least is not None else f"≤ {most:g}"


def cause_of(causes: dict[str, dict[str, str]], name: str, what: str) -> str:
    """Finds the cause that is written down for a figure, by the words that it contains."""
    found = (cause for words, cause in causes.get(name, {}).items() if words in what)
    return next(found, "the cause is not written down in causes.toml")


def section(folder: Path, name: str) -> list[str]:
    """Takes over the table of a question, its headings one level down, and its picture."""
    lines = (folder / f"{name}.md").read_text().splitlines()
    text = [f"#{line}" if line.startswith("#") else line for line in lines]
    if (folder / f"{name}.png").exists():
        text += ["", f"![{name}]({name}.png)"]
    return text
