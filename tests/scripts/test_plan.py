"""The plan of a training: the step of the same flags, compiled and not run."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
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
        (("--tokens", "1000000000"), "that the model reads; got 1000000000"),
    ],
)
def test_wrong_flags_are_refused(monkeypatch, flags, message):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from plan import PlanConfig, main

    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        main(tyro.cli(PlanConfig, args=[*USUAL, *flags]))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("message", "needed", "available"),
    [
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space"
            " hbm. Used 21.95G of 15.48G hbm. Exceeded hbm capacity by 6.47G.",
            "21.950 GiB",
            "15.480 GiB",
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO"
            " temporaries (15.86G) exceeds available HBM (15.75G).",
            "15.860 GiB",
            "15.750 GiB",
        ),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 2147483648 bytes.", "2.000 GiB", ""),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 3.5GiB.", "3.500 GiB", ""),
        ("RESOURCE_EXHAUSTED: failed to allocate request for 1.00MiB", "", ""),
    ],
)
def test_every_message_about_the_memory_means_that_it_does_not_fit(
    monkeypatch, capsys, message, needed, available
):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import planning
    from plan import PlanConfig, main

    def gives_up(*_):
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(planning, "lower_step", gives_up)
    flags = ["--batch-size", "8", "--tokens", "16"]
    assert main(tyro.cli(PlanConfig, args=[*USUAL, *flags])) == 1
    printed = capsys.readouterr().out
    assert "does not fit" in printed
    assert "parameters" in printed
    for size in (needed, available):
        assert size in printed


@pytest.mark.parametrize(
    "message",
    ["INTERNAL: no such thing", "Ran out of memory in memory space vmem. Used 2M of 1M vmem."],
)
def test_other_messages_are_not_about_the_memory(monkeypatch, message):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from planning import sizes_beyond_memory

    assert sizes_beyond_memory(message) is None


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
