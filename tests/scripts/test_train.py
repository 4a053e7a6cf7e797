"""The training script as users run it: to the end, killed and resumed, stopped, and fed rubbish."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file

import jaxembed
from jaxembed.data import open_dataset
from jaxembed.data.sources import EMBEDDED
from tests.scripts.beir_files import write_beir
from tests.scripts.many_hosts import environment

exhaustive = pytest.mark.exhaustive
ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/goldens/encoders/tiny"
ENVIRONMENT = environment(1)
TRAIN_FILE = EMBEDDED / "train.parquet"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three hundred pairs with negatives, and a small retrieval task of BEIR's three tables."""
    folder = tmp_path_factory.mktemp("data")
    rows = open_dataset("wordnet-gloss").select(range(300))
    rows.to_parquet(folder / "pairs.parquet")
    some = rows.select(range(40))
    write_beir(folder / "beir", some["query"], some["positive"])
    return folder


def command(data, output, *flags):
    return [
        *(sys.executable, str(ROOT / "scripts/train.py")),
        *("--model", str(TINY), "--data", str(data / "pairs.parquet")),
        *("--columns", "query", "positive", "--output", str(output)),
        *("--evaluate", str(data / "beir"), "--evaluate-every", "6"),
        *("--steps", "12", "--batch-size", "8", "--checkpoint-every", "2", "--log-every", "1"),
        *("--learning-rate", "1e-3", "--cache", str(data / "cache")),
        *("--buckets", "48", "--no-split-lengths"),  # one program
        *flags,
    ]


def run(arguments, **options):
    return subprocess.run(
        arguments, env=ENVIRONMENT, capture_output=True, text=True, timeout=1200, **options
    )


def weights(output):
    return load_file(output / "model/model.safetensors")


def assert_same_weights(left, right):
    left, right = weights(left), weights(right)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        np.testing.assert_array_equal(tensor, right[name], err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """The folder of a run that nothing happened to."""
    output = tmp_path_factory.mktemp("runs") / "undisturbed"
    result = run(command(data, output))
    assert result.returncode == 0, result.stderr
    return output, result.stdout


def test_a_run_ends_with_a_model_a_table_a_picture_and_a_log(undisturbed):
    output, text = undisturbed
    encoder = jaxembed.load(output / "model")
    assert encoder.encode(["bank: on the bank"]).shape == (1, 24)
    assert "step 12/12" in text
    assert "ndcg@10" in text
    assert f'jaxembed.load("{output}/model")' in text
    assert (output / "curve.png").read_bytes().startswith(b"\x89PNG")
    records = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    train = [record for record in records if record["kind"] == "train"]
    assert [record["step"] for record in train] == list(range(1, 13))
    assert {"loss", "grad_norm", "learning_rate", "pairs_per_s", "tokens_per_s", "padding_share",
            "in_batch_accuracy"} <= train[0].keys()  # fmt: skip
    assert [r["step"] for r in records if r["kind"] == "evaluation"] == [0, 6, 12]
    assert {"health/mean_cosine", "health/effective_rank", "waited_share"} <= train[0].keys()
    assert "health/mean_cosine" in records[0]
    report = (output / "report.html").read_text()
    assert all(part in report for part in ("Embedding health", "Throughput", "Versions", "Data"))
    assert "tokens on average" in text
    assert 'prompts in training: none; the model has "document", "query"' in text
    assert 'prompts: "query" for queries, "document" for documents; --no-prompts' in text
    card = (output / "model/README.md").read_text()
    assert "| loss | multiple_negatives_ranking |" in card
    assert "| ndcg@10 after |" in card


@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=exhaustive), 5, pytest.param(9, marks=exhaustive)]
)
def test_killed_and_resumed_is_undisturbed_to_the_bit(data, undisturbed, tmp_path, step):
    output = tmp_path / "killed"
    process = subprocess.Popen(command(data, output), env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    log = output / "log.jsonl"
    while not (log.exists() and f'"step": {step}, "kind": "train"' in log.read_text()):
        assert process.poll() is None, "ended before it was killed"
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (output / "model").exists()
    result = run([sys.executable, str(ROOT / "scripts/train.py"), "--resume", str(output)])
    assert result.returncode == 0, result.stderr
    assert_same_weights(output, undisturbed[0])
    losses = lambda folder: {  # noqa: E731
        record["step"]: record["loss"]
        for record in map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        if record["kind"] == "train"
    }
    assert losses(output) == losses(undisturbed[0])


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=exhaustive), signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(data, undisturbed, tmp_path, number):
    output = tmp_path / "stopped"
    arguments = command(data, output, "--checkpoint-every", "100")
    with subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 3/"):
                break
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == 128 + number
    assert f"go on with: python scripts/train.py --resume {output}" in rest
    result = run([sys.executable, str(ROOT / "scripts/train.py"), "--resume", str(output)])
    assert result.returncode == 0, result.stderr
    assert_same_weights(output, undisturbed[0])


