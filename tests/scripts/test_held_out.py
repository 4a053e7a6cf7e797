"""The loss on held-out rows: its value, how it ranks, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

import jaxembed
from jaxembed.data import open_dataset
from jaxembed.training import Hosts, make_mesh
from tests.scripts.beir_files import write_beir

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/goldens/encoders/tiny"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Scored pairs and pairs, to train on and held out, and a retrieval task."""
    folder = tmp_path_factory.mktemp("data")
    rows = open_dataset("wordnet-gloss").select_columns(["query", "positive"])
    first = dict(zip(rows["positive"][:500], range(500), strict=True))  # of each answer one row
    rows = rows.select(sorted(first.values())[:60])
    for name, part in {"train": range(40), "dev": range(40, 53), "few": range(53, 60)}.items():
        chosen = rows.select(part)
        chosen.to_parquet(folder / f"{name}.parquet")
        scores = [row % 5 / 4 for row in part]
        chosen.add_column("score", scores).to_parquet(folder / f"{name}-scored.parquet")
    write_beir(folder / "beir", rows["query"][:20], rows["positive"][:20])
    return folder


@pytest.fixture
def train(monkeypatch, data, tmp_path):
    """`scripts/train.py` in this process; returns the records of the evaluations."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from config import Config
    from train import main

    def run_here(**flags):
        output = flags.setdefault("output", tmp_path / "run")
        usual = {"model": str(TINY), "data": (str(data / "train.parquet"),), "cache": None}
        usual |= {"batch_size": 8, "max_seq_length": 16, "split_lengths": False, "dropout": False}
        assert main(Config(**{**usual, **flags})) == 0
        lines = map(json.loads, (output / "log.jsonl").read_text().splitlines())
        return [record for record in lines if record["kind"] == "evaluation"]

    return run_here


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def embedded(file):
    rows = open_dataset(file)
    encoder = jaxembed.load(TINY, max_seq_length=16)
    return rows, *(unit(encoder.encode(rows[name][:])) for name in ("query", "positive"))


@pytest.fixture
def loss(monkeypatch, data):
    """The loss of an untrained model on held-out rows: `loss(file, flag=value)`."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from config import Config
    from held_out import HeldOutLoss
    from training import open_training

    def computed(file, **flags):
        usual = {"model": str(TINY), "data": (str(data / "train.parquet"),), "batch_size": 8}
        mesh = make_mesh(fsdp=flags.get("fsdp", 1))
        training = open_training(Config(**{**usual, "max_seq_length": 16, **flags}), mesh)
        held_out = HeldOutLoss(training, Hosts(), open_dataset(file), None)
        held_out.state = training.create_state()
        return held_out.evaluate(no_embedding)["loss"]

    return computed


def no_embedding(texts, *, role):
    raise AssertionError("a loss encodes its own batches")


def test_it_is_the_mean_over_all_rows_without_dropout(loss, data):
    held_out = data / "dev-scored.parquet"  # 13 rows, in batches of 8
    flags = {"loss": ("cosine_similarity",), "data": (str(data / "train-scored.parquet"),)}
    columns = ("query", "positive", "score")
    rows, left, right = embedded(held_out)
    expected = np.mean((np.sum(left * right, axis=1) - rows["score"][:]) ** 2)
    found = loss(held_out, **flags, columns=columns, dropout=True)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "flags",
    [
        {"mini_batch_size": 2},
        pytest.param({}, marks=pytest.mark.exhaustive),
        pytest.param({"packing": True}, marks=pytest.mark.exhaustive),
        pytest.param({"lora_rank": 2}, marks=pytest.mark.exhaustive),
        pytest.param({"fsdp": 2}, marks=pytest.mark.exhaustive),
        pytest.param({"block_size": 2}, marks=pytest.mark.exhaustive),
    ],
)
def test_it_is_the_objective_of_the_training_in_its_batches(loss, data, flags):
    held_out = data / "few.parquet"  # 7 rows, one batch
    _, left, right = embedded(held_out)
    logits = 7 * left @ right.T
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diagonal(logits))
    assert loss(held_out, scale=7.0, **flags) == pytest.approx(expected, rel=1e-5)


