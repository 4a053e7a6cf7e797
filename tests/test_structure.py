"""Imports point one way, files stay small, and names say what they mean."""

import ast
import os
from pathlib import Path

import pytest

from tests import durations

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxembed"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each part may import of the package, besides itself.
MAY_IMPORT = {
    "typing": set(),
    "forms": set(),
    "randomness": set(),
    "selection": set(),
    "similarity": {"typing"},
    "late_interaction": {"selection", "similarity"},
    "mesh_axes": set(),
    "similarity_forms": {"typing", "similarity", "late_interaction"},
    "calls": {"typing", "similarity_forms"},
    "console": set(),
    "folder_lock": set(),
    "settings": {"forms"},
    "losses": {"typing", "calls", "selection", "similarity", "late_interaction", "mesh_axes"},
    "transforms": {"typing", "calls", "similarity", "randomness", "mesh_axes"},
    "metrics": {"typing", "similarity"},
    "search": {"calls", "similarity"},
    "mining": {"calls", "search"},
    "evaluators": {"typing", "similarity", "search", "metrics", "data"},
    "encoders": {"typing", "forms", "similarity", "randomness"},
    "data": {"typing"},
    "objectives": {
        *("typing", "calls", "similarity", "randomness", "mesh_axes"),
        *("losses", "transforms", "metrics"),
    },
    "training": {"typing", "mesh_axes", "console", "settings", "forms"},
    "tasks": {"typing", "settings", "encoders", "data", "objectives", "training"},
    "__init__": {"encoders", "tasks"},
}
HEAVY = {"flax", "optax", "transformers", "orbax", "datasets", "grain"}


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def part(file):
    relative = file.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_one_way(file):
    own = part(file)
    for name in imports(file):
        if name.startswith("jaxembed."):
            other = name.split(".")[1]
            assert other == own or other in MAY_IMPORT[own], f"{own} must not import {other}"


@pytest.mark.parametrize("name", ["losses", *sorted(MAY_IMPORT["losses"])])
def test_losses_need_nothing_but_jax(name):
    path = PACKAGE / (name if (PACKAGE / name).is_dir() else f"{name}.py")
    for file in [path] if path.is_file() else path.rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(file)} & HEAVY, file


def test_no_file_is_long_or_vague():
    for file in FILES:
        assert len(file.read_text().splitlines()) <= 320, f"{file} has two reasons to exist"
        assert file.stem not in {"utils", "util", "common", "helpers", "base", "misc"}


def test_no_text_is_markup():
    """Whatever prints does so through jaxembed.console, or shows words that stand in the code."""
    takes_markup = {"track": 1, "add_task": 0, "TextColumn": 0}  # the argument that is the text
    for file in [*FILES, *sorted((ROOT / "scripts").glob("*.py"))]:
        if file == PACKAGE / "console.py":
            continue
        of_rich = {name for name in imports(file) if name.split(".")[0] == "rich"}
        assert of_rich <= {"rich.table", "rich.text", "rich.progress"}, file
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            literal = any(word.arg == "markup" for word in node.keywords)
            if name in takes_markup and not literal:
                assert isinstance(node.args[takes_markup[name]], ast.Constant), (file, node.lineno)
            assert name != "from_markup", (file, node.lineno)


def test_a_group_of_tests_shares_a_worker(request):
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@tests/test_structure.py")


def test_slow_tests_are_there_and_have_a_reason():
    for name, reason in durations.SLOW.items():
        file, function = name.partition("[")[0].split("::")
        assert f"def {function}(" in (ROOT / file).read_text(), f"{name} is listed in SLOW"
        assert len(reason.split()) > 3
