"""Whether results are as good as stored ones: ratios may not fall, compiled figures not change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ABOUT_ZERO = 0.01  # differences and shares below it are those of rounding and of chance
COMPILED = {"flops", "temporaries", "memory_traffic", "collectives", "memory_bytes", "n_programs"}
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
        if settings_of(old) != settings_of(new):
            found.append(f"{file.stem}: measured with other settings; nothing is compared")
            continue
        found += [f"{file.stem}: {line}" for line in worse(old, new)]
        if old["versions"]["jax"] == new["versions"]["jax"]:
            found += [f"{file.stem}: {line}" for line in changed(old, new)]
    return found


def settings_of(content: dict[str, Any]) -> dict[str, Any]:
    """Those of a result; older ones say no precision."""
    return {"dtype": "float32", **content["settings"]}


def worse(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """Yields what is worse than before by more than the slack: times of others / ours, and what is
    held to a bound.
    """
    before = {name_of(target): target["value"] for target in old.get("targets", ())}
    for target in new.get("targets", ()):
        name, value = name_of(target), target["value"]
        was = before.get(name)
        if was is None or max(abs(value), abs(was)) < ABOUT_ZERO:
            continue
        fell = (target["at_least"] is not None or " / ours" in name) and value * SLACK < was
        rose = target["at_most"] is not None and value > was * SLACK
        if fell or rose:
            yield f"{name} was {was:.3g} and is {value:.3g}"


def name_of(target: dict[str, Any]) -> str:
    """What a figure is of, without the remark in brackets at its end."""
    return target["what"].partition(" (")[0]


def changed(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yields the figures of compiled programs that are not what they were."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() & new.keys():
            inside = f"{path}/{name}" if path else name
            if name in COMPILED and old[name] != new[name]:
                yield f"{inside} was {old[name]} and is {new[name]}"
            elif name not in COMPILED:
                yield from changed(old[name], new[name], inside)
        for name in sorted(old.keys() & COMPILED - new.keys()):
            yield f"{path}/{name} was {old[name]} and is missing"
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (left, right) in enumerate(zip(old, new, strict=True)):
            label = left.get("name") or left.get("side") if isinstance(left, dict) else None
            yield from changed(left, right, f"{path}/{label or number}")
    elif isinstance(old, list) and any(COMPILED & {*one} for one in old if isinstance(one, dict)):
        yield f"{path} were {len(old)} and are {len(new)}; their figures are not compared"
