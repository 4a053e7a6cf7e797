"""The suite answers questions one after the other, reports, and notices what became worse."""

import copy
import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxembed.losses import multiple_negatives_ranking_loss

ROOT = Path(__file__).parents[1]
FREE = {"at_least": None, "at_most": None, "met": None}
RESULT = {
    "question": "Which?",
    "settings": {"n": 64},
    "machine": {"cores": 2},
    "versions": {"jax": "1"},
    "rows": [{"side": "ours", "flops": 100, "seconds": [1.0]}],
    "targets": [
        {"what": "theirs / ours", "value": 2.0, "at_least": 1.8, "at_most": None, "met": True},
        {"what": "memory", "value": 9.0, "at_least": None, "at_most": 8.0, "met": False},
        {"what": "more of theirs / ours (a)", "value": 3.0, **FREE},
        {"what": "difference", "value": 1e-7, "at_least": -0.01, "at_most": None, "met": True},
    ],
}


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def suite(*flags):
    command = [sys.executable, "-m", "benchmarks", *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def write(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / "one.json").write_text(json.dumps(content))
    (folder / "one.md").write_text("# Which?\n\n| side | seconds |\n|---|---:|\n| ours | 1 |\n")
    return folder


@pytest.mark.exhaustive
def test_a_question_is_answered_and_reported(tmp_path):
    result = suite("--quick", "--only", "loss_memory", "--peers", "none", "--output", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("loss_memory … ")
    assert "| cosent_loss |" in (tmp_path / "report.md").read_text()
    again = suite(
        *("--quick", "--only", "loss_memory", "--peers", "none"),
        *("--output", tmp_path / "again", "--check", tmp_path),
    )
    assert again.returncode == 0, again.stdout  # the compiled figures are the same


@pytest.mark.exhaustive
def test_questions_of_speed_are_asked_in_bfloat16(module, tmp_path):
    flags = ("--quick", "--only", "streamed_loss", "--peers", "none")
    result = suite(*flags, "--dtype", "bfloat16", "--output", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "streamed_loss.json").read_text())
    assert found["settings"]["dtype"] == "bfloat16"
    assert all(target["met"] is None for target in found["targets"])  # bounds are of float32
    workload = next(row for row in module("loss_workloads").workloads(256, 64))
    arrays = [jnp.asarray(array) for array in workload.arrays().values()]
    values = [
        float(multiple_negatives_ranking_loss(*(x.astype(dtype) for x in arrays)))
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    assert values[0] != pytest.approx(values[1], rel=1e-5)
    assert found["sides"][0]["value"] == pytest.approx(values[1], rel=1e-5)


def test_pytorch_and_jax_compute_on_one_device(module):
    check_device = module("peer").check_device
    check_device({})  # no PyTorch
    check_device({"sentence-transformers's threads": 2})
    facts = {"sentence-transformers's threads": 2, "sentence-transformers's device": "H100"}
    with pytest.raises(ValueError, match=r"PyTorch computes on H100, JAX on cpu: give"):
        check_device(facts)


def test_operations_are_left_out_where_the_program_hides_them(module):
    figures = module("program_figures").figures
    x = jnp.ones((8, 8))
    known = jax.jit(lambda x: x @ x).lower(x).compile()
    assert figures(known)["flops"] == 2 * 8**3
    turns = lambda x: lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x)  # noqa: E731
    assert [*figures(jax.jit(turns).lower(x).compile())] == ["temporaries"]


@pytest.mark.parametrize(("measured", "most"), [(3, 5), (7, 7), (None, 5)])
def test_memory_of_a_call_is_no_less_than_its_programs(module, measured, most):
    row = {"temporaries": 5, "resident_growth": measured}
    assert module("streamed_loss").memory_of(row) == most


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "nothing"], "there is no question nothing; there are programs, loss_time, "),
        (["--only", "mining", "--dtype", "bfloat16"], "mining is not asked in bfloat16; "),
        (
            ["--quick", "--only", "mteb_scores", "--peers", "none", "--check", "no"],
            "--check no has",
        ),
    ],
)
def test_wrong_flags_are_one_line(flags, message, tmp_path):
    result = suite(*flags, "--output", tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1


def test_a_peer_that_cannot_be_installed_is_left_out(tmp_path):
    (tmp_path / "file").write_text("")
    flags = ("--quick", "--only", "mteb_scores", "--environments", tmp_path / "file")
    result = suite(*flags, "--output", tmp_path)
    assert result.returncode == 1
    assert "left out: the environment of mteb cannot be made: " in result.stdout
    assert "report: " in result.stdout


def test_every_question_is_a_file_that_knows_its_peers(module):
    for question in module("suite").QUESTIONS:
        text = (ROOT / f"benchmarks/{question.name}.py").read_text()
        for peer in question.peers:
            flag = module("suite").PYTHON_FLAGS[peer].lstrip("-").replace("-", "_")
            assert flag in text or "(PeerFlags)" in text or "(SideFlags)" in text


def test_the_report_says_what_is_missed_and_why(module, tmp_path, monkeypatch):
    summary = module("summary")
    causes = tmp_path / "causes.toml"
    causes.write_text('[one]\nmemory = "all of it is needed."\n')
    monkeypatch.setattr(summary, "CAUSES", causes)
    text = summary.write_report(write(tmp_path / "results", RESULT), ["one"]).read_text()
    assert "| [one](one.md) | theirs / ours | ≥ 1.8 | 2 | met |" in text
    assert "| [one](one.md) | memory | ≤ 8 | 9 | **missed** |" in text
    assert "- memory: all of it is needed." in text
    assert "## Which?" in text


def changed(path, value):
    content = copy.deepcopy(RESULT)
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (["targets", 0, "value"], 1.4, []),  # within what a shared machine does
        (["targets", 0, "value"], 1.2, ["one: theirs / ours was 2 and is 1.2"]),
        (["targets", 1, "value"], 14.0, ["one: memory was 9 and is 14"]),
        (["rows", 0, "flops"], 101, ["one: rows/ours/flops was 100 and is 101"]),
        (["rows", 0, "seconds"], [9.0], []),
        (["rows", 0], {"side": "ours"}, ["one: rows/ours/flops was 100 and is missing"]),
        (["rows"], [], ["one: rows were 1 and are 0; their figures are not compared"]),
        (["targets", 2, "value"], 1.0, ["one: more of theirs / ours was 3 and is 1"]),
        (["targets", 3, "value"], -0.009, []),
        (["settings", "n"], 65, ["one: measured with other settings; nothing is compared"]),
        (["settings", "dtype"], "float32", []),  # as older ones are that do not say it
        (
            ["settings", "dtype"],
            "bfloat16",
            ["one: measured with other settings; nothing is compared"],
        ),
    ],
)
def test_what_became_worse_is_found(module, tmp_path, path, value, found):
    old = write(tmp_path / "old", RESULT)
    new = write(tmp_path / "new", changed(path, value))
    assert module("regression").check(new, old) == found


