"""The benchmarks run, know every loss, and write what they measured."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tpu_programs import needs_libtpu

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu"}


def run(script, *flags):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("loss_time", ["--rounds", "1"]),
        pytest.param("loss_memory", ["--run"], marks=pytest.mark.exhaustive),
    ],
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


def test_the_streamed_loss_is_measured_beside_its_products(tmp_path):
    flags = ["--n", "24", "48", "--d", "8", "--block-size", "8", "--dense-limit", "24"]
    result = run("streamed_loss.py", *flags, "--rounds", "2", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "streamed_loss.json").read_text())
    sides = {(row["side"], row["n"]): row for row in content["sides"]}
    streamed, dense = sides["block_size=8", 24], sides["dense", 24]
    assert len(streamed["seconds"]) == 2
    assert streamed["value"] == pytest.approx(dense["value"], rel=1e-5)
    assert streamed["flops"] == dense["flops"] == 6 * 24**2 * 8
    assert ("dense", 48) not in sides  # beyond the limit
    assert ", temporaries in MiB: " in (tmp_path / "streamed_loss.md").read_text()


@pytest.mark.exhaustive
def test_a_cached_step_is_measured_beside_the_plain_one(tmp_path):
    flags = ["--model", ROOT / "tests/goldens/encoders/tiny", "--batch", "8", "--chunk", "2"]
    flags += ["--tokens", "8", "--rounds", "1", "--output", tmp_path]
    result = run("cached_step.py", *flags)  # fails where loss or gradient norm differ
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "cached_step.json").read_text())
    plain, cached = content["sides"]
    assert cached["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert 1.2 < cached["flops"] / plain["flops"] < 4 / 3 + 1e-3
    assert "| ours, cached |" in (tmp_path / "cached_step.md").read_text()


@pytest.mark.exhaustive
def test_objectives_are_trained_and_measured_one_after_the_other(tmp_path):
    flags = ["--model", ROOT / "tests/goldens/encoders/tiny", "--steps", "2", "--output", tmp_path]
    for name in ("softmax", "multiple_negatives_ranking, with negatives"):
        result = run("objectives_learn.py", "--only", name, *flags)
        assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "objectives_learn.json").read_text())
    softmax, ranking = content["runs"]  # the second call keeps what the first one wrote
    assert len(softmax["train_losses"]) == len(ranking["train_losses"]) == 2
    assert [*softmax["metrics"]] == ["accuracy"]
    assert [*ranking["metrics"]] == ["nDCG@10"]
    assert softmax["held_out_loss"][0] == pytest.approx(math.log(3), rel=0.05)
    assert "share of 2 runs that learned: " in (tmp_path / "objectives_learn.md").read_text()


@pytest.mark.exhaustive
def test_an_unknown_objective_is_one_line():
    result = run("objectives_learn.py", "--only", "nothing")
    assert result.returncode == 2
    assert result.stderr.splitlines()[0].startswith("error: no run is named like 'nothing'")


@pytest.mark.exhaustive
def test_our_own_transformers_are_measured(tmp_path):
    flags = ["--models", "tiny", "--batch", "4", "--rounds", "1", "--output", tmp_path]
    result = run("encoder_speed.py", *flags)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "encoder_speed.json").read_text())
    assert [row["call"] for row in content["rows"]] == ["encode", "train"]
    assert all(row["flops"] > 0 and row["share_of_limit"] > 0 for row in content["rows"])
    assert "| tiny | train | ours |" in (tmp_path / "encoder_speed.md").read_text()


@pytest.mark.exhaustive
def test_texts_are_encoded_and_trained_on_from_start_to_end(tmp_path):
    flags = ["--models", ROOT / "tests/goldens/encoders/tiny", "--sides", "ours", "ours, packed"]
    flags += ["--texts", "8", "--batch", "4", "--steps", "1", "--rounds", "1"]
    result = run("text_speed.py", *flags, "--output", tmp_path)
    assert result.returncode == 0, result.stderr  # both agree
    content = json.loads((tmp_path / "text_speed.json").read_text())
    assert [row["side"] for row in content["rows"]] == [
        "ours",
        "ours",
        "ours, packed",
        "ours, packed",
    ]
    assert all(0 <= row["padding_share"] < 1 for row in content["rows"])


@pytest.mark.exhaustive
def test_processes_are_measured_until_their_first_step(tmp_path):
    flags = ["--model", ROOT / "tests/goldens/encoders/tiny", "--sources", "jaxembed"]
    flags += ["--batch", "8", "--tokens", "16", "--rounds", "1", "--topology", "None"]
    result = run("startup.py", *flags, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "startup.json").read_text())
    assert [row["process"] for row in content["rows"]] == ["jaxembed, cold", "jaxembed, warm"]
    for row in content["rows"]:
        assert all(seconds > 0 for seconds in row["runs"][0].values())
        assert row["imported_s"]["jax"] > 0
        assert "torch" not in row["imported_s"]
    assert "target ≤ 10" in (tmp_path / "startup.md").read_text()


@needs_libtpu
@pytest.mark.exhaustive
def test_a_step_is_compiled_for_tpus_as_a_training_starts(tmp_path):
    flags = ["--model", ROOT / "tests/goldens/encoders/tiny", "--sources", "--rounds", "1"]
    flags += ["--tokens", "16", "--topology", "v5e:2x2", "--tpu-model", "tiny", "--tpu-batch", "8"]
    result = run("startup.py", *flags, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    (row,) = json.loads((tmp_path / "startup.json").read_text())["rows"]
    assert row["process"] == "tiny for v5e:2x2"
    assert row["runs"][0]["compiling"] > 0


@needs_libtpu
@pytest.mark.exhaustive
def test_a_step_is_compiled_for_a_slice_of_tpus(tmp_path):
    flags = ("--topologies", "v5e:2x2", "--rows", "16", "--tokens", "32", "--mini-batch", "8")
    result = run("scaling.py", *flags, "--fsdp", "4", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "met: most flops of a chip / fewest" in result.stdout
    (row,) = json.loads((tmp_path / "scaling.json").read_text())["rows"]
    assert (row["chips"], row["pairs"]) == (4, 64)
    assert row["flops"] > 2 * 3 * 32 * 32 * 85e6
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.exhaustive
def test_mining_is_measured_with_its_memory(tmp_path):
    flags = ["--rows", "200", "--d", "8", "--candidates", "10", "--baseline-queries", "50"]
    result = run("mining.py", *flags, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "mining.json").read_text())["rows"]
    assert [row["queries"] for row in rows] == [200, 50]
    assert rows[0]["peak_bytes"] > 2**26


@pytest.mark.exhaustive
def test_planning_and_feeding_are_measured(tmp_path):
    flags = ["--quick", "--model", ROOT / "tests/goldens/encoders/tiny", "--output", tmp_path]
    result = run("feeding.py", *flags)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "feeding.json").read_text())
    assert content["targets"]
