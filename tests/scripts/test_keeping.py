"""What a run measures and keeps: evaluations, early stopping, averages, steps that are skipped."""

import json
from pathlib import Path

import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

from jaxembed.data import open_dataset
from jaxembed.training import Checkpoints, create_state, make_mesh
from tests.scripts.beir_files import write_beir

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/goldens/encoders/tiny"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pairs in two files, a retrieval task, and triplets."""
    folder = tmp_path_factory.mktemp("data")
    rows = open_dataset("wordnet-gloss").filter(lambda row: row["negative"] is not None)
    rows = rows.select(range(80))
    for number in range(2):
        part = rows.select(range(40 * number, 40 * number + 40))
        part.select_columns(["query", "positive"]).to_parquet(folder / f"pairs-{number}.parquet")
    rows.select_columns(["query", "positive", "negative"]).to_parquet(folder / "triplets.parquet")
    some = rows.select(range(20))
    write_beir(folder / "beir", some["query"], some["positive"])
    return folder


@pytest.fixture
def train(monkeypatch, data, tmp_path):
    """`scripts/train.py` in this process, on the tiny model; returns the folder of the run."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from config import Config
    from train import main

    def run_here(**flags):
        usual = {
            "model": str(TINY),
            "data": (str(data / "pairs-0.parquet"),),
            "output": tmp_path / "run",
            "cache": None,
            "batch_size": 8,
            "log_every": 1,
            "max_seq_length": 16,
            "split_lengths": False,  # one program
            "dropout": False,
        }
        assert main(Config(**{**usual, **flags})) == 0
        return tmp_path / "run"

    return run_here


def records(folder, kind):
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [record for record in lines if record["kind"] == kind]


def test_several_evaluations_rank_by_any_metric_and_end_a_run_early(train, data, capsys):
    output = train(
        evaluate=(str(data / "beir"), f"triplet:{data / 'triplets.parquet'}"),
        evaluate_dims=(8,),
        evaluate_every=0.25,
        metric="triplets/accuracy",
        early_stopping=2,
        learning_rate=1e-12,
        steps=16,
        prompts=("anchors=query: ",),
    )
    measured = records(output, "evaluation")
    assert [record["step"] for record in measured] == [0, 4, 8]  # nothing got better
    assert {"beir/ndcg@10", "triplets/accuracy", "beir/ndcg@10_dim_8"} <= measured[0].keys()
    assert len(records(output, "train")) == 8
    said = capsys.readouterr().out
    assert "stops early after step 8: triplets/accuracy was not above" in said
    assert (output / "model/modules.json").exists()
    results = json.loads((output / "results.json").read_text())
    assert results["after"]["step"] == 8


@pytest.mark.parametrize(
    ("flags", "made"),
    [({}, {5, 6}), ({"save_best": True}, {2, 4, 5, 6}), ({"average_last": 2}, {2, 4, 5, 6})],
)
def test_evaluations_make_checkpoints_where_one_is_chosen(train, data, flags, made):
    output = train(
        evaluate=(str(data / "beir"),),
        evaluate_every=2,
        checkpoint_every=5,
        keep=9,
        steps=6,
        **flags,
    )
    assert {int(folder.name) for folder in (output / "checkpoints").iterdir()} == made


def longer(train, **flags):
    """Trains for 2 steps, and resumes that run with 4."""
    output = train(steps=2, evaluate=("none",), **flags)
    from config import Config
    from train import main

    assert main(Config(resume=output, steps=4)) == 0
    return output


def test_a_run_that_is_made_longer_equals_one_that_was_from_the_start(train, capsys):
    steady = {"decay": "constant", "warmup_share": 0.0, "dropout": True}
    output = longer(train, **steady)
    model = (output / "model/model.safetensors").read_bytes()
    assert "4 steps instead of 2 steps: from step 3 on, the learn" in capsys.readouterr().out
    assert json.loads((output / "config.json").read_text())["steps"] == 4
    train(steps=4, evaluate=("none",), overwrite=True, **steady)
    assert (output / "model/model.safetensors").read_bytes() == model


@pytest.mark.exhaustive
def test_a_run_that_is_made_longer_has_the_schedule_of_the_longer_one(train):
    output = longer(train, warmup_share=0.25, learning_rate=1.0)
    rates = [record["learning_rate"] for record in records(output, "train")]
    np.testing.assert_allclose(rates, [1, 0.5, 1 - 1 / 3, 1 / 3], rtol=1e-6)
    from config import Config
    from train import main

    with pytest.raises(ValueError, match="has 4 steps; it may be resumed with more, not with 3"):
        main(Config(resume=output, steps=3))


def test_results_and_card_are_of_the_model_that_is_saved(train, data):
    output = train(
        evaluate=(f"triplet:{data / 'triplets.parquet'}",),
        evaluate_every=1,
        learning_rate=0.3,  # spoils the model more and more
        warmup_share=0.0,
        save_best=True,
        steps=4,
    )
    measured = records(output, "evaluation")
    best = max(reversed(measured[1:]), key=lambda record: record["accuracy"])
    assert best["step"] < 4
    assert json.loads((output / "results.json").read_text())["after"] == best
    card = (output / "model/README.md").read_text()
    assert f"{best['accuracy']:.4f}" in card


def test_more_checkpoints_to_average_than_there_will_be_are_refused(train, data, tmp_path):
    with pytest.raises(ValueError, match=r"--average-last 3 is more than the 1 checkpoints"):
        train(steps=4, average_last=3, evaluate=("none",))
    assert not (tmp_path / "run").exists()


def test_a_collapse_is_said_of_each_task(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from loop import collapses

    well = {"mean_cosine": 0.2, "effective_rank": 20.0}
    spoiled = {"mean_cosine": 0.99, "effective_rank": 7.0}
    assert [*collapses({f"health/{name}": value for name, value in well.items()})] == []
    alone = [*collapses({f"health/{name}": value for name, value in spoiled.items()})]
    assert alone == ["the embeddings collapse: mean cosine 0.990, effective rank 7.0"]
    tasks = {f"a/health/{name}": value for name, value in well.items()}
    tasks |= {f"b/health/{name}": value for name, value in spoiled.items()} | {"b/loss": 1.0}
    assert [*collapses(tasks)] == [f"b: {alone[0]}"]


def test_a_batch_of_few_rows_is_no_collapse(train, capsys):
    train(batch_size=2, steps=1, evaluate=("none",))  # its two rows have an effective rank of 1
    assert "collapse" not in capsys.readouterr().out


def test_a_metric_that_is_not_defined_is_no_best(monkeypatch, data):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from config import Config
    from measuring import Measuring
    from suites import open_suite

    evaluator = open_suite([str(data / "beir")])
    measuring = Measuring(Config(early_stopping=2), evaluator, steps=10)
    values = (float("nan"), 0.2, 0.3, float("nan"))
    measuring.remember({"kind": "evaluation", "ndcg@10": value} for value in values)
    assert measuring.best == 0.3
    assert not measuring.exhausted
    measuring.remember([{"kind": "evaluation", "ndcg@10": 0.3}])
    assert measuring.exhausted


def test_an_unknown_metric_is_named_with_those_there_are(train, data):
    with pytest.raises(ValueError, match=r"there is no metric ndcg; there are accuracy@1, "):
        train(evaluate=(str(data / "beir"),), metric="ndcg", steps=2)


def test_steps_that_are_not_finite_are_skipped_and_end_with_their_rows(train, tmp_path):
    with pytest.raises(FloatingPointError, match=r"of steps 2 to 3 are not finite; their rows are"):
        train(evaluate=("none",), learning_rate=1e30, warmup_share=0.0, max_skipped=2, steps=9)
    output = tmp_path / "run"
    lines = (output / "nonfinite.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [2] * 8 + [3] * 8
    assert rows[0].keys() == {"step", "row", "anchors", "positives"}
    assert [record["skipped"] for record in records(output, "train")] == [0, 1, 1]
    assert not (output / "model").exists()


def test_streams_and_files_are_mixed_by_weight(train, data, tmp_path):
    file = tmp_path / "tasks.toml"
    file.write_text(
        f"""
        [streamed]
        data = "{data}/pairs-*.parquet"
        stream = true
        window = 16
        weight = 1
        [triplets]
        data = "{data}/triplets.parquet"
        loss = "triplet"
        weight = 1
        """
    )
    output = train(tasks=file, mix="weighted", steps=8, evaluate=("none",))
    steps = records(output, "train")
    assert {name for record in steps for name in record if name.endswith("/loss")} == {
        "streamed/loss",
        "triplets/loss",
    }
    health = {name for record in steps for name in record if name.endswith("effective_rank")}
    assert health == {"streamed/health/effective_rank", "triplets/health/effective_rank"}


def test_rows_of_several_files_are_mixed_in_every_batch(train, data):
    files = tuple(str(data / f"pairs-{number}.parquet") for number in range(2))
    output = train(data=files, data_weights=(3.0, 1.0), steps=2, evaluate=("none",))
    assert len(records(output, "train")) == 2


def test_cached_tokens_train_as_the_tokenizer_does(train, data, tmp_path):
    import shutil

    from tokenize_texts import Config, main

    files = (str(data / "pairs-0.parquet"),)
    flags = Config(model=str(TINY), data=files, cache=tmp_path / "tokens", max_seq_length=16)
    assert main(flags) == 0
    losses = []
    for cache in (None, tmp_path / "tokens"):
        output = train(steps=2, evaluate=("none",), token_cache=cache)
        losses.append([record["loss"] for record in records(output, "train")])
        shutil.rmtree(output)
    assert losses[0] == losses[1]


def test_the_average_of_the_last_checkpoints_is_saved(train, data):
    output = train(steps=3, checkpoint_every=1, average_last=2, evaluate=("none",), keep=1)
    saved = load_file(output / "model/model.safetensors")
    from config import RECORDED, Config
    from training import open_training

    stored = json.loads((output / "config.json").read_text())
    flags = {name: value for name, value in stored.items() if name not in RECORDED}
    config = Config(**{**flags, "cache": None, "output": output})
    training = open_training(config, make_mesh())
    checkpoints = Checkpoints(output / "checkpoints", training.identity(flags), keep=2)
    assert checkpoints.steps == [2, 3]
    state = training.create_state()
    both = [training.trained(checkpoints.restore(state, step=step)) for step in (2, 3)]
    tensors = [encoder.tensors(encoder.params["transformer"]) for encoder in both]
    for name, tensor in saved.items():
        mean = (np.asarray(tensors[0][name]) + np.asarray(tensors[1][name])) / 2
        np.testing.assert_allclose(tensor, mean, atol=1e-7, err_msg=name)
    assert any((tensors[0][name] != tensors[1][name]).any() for name in saved)


def test_the_last_state_is_saved_where_there_is_one_checkpoint(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from config import Config
    from finishing import chosen_state

    optimizer = optax.sgd(0.1)
    state = create_state({"w": np.ones(2, np.float32)}, optimizer, make_mesh())
    checkpoints = Checkpoints(tmp_path / "checkpoints", {"name": "x"})
    checkpoints.save(1, state)
    assert chosen_state(Config(average_last=3), checkpoints, state) is state
    checkpoints.close()
