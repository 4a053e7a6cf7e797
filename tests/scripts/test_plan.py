"""The plan of a training: the step of the same flags, compiled and not run."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tyro

from tests.scripts.many_hosts import TINY, environment
from tests.tpu_programs import needs_libtpu

ROOT = Path(__file__).parents[2]


USUAL = ["--model", str(TINY), "--columns", "query", "positive"]


def plan(*flags):
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/plan.py"), *USUAL, *flags],
        env=environment(2, JAX_ENABLE_COMPILATION_CACHE="0"),  # it has programs of TPUs
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_a_plan_for_this_machine(tmp_path):
    file = tmp_path / "plan.json"
    flags = ("--batch-size", "64", "--tokens", "32", "--mini-batch-size", "8", "--fsdp", "2")
    result = plan(*flags, "--json", str(file))
    assert result.returncode == 0, result.stderr
    assert "64 rows over 2 devices of this machine, fsdp 2" in result.stdout
    assert "fits" in result.stdout
    (found,) = json.loads(file.read_text())
    assert found["fits"]
    assert 0 < found["loss_bytes"] < found["cost"]["temporary_bytes"]
    assert found["parts"]["optimizer"] == pytest.approx(2 * found["parts"]["parameters"], rel=0.01)
    assert found["cost"]["flops"] > 0
    assert found["cost"]["loop_collectives"] == {}
    assert found["needed_bytes"] > sum(found["parts"].values())


@needs_libtpu
@pytest.mark.exhaustive
def test_a_plan_for_tpus_says_how_fast_they_could_be(tmp_path):
    file = tmp_path / "plan.json"
    flags = ("--batch-size", "256", "--tokens", "32", "--auto", "--dtype", "bfloat16")
    result = plan("--topology", "v5e:2x4", *flags, "--json", str(file))
    assert result.returncode == 0, result.stderr
    assert "256 rows over 8 × TPU v5e" in result.stdout
    assert "pairs/s" in result.stdout
    assert "--mini-batch-size None: fits" in result.stdout
    assert result.stderr == ""
    (found,) = json.loads(file.read_text())
    assert found["devices"] == 8
    assert min(found["least"].values()) > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--topology", "v9:2x2"), "--topology is one of v4, v5e, v5p, v6e and a shape"),
        (("--topology", "v5e"), "such as v5e:16x16"),
        (("--batch-size", "9"), "batch_size 9 is no multiple of 2 devices"),
        (("--fsdp", "3"), "fsdp 3 times tensor 1 must divide the number of devices, 2"),
        (("--topology", "v5e:2x2", "--libtpu", "/no/such"), "no libtpu in /no/such"),
    ],
)
def test_wrong_flags_are_refused(monkeypatch, flags, message):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from plan import PlanConfig, main

    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        main(tyro.cli(PlanConfig, args=[*USUAL, *flags]))
    assert "\n" not in str(refusal.value)


def test_wrong_flags_are_one_line():
    result = plan("--topology", "v9:2x2")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: --topology is one of v4, v5e, v5p, v6e and a shape")


@pytest.mark.parametrize("limit", [0, 1, 2, 5, 16, 63, 64, 1000])
def test_the_greatest_that_fits_is_found_in_few_tries(monkeypatch, limit):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from plan import greatest_that_fits

    tries = []

    def compiled(size) -> Any:
        tries.append(size)
        return SimpleNamespace(fits=size <= limit, size=size)

    found: Any = greatest_that_fits(compiled, 100)
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= limit]
    assert (found and found.size) == (max(sizes) if sizes else None)
    assert len(tries) <= 3
