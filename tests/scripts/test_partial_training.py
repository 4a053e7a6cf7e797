"""Training a part of a model by flags: frozen parameters, rates by layer, low-rank adapters."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tyro
from orbax import checkpoint as ocp
from safetensors.numpy import load_file

import jaxembed
from jaxembed.data import open_dataset
from jaxembed.evaluators import SimilarityEvaluator
from tests.objectives.every import FLAGS, GUIDE, TINY, write_data, write_student

ROOT = Path(__file__).parents[2]
PAIRS = ("--columns", "query", "positive")
NEW = ("freeze", "layer_decay", "lora_rank", "lora_alpha", "lora_targets")
LORA = ("--lora-rank", "2", "--lora-targets", "query", "2_Dense")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "rows.jsonl")


@pytest.fixture
def train(data, tmp_path, monkeypatch):
    """`train("--freeze", "*/bias")`: a short run of the script in this process; its folder."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from config import Config
    from train import main

    def run(*flags):
        usual = ["--model", str(TINY), "--data", str(data), "--output", str(tmp_path / "run")]
        usual += ["--steps", "3", "--batch-size", "8", "--evaluate", "none", "--cache", "None"]
        usual += ["--learning-rate", "1e-2", "--no-dropout", "--warmup-share", "0"]
        usual += ["--buckets", "64", "--no-split-lengths", "--checkpoint-every", "1"]
        usual += ["--encoder-source", "jaxembed"]
        config = tyro.cli(Config, args=[*([] if "--resume" in flags else usual), *flags])
        assert main(config) == 0
        return config.resume or config.output

    return run


def weights(model):
    """All tensors of a model's folder."""
    files = sorted(model.rglob("*.safetensors"))
    return {
        f"{file.parent.name}/{name}" if file.parent != model else name: tensor
        for file in files
        for name, tensor in load_file(file).items()
    }


def moved(folder):
    """How far the numbers of each tensor have gone in training, at most."""
    before, after = weights(TINY), weights(folder / "model")
    assert after.keys() == before.keys()
    return {name: float(np.abs(after[name] - before[name]).max()) for name in before}


def saved_params(folder, step):
    """The parameters of a checkpoint."""
    path = (folder / f"checkpoints/{step}/state").resolve()
    return ocp.StandardCheckpointer().restore(path)["params"]


def killed_in_the_last_step(folder):
    """Returns a copy of a run's folder as it was then."""
    copy = folder.with_name("killed")
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("model"))
    shutil.rmtree(copy / "checkpoints/3")
    return copy


def assert_same_model(left, right):
    jax.tree.map(np.testing.assert_array_equal, weights(left / "model"), weights(right / "model"))


def test_frozen_parts_stay_to_the_bit_and_others_move(train):
    freeze = ("--freeze", "encoder/transformer/embeddings", "*[:1]", "encoder/2_Dense/bias")
    folder = train(*PAIRS, *freeze)
    far = moved(folder)
    frozen = {
        name for name in far
        if name.startswith(("embeddings.", "encoder.layer.0.")) or name == "2_Dense/linear.bias"
    }  # fmt: skip
    assert len(frozen) == 5 + 16 + 1
    assert {name for name in far if far[name] == 0 and "pooler" not in name} == frozen
    card = (folder / "model/README.md").read_text()
    assert "| freeze | encoder/transformer/embeddings, *[:1], encoder/2_Dense/bias |" in card


