"""Writes the stored figures into the READMEs, so that nobody types them.

Between `<!-- figures KIND NAME -->` and `<!-- end of figures -->` stands what this file makes of
results/NAME.json (NAME is FOLDER/QUESTION): its `table`, its `targets`, or, of a folder, the table
of all targets (`verdicts`).

    python benchmarks/readme.py           # rewrites README.md and benchmarks/README.md
    python benchmarks/readme.py --check   # exit status 1 if one of them is not as it would write it
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from summary import bound, targets_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
FILES = (ROOT / "README.md", ROOT / "benchmarks/README.md")
BLOCK = re.compile(r"(<!-- figures (\w+) (\S+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def table(name: str) -> list[str]:
    """The table of a question."""
    content = read(name)
    columns, rows = content["table"]["columns"], content["table"]["rows"]
    lines = [columns, ["---", *("---:" for _ in columns[1:])], *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), "", measured_on(content)]


def targets(name: str) -> list[str]:
    """What is held to a bound, and what is reported beside it."""
    content = read(name)
    lines = []
    for target in content["targets"]:
        verdict = {True: ", met", False: ", **missed**", None: ""}[target["met"]]
        wanted = "" if target["met"] is None else f" (target {bound(target)}{verdict})"
        lines.append(f"- {target['what']}: {target['value']:.3g}{wanted}")
    return [*lines, "", measured_on(content)]


def verdicts(folder: str) -> list[str]:
    """All targets of a folder of results; links start at the folder of the benchmarks."""
    files = sorted((RESULTS / folder).glob("*.json"))
    lines = targets_table({file.stem: json.loads(file.read_text()) for file in files})
    return [re.sub(r"\]\((\w+\.md)\)", rf"](results/{folder}/\1)", line) for line in lines]


KINDS: dict[str, Callable[[str], list[str]]] = {
    "table": table,
    "targets": targets,
    "verdicts": verdicts,
}


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def measured_on(content: dict[str, Any]) -> str:
    """Says on what, when and with which versions."""
    machine, versions = dict(content["machine"]), content["versions"]
    if "bfloat16_tflop_per_s" in machine:  # what was measured in bfloat16 is compared with that
        machine.pop("matmul_gflop_per_s")
    facts = [f"{machine[name]} {unit}" for name, unit in UNITS.items() if name in machine]
    named = [f"{name} {version}" for name, version in versions.items() if shown(name)]
    when = f" on {machine['date']}" if "date" in machine else ""
    return f"Measured{when} with {', '.join([*facts, *named])}."


UNITS = {
    "cores": "cores",
    "matmul_gflop_per_s": "GFLOP/s of a matrix product",
    "bfloat16_tflop_per_s": "TFLOP/s of a matrix product in bfloat16",
    "copy_gb_per_s": "GB/s of a copy",
}


def shown(name: str) -> bool:
    return name in ("jax",) or name.endswith(("'s torch", "'s sentence-transformers", "'s jax"))


def rewritten(file: Path) -> str:
    """Returns the text of a file with every block made anew."""
    below = "" if file.parent == RESULTS.parent else "benchmarks/"

    def block(found: re.Match[str]) -> str:
        begin, kind, name, end = found.groups()
        lines = "\n".join(KINDS[kind](name)).replace("](results/", f"]({below}results/")
        return begin + lines + "\n" + end

    return BLOCK.sub(block, file.read_text())


def main() -> int:
    stale = [file for file in FILES if file.read_text() != rewritten(file)]
    if "--check" in sys.argv[1:]:
        for file in stale:
            print(f"{file.relative_to(ROOT)} is not what the results say; run benchmarks/readme.py")
        return int(bool(stale))
    for file in stale:
        file.write_text(rewritten(file))
        print(f"rewrote {file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
