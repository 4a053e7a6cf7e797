"""Several processes train as one does: the same losses and parameters, on any number of them."""

import json
import random
import resource
import shutil
import signal
import time
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxembed.data import open_dataset
from tests.scripts.many_hosts import TINY, TRAIN, finish, process, resume, start

STEPS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixty pairs, a little of them to evaluate on, and compiled programs that runs share."""
    folder = tmp_path_factory.mktemp("hosts")
    rows: Any = open_dataset("wordnet-gloss").select(range(60))
    rows.to_parquet(folder / "pairs.parquet")
    scored = [
        {"sentence1": row["query"], "sentence2": row["positive"], "score": number % 3 / 2}
        for number, row in enumerate(rows.select(range(9)))
    ]
    (folder / "scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
    return folder


def flags(folder, output, *more):
    return [
        *("--model", str(TINY), "--data", str(folder / "pairs.parquet")),
        *("--columns", "query", "positive", "--output", str(folder / output)),
        *("--evaluate", str(folder / "scored.jsonl"), "--evaluate-every", "10"),
        *("--steps", str(STEPS), "--batch-size", "8", "--checkpoint-every", "5", "--keep", "9"),
        *("--learning-rate", "1e-3", "--buckets", "48", "--log-every", "1"),
        *("--cache", str(folder / "cache")),
        *more,
    ]


def records(folder, output, kind="train"):
    lines = (folder / output / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def losses(folder, output):
    return [record["loss"] for record in records(folder, output)]


def no_gradient(names):
    """Softmax does not see biases of keys: Adam moves them by the rounding of a gradient of 0."""
    return {name for name in names if name.endswith("key.bias")}


def assert_same(folder, output, other):
    np.testing.assert_allclose(losses(folder, output), losses(folder, other), rtol=1e-5)
    left, right = (load_file(folder / name / "model/model.safetensors") for name in (output, other))
    assert left.keys() == right.keys()
    for name in left.keys() - no_gradient(left):
        tensor = left[name]
        np.testing.assert_allclose(tensor, right[name], atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def alone(folder):
    """A run of one process."""
    ((status, _, errors),) = finish([process([*TRAIN, *flags(folder, "alone")])])
    assert status == 0, errors
    assert len(losses(folder, "alone")) == STEPS
    return "alone"


@pytest.fixture(scope="module")
def pair(folder):
    """A run of two processes that nothing happened to."""
    results = finish(start(flags(folder, "pair"), hosts=2))
    assert [status for status, *_ in results] == [0, 0], results
    return "pair"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("hosts", "devices", "more"),
    [
        (2, 2, ("--fsdp", "4", "--mini-batch-size", "1", "--block-size", "4")),
        (4, 1, ("--fsdp", "2", "--block-size", "4", "--ring")),
    ],
)
def test_more_processes_train_as_one(folder, alone, hosts, devices, more):
    output = f"{hosts}-{devices}"
    results = finish(start(flags(folder, output, *more), hosts=hosts, devices=devices))
    assert [status for status, *_ in results] == [0] * hosts, results
    assert f"{hosts * devices} cpu devices of {hosts} hosts" in results[0][1]
    assert all("step" not in out for _, out, _ in results[1:])  # host 0 speaks for all
    assert_same(folder, output, alone)
    for ours, theirs in zip(
        records(folder, output, "evaluation"), records(folder, alone, "evaluation"), strict=True
    ):
        assert ours == pytest.approx(theirs, abs=1e-3)
    counted = [r["padding_share"] for r in records(folder, output)]
    assert 0 < min(counted) <= max(counted) < 1


@pytest.mark.exhaustive
def test_processes_compute_one_loss_on_held_out_rows(folder):
    more = ("--evaluate", f"loss:{folder / 'pairs.parquet'}", "--steps", "1", "--keep", "1")
    measured = []
    for hosts in (1, 2):
        results = finish(start(flags(folder, f"held-out-{hosts}", *more), hosts=hosts))
        assert [status for status, *_ in results] == [0] * hosts, results
        measured.append(records(folder, f"held-out-{hosts}", "evaluation"))
    assert [record["loss"] for record in measured[0]] == pytest.approx(
        [record["loss"] for record in measured[1]], rel=1e-5
    )


def test_two_processes_train_as_one_and_host_0_speaks_for_both(folder, alone, pair):
    assert_same(folder, pair, alone)


@pytest.mark.exhaustive
@pytest.mark.parametrize("hosts", [1, 4])
def test_a_checkpoint_of_two_processes_goes_on_on_another_number(folder, alone, pair, hosts):
    output = f"pair-on-{hosts}"
    shutil.copytree(folder / pair, folder / output)
    shutil.rmtree(folder / output / "model")
    for step in (15, 20):
        shutil.rmtree(folder / output / "checkpoints" / str(step))
    results = finish(resume(folder / output, hosts=hosts))
    assert [status for status, *_ in results] == [0] * hosts, results
    assert "goes on after step 10" in results[0][1]
    assert_same(folder, output, alone)


# Faults, of two processes


def wait_for(condition, processes):
    while not condition():
        assert all(p.poll() is None for p in processes), finish(processes)
        time.sleep(0.001)


def wait_for_step(folder, output, step, processes):
    log = folder / output / "log.jsonl"
    said = f'"step": {step}, "kind": "train"'
    wait_for(lambda: log.exists() and said in log.read_text(), processes)


def assert_identical(folder, output, other):
    left, right = (load_file(folder / name / "model/model.safetensors") for name in (output, other))
    for name, tensor in left.items():
        np.testing.assert_array_equal(tensor, right[name], err_msg=name)
    assert losses(folder, output) == losses(folder, other)


def goes_on(folder, output, pair):
    """Resumes a run on two processes, to the end of the undisturbed one."""
    results = finish(resume(folder / output, hosts=2))
    assert [status for status, *_ in results] == [0, 0], results
    assert_identical(folder, output, pair)
    return results[0][1]


@pytest.mark.exhaustive
@pytest.mark.parametrize("victim", [0, 1])
def test_the_kill_of_a_host_ends_the_other_and_nothing_else_is_lost(folder, pair, victim):
    output = f"killed-{victim}"
    processes = start(flags(folder, output), hosts=2)
    wait_for_step(folder, output, 7, processes)
    processes[victim].kill()
    begin = time.monotonic()
    results = finish(processes)
    assert time.monotonic() - begin < 20
    assert results[1 - victim][0] == 75
    assert f"error: host {victim} (" in results[1 - victim][2]
    assert (
        "is gone: its process ended or was killed; start all hosts again with --resume"
        in (results[1 - victim][2])
    )
    assert "goes on after step 5" in goes_on(folder, output, pair)


@pytest.mark.exhaustive
def test_a_host_that_hangs_is_named_after_the_time_out(folder):
    processes = start(flags(folder, "hung", "--evaluate", "none"), hosts=2, timeout=8)
    wait_for_step(folder, "hung", 3, processes)
    processes[1].send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    ((status, _, errors),) = finish(processes[:1])
    assert time.monotonic() - begin < 20
    assert status == 75
    assert "has given no sign of life for" in errors
    processes[1].kill()
    finish(processes[1:])


@pytest.mark.exhaustive
def test_a_signal_to_one_host_saves_at_the_same_step_on_all(folder, pair):
    more = ("--checkpoint-every", "100", "--evaluate", "none")
    processes = start(flags(folder, "told", *more), hosts=2)
    wait_for_step(folder, "told", 3, processes)
    processes[1].send_signal(signal.SIGTERM)
    results = finish(processes)
    assert [status for status, *_ in results] == [128 + signal.SIGTERM] * 2
    assert "stopped after step" in results[0][1]
    results = finish(resume(folder / "told", hosts=2))
    assert [status for status, *_ in results] == [0, 0], results
    assert losses(folder, "told") == losses(folder, pair)


@pytest.mark.exhaustive
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(folder, pair):
    output = "torn"
    checkpoints = folder / output / "checkpoints"
    torn = lambda: list(checkpoints.glob("*tmp*"))  # noqa: E731
    often = ("--checkpoint-every", "1", "--evaluate", "none")
    processes = start(flags(folder, output, *often), hosts=2)
    for _ in range(8):
        wait_for_step(folder, output, 3, processes)
        wait_for(torn, processes)
        for one in processes:
            one.kill()
        finish(processes)
        if torn():
            break
        processes = resume(folder / output, hosts=2)
    whole = max(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
    assert torn()
    assert f"goes on after step {whole}" in goes_on(folder, output, pair)


@pytest.mark.exhaustive
def test_a_file_system_that_takes_no_more_is_one_line_and_earlier_checkpoints_stay(folder, pair):
    output = "full"
    processes = start(flags(folder, output), hosts=2)
    wait_for(lambda: (folder / output / "checkpoints" / "5").exists(), processes)
    for one in processes:
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (2**14, 2**14))
    results = finish(processes)
    statuses = sorted(status for status, *_ in results)
    assert statuses[0] == 1, results
    assert set(statuses) <= {1, 75}, results
    assert any("go on with --resume" in errors for *_, errors in results)
    assert "goes on after step 5" in goes_on(folder, output, pair)


def test_hosts_with_other_flags_are_refused_before_anything_is_written(folder):
    rate = lambda index: ["--learning-rate", f"{index + 1}e-3"]  # noqa: E731
    results = finish(start(flags(folder, "other"), hosts=2, flags_of=rate))
    assert [status for status, *_ in results] == [2, 2]
    for _, _, errors in results:
        assert "error: host 1 has learning_rate 0.002, host 0 has 0.001" in errors
    assert not (folder / "other").exists()


def test_a_host_that_never_comes_is_named(folder):
    ((status, _, errors),) = finish(start(flags(folder, "x"), hosts=3, indices=[0], timeout=2))
    assert status == 75
    assert "hosts 1, 2 of 3 did not come within 2 s" in errors


@pytest.mark.exhaustive
def test_hosts_find_each_other_under_slurm(folder, pair):
    output = "slurm"
    job: Any = {"SLURM_JOB_ID": "4211", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    results = finish(
        [
            process(
                [*TRAIN, *flags(folder, output, "--evaluate", "none")],
                **job,
                SLURM_PROCID=str(index),
                SLURM_LOCALID=str(index),
            )
            for index in range(2)
        ]
    )
    assert [status for status, *_ in results] == [0, 0], results
    assert_identical(folder, output, pair)


@pytest.mark.exhaustive
def test_twenty_random_kills_change_nothing(folder, alone):
    output, generator = "killed-often", random.Random(0)
    often = ("--checkpoint-every", "1", "--keep", "2", "--evaluate", "none")
    (one,) = [process([*TRAIN, *flags(folder, output, *often)])]
    step = 0
    for _ in range(20):
        wait_for_step(folder, output, min(step + 1, STEPS - 1), [one])
        time.sleep(generator.uniform(0, 0.05))
        one.kill()
        finish([one])
        step = len(losses(folder, output))
        (one,) = resume(folder / output)
    ((status, _, errors),) = finish([one])
    assert status == 0, errors
    assert_identical(folder, output, alone)