def test_two_devices_hard_negatives_bfloat16_and_workers(data, tmp_path):
    output = tmp_path / "run"
    flags = ("--hard-negatives", "--loss", "multiple_negatives_symmetric_ranking", "--no-dropout",
             "--dtype", "bfloat16", "--workers", "1", "--steps", "4", "--save-best",
             "--log-to", "tensorboard")  # fmt: skip
    two = environment(2)
    result = subprocess.run(
        command(data, output, *flags), env=two, capture_output=True, text=True, timeout=1200
    )
    assert result.returncode == 0, result.stderr
    assert "2 cpu devices" in result.stdout
    assert list((output / "tensorboard").iterdir())
    assert jaxembed.load(output / "model").dimension == 24


@pytest.mark.exhaustive
def test_mini_batches_and_blocks_on_two_devices_train_as_the_whole_batch(data, tmp_path):
    two = environment(2)
    losses = []
    for name, flags in (("whole", ()), ("parts", ("--mini-batch-size", "3", "--block-size", "4"))):
        flags = (*flags, "--hard-negatives", "--steps", "4", "--evaluate", "none")
        arguments = command(data, tmp_path / name, *flags)
        result = subprocess.run(arguments, env=two, capture_output=True, text=True, timeout=1200)
        assert result.returncode == 0, result.stderr
        records = map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())
        losses.append([record["loss"] for record in records if record["kind"] == "train"])
    assert len(losses[0]) == 4
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_scored_pairs_train_and_evaluate(tmp_path):
    rows = [
        {"sentence1": f"a {word} sat", "sentence2": f"the {other} sat", "score": score}
        for word, other, score in (("cat", "cat", 1.0), ("dog", "tree", 0.2), ("cat", "car", 0.1))
        * 4
    ]
    file = tmp_path / "scored.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = [sys.executable, str(ROOT / "scripts/train.py"), "--model", str(TINY)]
    arguments += ["--data", str(file), "--loss", "cosine_similarity", "--batch-plan", "plain"]
    arguments += ["--evaluate", str(file), "--output", str(tmp_path / "run"), "--epochs", "2"]
    result = run([*arguments, "--batch-size", "5", "--cache", "None"])
    assert result.returncode == 0, result.stderr
    assert "6 steps of 5" in result.stdout
    assert "spearman" in result.stdout


