"""Compiled programs take what they took: operations, temporaries, and how many there are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SOME = ("multiple_negatives_ranking", "gist", "triplet", "cosent", "kl_div")  # all take minutes
STORED = json.loads((BENCHMARKS / "results/programs.json").read_text())


@pytest.mark.exhaustive
@pytest.mark.skipif(jax.__version__ not in STORED, reason=f"nothing stored for {jax.__version__}")
def test_programs_take_what_is_stored(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "programs.py"), "--output", str(tmp_path)]
    command += ["--only", *SOME]
    ours = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")  # of conftest.py
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (tmp_path / "programs.json").exists(), result.stderr
    content = json.loads((tmp_path / "programs.json").read_text())
    found = {row.pop("name"): row for row in content["rows"]}
    stored = STORED[jax.__version__]
    assert {name for name in stored if "training" in name} <= found.keys()
    for name, figures in found.items():
        assert figures == stored[name], f"{name}; if it shall be so: programs.py --store"
