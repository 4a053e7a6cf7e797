"""The benchmarks run, know every loss, and write what they measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu"}


def run(script, *flags):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize(
    ("name", "flags"), [("loss_time", ["--rounds", "1"]), ("loss_memory", ["--run"])]
)
def test_a_benchmark_of_losses_runs_and_writes(name, flags, tmp_path):
    flags += ["--n", "16", "--d", "8", "--only", "cosent", "ranknet", "--output", tmp_path]
    result = run(f"{name}.py", *flags)  # refuses to run where a public loss has no row
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / f"{name}.json").read_text())
    assert [row["name"] for row in content["losses"]] == ["cosent_loss", "reranking.ranknet_loss"]
    assert "| cosent_loss |" in (tmp_path / f"{name}.md").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "nothing"], "no loss is named like 'nothing'"),
        (["--torch-python", "no/python"], "--torch-python must be an interpreter; got no/python"),
    ],
)
def test_wrong_flags_are_one_line(flags, message):
    result = run("loss_time.py", *flags)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1
