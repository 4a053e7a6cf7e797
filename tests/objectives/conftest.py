"""A tiny student, a tiny data set, and the script's way from flags to tasks and to a run."""

from pathlib import Path

import pytest
import tyro

from jaxembed.data import Shards
from tests.objectives.every import write_data, write_student

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "rows.jsonl")


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    return write_student(tmp_path_factory.mktemp("models") / "student")


@pytest.fixture
def config(data, student, tmp_path, monkeypatch):
    """`config("--loss", "cosent")`: flags of a short run on the tiny data, in one program."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from config import Config

    def config_of(*flags):
        usual = ["--model", str(student), "--data", str(data), "--output", str(tmp_path / "run")]
        usual += ["--steps", "3", "--batch-size", "8", "--evaluate", "none", "--no-dropout"]
        usual += ["--cache", "None", "--learning-rate", "1e-3"]
        usual += ["--buckets", "64", "--no-split-lengths"]
        return tyro.cli(Config, args=[*([] if "--resume" in flags else usual), *flags])

    return config_of


@pytest.fixture
def train(config):
    """`scripts/train.py` in this process: `train("--loss", "cosent")` returns the run's folder."""

    def run(*flags):
        from train import main

        flags = config(*flags)
        assert main(flags) == 0
        return flags.resume or flags.output

    return run


@pytest.fixture
def open_tasks(config):
    """The tasks of flags, as the script opens them for one device."""

    def opened(*flags, n_devices=1):
        import inputs

        return inputs.open_tasks(config(*flags), Shards.all(n_devices))

    return opened