def test_figures_of_another_jax_are_not_compared(module, tmp_path):
    content = changed(["rows", 0, "flops"], 101) | {"versions": {"jax": "2"}}
    new, old = write(tmp_path / "new", content), write(tmp_path / "old", RESULT)
    assert module("regression").check(new, old) == []


def test_the_readmes_have_the_stored_figures():
    command = [sys.executable, str(ROOT / "benchmarks/readme.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_block_of_figures_is_written_anew(module, tmp_path, monkeypatch):
    readme = module("readme")
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    content = RESULT | {"table": {"columns": ["side", "s"], "rows": [["ours", "1"]]}}
    write(tmp_path / "here", content)
    file = tmp_path / "README.md"
    for kind, line in (
        ("table", "| ours | 1 |"),
        ("targets", "- memory: 9 (target ≤ 8, **missed**)"),
    ):
        file.write_text(f"a\n<!-- figures {kind} here/one -->\nold\n<!-- end of figures -->\nb\n")
        new = readme.rewritten(file)
        assert line in new
        assert "old" not in new
        assert "Measured with 2 cores, jax 1." in new
        file.write_text(new)
        assert readme.rewritten(file) == new


def test_the_same_value_is_read_from_the_curve(module):
    quality = module("quality")
    points = [(0, 0.0, 0.2), (5, 10.0, 0.4), (10, 20.0, 0.3), (15, 30.0, 0.5)]
    names = ("step", "training_s", "value")
    run = {"evaluations": [dict(zip(names, point, strict=True)) for point in points]}
    assert quality.seconds_to(run, 0.3) == pytest.approx(5.0)
    assert quality.seconds_to(run, 0.45) == pytest.approx(27.5)
    assert quality.seconds_to(run, 0.6) == float("inf")
    slow = {"evaluations": [{**p, "training_s": 2 * p["training_s"]} for p in run["evaluations"]]}
    assert quality.times_as_long(run, slow) == pytest.approx(2.0)
    worse = {"evaluations": [{**p, "value": -p["value"]} for p in run["evaluations"]]}
    assert quality.times_as_long(worse, worse) is None  # no step improved on the beginning
    targets = quality.held_to([
        {"task": "a", "seed": 0, "side": side, **worse, "training_s": 30.0}
        for side in ("ours", "sentence-transformers")
    ])  # fmt: skip
    assert [target.met for target in targets] == [True, None]


def test_an_interpreter_is_found_or_missed(module):
    environments = module("environments")
    assert environments.find_python((3, 11)) == sys.executable
    with pytest.raises(ValueError, match=r"there is no Python of 3\.99 or later"):
        environments.find_python((3, 99))


def test_pictures_are_drawn(module, tmp_path):
    plots = module("plots")
    plots.curves(tmp_path / "a.png", {"t": {"ours": [(1, 1), (2, 4)]}}, across="n")
    plots.bars(tmp_path / "b.png", {str(n): {"ours": 2.0, "other": 0.5} for n in range(4)}, line=1)
    for name in ("a", "b"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