@pytest.mark.exhaustive
def test_the_model_of_the_least_loss_is_saved(train, data, tmp_path):
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'[beir]\ndata = "{data}/beir"\n[dev]\nkind = "loss"\ndata = "{data}/few.parquet"\n'
    )
    measured = train(
        evaluate=(str(suite),),
        evaluate_every=1,
        evaluate_dims=(8,),
        metric="dev/loss",
        save_best=True,
        learning_rate=0.3,
        warmup_share=0.0,
        steps=4,
    )
    assert {"beir/ndcg@10_dim_8", "health/mean_cosine"} <= measured[0].keys()
    assert "dev/loss_dim_8" not in measured[0]
    best = min(reversed(measured[1:]), key=lambda record: record["dev/loss"])
    assert json.loads((tmp_path / "run/results.json").read_text())["after"] == best
    assert best["dev/loss"] < measured[0]["dev/loss"]


def test_a_run_ends_when_the_loss_does_not_fall(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from config import Config
    from measuring import Measuring

    class Loss:
        main_metric = "dev/loss"

        def evaluate(self, embed):
            return {}

    measuring = Measuring(Config(early_stopping=2), Loss(), steps=10)
    for value, exhausted in ((2.0, 0), (1.0, 0), (1.5, 0), (0.5, 0), (np.nan, 0), (0.5, 1)):
        measuring.remember([{"kind": "evaluation", "dev/loss": value}])
        assert measuring.exhausted == bool(exhausted)
    assert measuring.reason == "dev/loss was not below 0.5000 in 2 evaluations"
    greater, less = (measuring.rank({"dev/loss": x}) for x in (2.0, 1.0))
    assert greater is not None
    assert less is not None
    assert greater < less
    assert measuring.rank({"dev/loss": np.nan}) is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"evaluate": ("loss:{data}/missing.parquet",)}, "missing.parquet"),
        ({"evaluate": ("loss:",)}, "names no file"),
        ({"evaluate": ("loss:{data}/few.parquet",), "columns": ("query", "a")}, "no column 'a'"),
        ({"evaluate": ("{suite}",)}, "loss takes no option ks"),
        ({"tasks": "{tasks}", "evaluate": ("loss:{data}/few.parquet",)}, "is of one task, and"),
    ],
)
def test_wrong_files_are_refused_before_anything_is_written(train, data, tmp_path, flags, message):
    suite, tasks = tmp_path / "suite.toml", tmp_path / "tasks.toml"
    suite.write_text(f'[dev]\nkind = "loss"\ndata = "{data}/few.parquet"\nks = [1]\n')
    tasks.write_text("".join(f'[{n}]\ndata = "{data}/{n}.parquet"\n' for n in ("train", "dev")))
    paths = {"data": data, "suite": suite, "tasks": tasks}
    flags = {**flags, "evaluate": tuple(one.format(**paths) for one in flags["evaluate"])}
    if "tasks" in flags:
        flags["tasks"] = tasks
    with pytest.raises(ValueError, match=message):
        train(**flags)
    assert not (tmp_path / "run").exists()


def test_classes_that_are_words_must_be_those_of_the_training(loss, data, tmp_path):
    rows = open_dataset(data / "few.parquet")
    files = {}
    for name, words in {"train": "abc", "same": "cabba", "other": "bcd"}.items():
        labels = [words[row % len(words)] for row in range(len(rows))]
        files[name] = tmp_path / f"{name}.parquet"
        rows.add_column("label", labels).to_parquet(files[name])
    flags = {"data": (str(files["train"]),), "columns": ("query", "positive", "label")}
    flags["loss"] = ("softmax",)
    assert loss(files["same"], **flags) > 0
    with pytest.raises(ValueError, match=r"held-out rows have b, c, d where .* have a, b, c; numb"):
        loss(files["other"], **flags)


def test_a_model_alone_has_no_loss(monkeypatch, data):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from suites import open_suite

    with pytest.raises(ValueError, match=r"a loss is of a training; train\.py --evaluate takes it"):
        open_suite([f"loss:{data}/few.parquet"])
