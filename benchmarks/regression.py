"""Whether results are as good as stored ones: ratios may not fall, compiled figures not change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMPILED = ("flops", "temporaries", "memory_traffic", "collectives", "memory_bytes", "n_programs")
SLACK = 1.5  # machines are shared: a ratio counts as worse beyond this factor


def check(folder: Path, stored: Path) -> list[str]:
    """Compares each question that both folders answer; returns what is worse or has changed.

    Raises:
        ValueError: there is nothing to compare with.
    """
    files = [file for file in sorted(stored.glob("*.json")) if (folder / file.name).exists()]
    if not files:
        raise ValueError(f"--check {stored} has no results of what was measured")
    found = []
    for file in files:
        old, new = (json.loads(path.read_text()) for path in (file, folder / file.name))
        if old["settings"] != new["settings"]:
            found.append(f"{file.stem}: measured with other settings; nothing is compared")
            continue
        found += [f"{file.stem}: {line}" for line in worse(old, new)]
        if old["versions"]["jax"] == new["versions"]["jax"]:
            found += [f"{file.stem}: {line}" for line in changed(old, new)]
    return found


def worse(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Yields the ratios that are held to a bound, and worse than before by more than the slack."""
    before = {target["what"]: target for target in old.get("targets", ())}
    for target in new.get("targets", ()):
        theirs = before.get(target["what"])
        if theirs is None or target["met"] is None:
            continue
        fell = target["at_least"] is not None and target["value"] * SLACK < theirs["value"]
        rose = target["at_most"] is not None and target["value"] > theirs["value"] * SLACK
        if fell or rose:
            yield f"{target['what']} was {theirs['value']:.3g} and is {target['value']:.3g}"


def changed(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yields the figures of compiled programs that are not what they were."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() & new.keys():
            inside = f"{path}/{name}"
            if name in COMPILED and old[name] != new[name]:
                yield f"{inside.lstrip('/')} was {old[name]} and is {new[name]}"
            elif name not in COMPILED:
                yield from changed(old[name], new[name], inside)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (left, right) in enumerate(zip(old, new, strict=True)):
            label = left.get("name") or left.get("side") if isinstance(left, dict) else None
            yield from changed(left, right, f"{path}/{label or number}")