@pytest.fixture
def train(monkeypatch):
    """`scripts/train.py` in this process: `train(flag=value)` runs it with the tiny model."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from config import Config
    from train import main

    def run_here(**flags):
        usual = {} if "resume" in flags else {"model": str(TINY), "cache": None}
        return main(Config(**{**usual, **flags}))

    return run_here


WRONG = [
    ({"model": "no-such-model"}, "'no-such-model' is no folder here"),
    ({"model": "/no/such"}, "the model folder /no/such does not exist"),
    ({"loss": ("rank",)}, "unknown loss 'rank'; choose one of cosine_similarity"),
    ({"batch_size": 1}, "batch_size 1 has none to learn from; use at least 2"),
    ({"steps": 0}, "steps must be a whole number at least 1; got 0"),
    ({"data": ("missing.parquet",)}, "missing.parquet"),
    ({"columns": ("query", "answer")}, "answer"),
    ({"columns": ("query", "positive", "negatives=lemmas")}, "lemmas"),
    ({"loss": ("cosine_similarity",)}, "could be positive, pos; name it"),
    ({"loss": ("cosine_similarity",), "columns": ("query", "positive", "scores=pos")}, "pos"),
    ({"scale": -1.0}, "scale must be a finite number above 0; got -1.0"),
    ({"block_size": 0}, "block_size must be a whole number at least 1; got 0"),
    ({"mini_batch_size": 0}, "mini_batch_size must be a whole number at least 1; got 0"),
    ({"loss": ("cosine_similarity",), "scale": 3.0}, "cosine_similarity takes no scale"),
    ({"warmup_share": 1.0}, "warmup_steps must lie in"),
    ({"max_seq_length": 1000}, "max_seq_length must lie between 2 and 64; got 1000"),
    ({"query_prompt": "question"}, "no prompt 'question'; it has"),
    ({"evaluate": ("/no/such/file.jsonl",)}, "/no/such/file.jsonl"),
    ({"evaluate": ("rankings:x.csv",)}, "'rankings' is no kind of evaluation; kinds are simil"),
    ({"evaluate_every": 0.0}, "evaluate_every must be a finite number above 0; got 0.0"),
    ({"metric": "ndcg@10"}, "--metric needs something to --evaluate on"),
    ({"save_best": True}, "--save-best needs something to --evaluate on"),
    ({"steps": 2, "epochs": 1}, "give either --steps or --epochs"),
    ({"loss_weights": (0.0,)}, "all --loss-weights are 0"),
    ({"buckets": ()}, "--buckets names no length"),
    ({"early_stopping": 2}, "--early-stopping needs something to --evaluate on"),
    ({"average_last": 2, "save_best": True}, "give either --save-best or --average-last"),
    ({"log_to": ("trackio",)}, "the logger trackio needs the package trackio: pip install"),
    ({"push_to_hub": "a/b/c"}, "--push-to-hub Repo id must be"),
    ({"prompts": ("query: ",)}, "--prompts 'query: ' names no role"),
    ({"prompts": ("answers=a: ",)}, "there is no text answers to put a prompt before; there are"),
    ({"data": ("a.csv", "b.csv"), "data_weights": (1.0,)}, "got 1 weights for a.csv, b.csv"),
    ({"data": ("wordnet-gloss",), "data_weights": (0.0,)}, "weight of 'wordnet-gloss' must be pos"),
    ({"data": ("no/*.parquet",), "stream": True}, "no/*.parquet"),
    ({"data": (str(TRAIN_FILE),), "stream": True, "epochs": 1}, "no known length"),
    ({"batch_plan": "clusters"}, "the plan clusters needs their numbers; name a cluster_column"),
    ({"token_cache": Path("/no/tokens")}, "/no/tokens holds no tokens of this model"),
    ({"cluster_column": "pos"}, "a column of int is needed for 'clusters'"),
    ({"resume": Path("/no/run")}, "/no/run holds no run"),
    ({"resume": Path("/no/run"), "batch_size": 7}, "leave --batch_size away"),
    ({"resume": Path("/no/run"), "steps": 7}, "/no/run holds no run"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_input_is_refused_before_anything_is_written(train, tmp_path, flags, message):
    data = {"data": ("wordnet-gloss",), "evaluate": ("none",), "output": tmp_path / "run"}
    if "resume" in flags:
        data = {}
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        train(**{**data, **flags})
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_overwrite_deletes_a_run_and_nothing_else(train, tmp_path, monkeypatch):
    def refused(message, **flags):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match=message):
            train(overwrite=True, evaluate=("none",), **{"data": (str(TRAIN_FILE),), **flags})
        assert sorted(tmp_path.rglob("*")) == before

    project, old = tmp_path / "project", tmp_path / "old"
    for folder in (project, old / "model"):
        folder.mkdir(parents=True)
    (project / "config.json").write_text('{"model_type": "bert"}')
    refused("project holds no run, so --overwrite does not delete it", output=project)
    refused("config.json is a file; choose another --output", output=project / "config.json")
    flags = {"loss": ["cosent"], "steps": 1, "data": []}
    (old / "config.json").write_text(json.dumps(flags))
    (old / "rows.jsonl").write_text('{"query": "a", "positive": "b"}')
    refused("would delete --model, .*old/model, with", output=old, model=str(old / "model"))
    refused("would delete --data, .*rows.jsonl", output=old, data=(str(old / "rows.jsonl"),))
    monkeypatch.chdir(old / "model")
    refused("would delete the folder you are in", output=old)


def test_a_text_that_is_no_string_is_named_by_its_row(train, tmp_path):
    file = tmp_path / "mixed.jsonl"
    file.write_text('{"query": "a", "positive": "b"}\n{"query": 5, "positive": "c"}\n')
    with pytest.raises(ValueError, match=r"query.*row 1"):
        train(data=(str(file),), output=tmp_path / "run", evaluate=("none",))
    assert not (tmp_path / "run").exists()


def test_an_empty_data_set(train, tmp_path):
    file = tmp_path / "empty.parquet"
    none = pyarrow.array([], pyarrow.string())
    parquet.write_table(pyarrow.table({"query": none, "positive": none}), file)
    with pytest.raises(ValueError, match=r"no rows|empty"):
        train(data=(str(file),), output=tmp_path / "run", evaluate=("none",))


def test_wrong_input_gives_one_line_and_status_2(data, undisturbed):
    output, _ = undisturbed
    before = sorted(output.rglob("*"))
    result = run(command(data, output))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line == (
        f"error: {output} already holds a run; go on with --resume {output}, start anew with"
        " --overwrite, or choose another --output"
    )
    assert sorted(output.rglob("*")) == before


def test_a_checkpoint_of_other_settings_is_refused(data, undisturbed, tmp_path):
    import shutil

    output = tmp_path / "edited"
    shutil.copytree(undisturbed[0], output)
    config = json.loads((output / "config.json").read_text())
    (output / "config.json").write_text(json.dumps({**config, "batch_size": 16}))
    result = run([sys.executable, str(ROOT / "scripts/train.py"), "--resume", str(output)])
    assert result.returncode == 2
    assert "has batch_size 8, this run 16" in result.stderr