def test_layers_further_down_learn_more_slowly(train):
    flags = ("--layer-decay", "0.5", "--learning-rate", "1e-2", "--weight-decay", "0")
    far = moved(train(*PAIRS, *flags, "--steps", "1"))
    for name, share in {  # the first step of Adam is as long as the learning rate
        "embeddings.word_embeddings.weight": 0.25,
        "encoder.layer.0.output.dense.weight": 0.5,
        "encoder.layer.1.output.dense.weight": 1.0,
        "2_Dense/linear.weight": 1.0,
    }.items():
        np.testing.assert_allclose(far[name], share * 1e-2, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize(
    "source",
    [pytest.param("transformers", marks=pytest.mark.flax_transformers), "jaxembed"],
)
def test_adapters_move_only_their_layers_and_are_evaluated_and_saved_merged(train, data, source):
    evaluation = ("--evaluate", str(data), "--evaluate-columns", "query", "positive", "score")
    folder = train(*PAIRS, *LORA, *evaluation, "--encoder-source", source, "--save-best")
    far = moved(folder)
    queries = {f"encoder.layer.{l}.attention.self.query.weight" for l in range(2)}
    assert {name for name in far if far[name] > 0} == {*queries, "2_Dense/linear.weight"}
    adapters = saved_params(folder, 3)["encoder"]
    assert sum(x.size for x in jax.tree.leaves(adapters)) == 2 * (2 * (32 + 32) + (64 + 24))
    pair = adapters["2_Dense"]["kernel"]
    before, after = (weights(model)["2_Dense/linear.weight"] for model in (TINY, folder / "model"))
    np.testing.assert_allclose(after - before, 16 / 2 * (pair["a"] @ pair["b"]).T, atol=1e-6)
    trained = jaxembed.load(folder / "model")
    rows = open_dataset(data)
    evaluator = SimilarityEvaluator(rows["query"], rows["positive"], rows["score"])
    values = evaluator.evaluate(lambda texts, role: trained.encode(texts))
    (before, after) = json.loads((folder / "results.json").read_text()).values()
    for name, value in values.items():
        np.testing.assert_allclose(after[name], value, atol=1e-4)
    assert before != after


@pytest.mark.parametrize("loss", ["softmax", "denoising_auto_encoder"])
def test_what_a_loss_owns_learns_beside_adapters(train, tmp_path, loss):
    student = write_student(tmp_path / "student")
    flags = ("--model", str(student), "--loss", loss, *FLAGS[loss], *LORA[:2])
    folder = train(*flags, "--keep", "3")
    first, last = (saved_params(folder, step) for step in (1, 3))
    assert first.keys() == {"encoder", "loss"}
    changed = jax.tree.leaves(jax.tree.map(lambda a, b: np.any(a != b), first, last))
    assert np.mean(changed) > 0.9


@pytest.mark.parametrize(
    "flags",
    [
        (*PAIRS, "--freeze", "*[:1]", "--layer-decay", "0.5"),
        (*PAIRS, *LORA, "--layer-decay", "0.5", "--loss", "gist_embed", *GUIDE, "--dropout"),
    ],
    ids=["freeze", "adapters and a guide"],
)
def test_resumed_is_undisturbed_to_the_bit(train, flags):
    whole = train(*flags)
    killed = killed_in_the_last_step(whole)
    train("--resume", str(killed))
    assert_same_model(killed, whole)


def test_a_run_from_before_these_flags_goes_on(train):
    whole = train(*PAIRS)
    killed = killed_in_the_last_step(whole)
    files = [killed / "config.json", *killed.glob("checkpoints/*/identity/metadata")]
    assert len(files) == 2
    for file in files:
        flags = json.loads(file.read_text())
        file.write_text(json.dumps({name: flags[name] for name in flags.keys() - set(NEW)}))
        assert flags.keys() > set(NEW)
    train("--resume", str(killed))
    assert_same_model(killed, whole)
    train("--resume", str(killed))  # from the checkpoint that the continuation wrote


def test_a_checkpoint_of_other_parameters_is_refused(train):
    folder = train(*PAIRS, "--freeze", "*/bias", "--steps", "1")
    file = folder / "config.json"
    flags = json.loads(file.read_text())
    without = {name: value for name, value in flags.items() if name != "freeze"}
    for edited, ours in (({**flags, "freeze": []}, "[]"), (without, "None")):
        file.write_text(json.dumps(edited))
        with pytest.raises(ValueError) as refusal:  # noqa: PT011
            train("--resume", str(folder))
        assert f"has freeze ['*/bias'], this run {ours}; give the same" in str(refusal.value)


WRONG = [
    (("--freeze", "encoder/transformer/embedings"),
     "freeze: 'encoder/transformer/embedings' matches no parameter; near it are encoder/transf"),
    (("--freeze", "*[2:]"), "freeze: '*[2:]' matches no parameter"),
    (("--freeze", "encoder"), "freeze: ['encoder'] leave no parameter that learns"),
    (("--freeze", "encoder/transformer/embeddings", "--lora-rank", "2"), "near it are encoder/tr"),
    (("--layer-decay", "0"), "a finite number above 0 and at most 1; got 0.0"),
    (("--layer-decay", "1.5"), "a finite number above 0 and at most 1; got 1.5"),
    (("--layer-decay", "nan"), "a finite number above 0 and at most 1; got NaN"),
    (("--layer-decay", "0.5", "--lora-rank", "2", "--lora-targets", "2_Dense"), "no layers under"),
    (("--lora-rank", "0"), "lora_rank must be a whole number at least 1; got 0"),
    (("--lora-rank", "2", "--lora-alpha", "0"), "lora_alpha must be a finite number above 0"),
    (("--lora-alpha", "8"), "lora_alpha is of adapters; give --lora-rank too, such as 8"),
    (("--lora-targets", "key"), "lora_targets is of adapters; give --lora-rank too"),
    (("--lora-rank", "2", "--lora-targets"), "LoRA needs targets, such as query, value; got none"),
    (("--lora-rank", "2", "--lora-targets", "query", "q_proj"),
     "LoRA target 'q_proj' is the end of no linear layer; there are 2_Dense, down, key, out, "),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_flags_are_refused_before_anything_is_written(train, tmp_path, flags, message):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        train(*PAIRS, *flags)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())
