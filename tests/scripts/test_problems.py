"""What goes wrong in a command is one line; two processes never write to one folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxembed.folder_lock import LockedError, locked
from jaxembed.training import read_log
from tests.scripts.many_hosts import environment

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/goldens/encoders/tiny"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"text": f"a {n}", "answer": f"b {n}"} for n in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


# Messages ----------------------------------------------------------------------------------------


def problem(error, **options):
    from problems import problem_of

    try:
        raise error
    except BaseException as raised:
        return problem_of(raised, **options)


@pytest.mark.usefixtures("scripts")
def test_known_problems_have_a_line_and_a_status():
    assert problem(ValueError("wrong\nin two lines")) == (2, "wrong in two lines")
    assert problem(OSError("full"), kept="the rest stays") == (1, "full; the rest stays")
    assert problem(KeyboardInterrupt(), kept="go on") == (130, "stopped; go on")
    too_large = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
    for error in (too_large, MemoryError()):
        status, line = problem(error, smaller="lower --batch-size")
        assert status == 1
        assert line.startswith("out of memory (")
        assert line.endswith("; lower --batch-size")


@pytest.mark.usefixtures("scripts")
def test_an_unforeseen_problem_names_its_place_and_its_traceback(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    from mining_search import n_stored

    with pytest.raises(AttributeError) as raised:
        n_stored(None, [])  # pyright: ignore[reportArgumentType]
    status, line = problem(raised.value)
    (file,) = tmp_path.iterdir()
    assert status == 1
    assert line.startswith("unforeseen AttributeError: ")
    assert "(mining_search.py:" in line
    assert line.endswith(f"its traceback is in {file}")
    assert "\n" not in line
    assert "in n_stored" in file.read_text()
    assert not capsys.readouterr().err


@pytest.mark.usefixtures("scripts")
def test_the_environment_shows_tracebacks(capsys, monkeypatch):
    monkeypatch.setenv("JAXEMBED_DEBUG", "1")
    problem(ValueError("wrong"))
    assert "Traceback" in capsys.readouterr().err


COMMAND = """
import sys, threading, time
from dataclasses import dataclass
sys.path.insert(0, sys.argv.pop(1))
from command import command

@dataclass
class Config:
    kind: str

def main(config):
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("\\u2212 \\ud800")
    raise {"key": KeyError, "interrupt": KeyboardInterrupt}[config.kind]("x")

command(main, Config, None, kept="the rest stays")
"""


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [("key", 1, "error: unforeseen KeyError: 'x'"), ("interrupt", 130, "stopped; the rest stays")],
)
def test_a_command_ends_with_a_line_though_its_threads_do_not(kind, status, said):
    result = subprocess.run(
        [sys.executable, "-c", COMMAND, str(ROOT / "scripts"), "--kind", kind],
        env={**environment(1), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert result.returncode == status
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith(said)
    assert result.stdout == "\\u2212 \\ud800\n"  # what the terminal cannot show is escaped


# Two at once -------------------------------------------------------------------------------------


def encode(rows, folder):
    from encode import Config, main

    return main(Config(model=str(TINY), data=(rows,), output=folder, cache=None))


def mine_negatives(rows, folder):
    from mine_negatives import main
    from mining_flags import Config

    folder.mkdir(exist_ok=True)
    flags = {"candidates": 4, "num_negatives": 1, "cache": None}
    return main(Config(model=str(TINY), data=(rows,), output=folder / "x.jsonl", **flags))


def tokenize_texts(rows, folder):
    from tokenize_texts import Config, main

    return main(Config(model=str(TINY), data=(rows,), cache=folder))


def train(rows, folder):
    from config import Config
    from train import main

    flags = {"evaluate": ("none",), "cache": None, "batch_size": 4}
    return main(Config(model=str(TINY), data=(rows,), output=folder, **flags))


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize("command", [encode, mine_negatives, tokenize_texts, train])
def test_a_folder_that_another_process_writes_to_is_refused(command, rows, tmp_path):
    folder = tmp_path / "out"
    inner = folder / "x.mining" if command is mine_negatives else folder
    with locked(inner):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(LockedError, match=f"is in use by process {os.getpid()} on"):
            command(rows, folder)
        assert sorted(tmp_path.rglob("*")) == before


# The files of a run ------------------------------------------------------------------------------


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "config.json: it must be an object; got [1]"),
        ("{", "config.json is not valid JSON"),
        ('{"steps": "7"}', 'config.json: steps must be a whole number at least 1; got "7"'),
        ('{"learning_rate": NaN}', "config.json: learning_rate must be a finite number"),
        ('{"data": "a.csv"}', "config.json: data must be a list; got str 'a.csv'"),
        ('{"cache": 3}', "config.json: cache must be a path; got int 3"),
        ('{"flags": 3}', "config.json is of another version: there is no flag flags"),
    ],
)
def test_the_flags_of_a_run_are_checked(tmp_path, content, message):
    from config import Config, continued

    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        continued(Config(resume=tmp_path))
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3", "line 2 of {file}: it must be an object; got 3"),
        ('{"kind": "train"}', "line 2 of {file}: it lacks 'step'"),
        (
            '{"step": "1", "kind": "train"}',
            "line 2 of {file}: step must be a whole number at least 0",
        ),
        (
            '{"step": 1, "kind": "train", "loss": "x"}',
            "line 2 of {file}: loss must be a finite num",
        ),
        ('{"step": 1, "ki', "line 2 of {file} is no record of a run"),
    ],
)
def test_the_log_of_a_run_is_checked(tmp_path, line, message):
    file = tmp_path / "log.jsonl"
    good = '{"step": 1, "kind": "train", "loss": null}'
    file.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        read_log(file)
    assert message.format(file=file) in str(refusal.value)
    file.write_text(f'{good}\n{good}\n{{"step": 3, "kin')  # cut off, as a kill leaves it
    assert [record["step"] for record in read_log(file)] == [1, 1]
