"""Every objective by its flags: trained, saved, loaded again; and refused with the wrong data."""

import dataclasses
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax import checkpoint as ocp

import jaxembed
from jaxembed.objectives import ALIASES, REGISTRY
from tests.objectives.every import FLAGS, GUIDE, TEACHER, TINY

ROOT = Path(__file__).parents[2]


def records(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "train"]


def saved_params(folder):
    """The parameters of the last checkpoint."""
    last = max(int(entry.name) for entry in (folder / "checkpoints").iterdir())
    path = (folder / "checkpoints" / str(last) / "state").resolve()
    return ocp.StandardCheckpointer().restore(path)["params"]


def test_every_objective_is_here():
    assert FLAGS.keys() == REGISTRY.keys()


@pytest.mark.parametrize("name", REGISTRY)
def test_it_trains_three_steps_and_the_model_encodes(train, student, name):
    folder = train("--loss", name, *FLAGS[name])
    steps = records(folder)
    assert [record["step"] for record in steps] == [1, 2, 3]
    assert all(np.isfinite(record["loss"]) for record in steps)
    assert steps[0]["grad_norm"] > 0
    trained, before = jaxembed.load(folder / "model"), jaxembed.load(student)
    embeddings = trained.encode(["a bank", "a river"])
    assert embeddings.shape == (2, 32)
    if "--pooling-strategy" not in FLAGS[name]:
        assert np.abs(embeddings - before.encode(["a bank", "a river"])).max() > 1e-5
    assert f"| loss | {name} |" in (folder / "model/README.md").read_text()


@pytest.mark.parametrize(
    "name", ["softmax", "denoising_auto_encoder", "matryoshka_2d", "gist_embed"]
)
def test_our_own_transformers_train_too(train, student, name):
    flags = ("--encoder-source", "jaxembed", "--remat", "full", "--dropout")
    folder = train("--loss", name, *FLAGS[name], *flags)
    assert all(np.isfinite(record["loss"]) for record in records(folder))
    assert "layers" in saved_params(folder)["encoder"]["transformer"]  # stacked
    trained = jaxembed.load(folder / "model")
    again = jaxembed.load(folder / "model", source="jaxembed")
    embeddings = trained.encode(["a bank", "a river"])
    np.testing.assert_allclose(again.encode(["a bank", "a river"]), embeddings, atol=1e-5)
    assert np.abs(embeddings - jaxembed.load(student).encode(["a bank", "a river"])).max() > 1e-5


def test_own_parameters_are_saved_and_resumed_exactly(train, tmp_path):
    whole = train("--loss", "softmax", *FLAGS["softmax"], "--output", str(tmp_path / "whole"))
    part = train("--loss", "softmax", *FLAGS["softmax"], "--checkpoint-every", "2",
                 "--output", str(tmp_path / "part"))  # fmt: skip
    kernel = saved_params(whole)["loss"]["softmax"]["kernel"]
    assert kernel.shape == (4 * 32, 4)
    checkpoints = ocp.CheckpointManager((part / "checkpoints").resolve())
    checkpoints.delete(3)  # as if it had been killed in step 3
    checkpoints.close()
    train("--resume", str(part))
    jax.tree.map(np.testing.assert_array_equal, saved_params(part), saved_params(whole))


def test_a_sum_of_losses_encodes_once_and_reports_each(train):
    folder = train("--loss", "multiple_negatives_ranking", "global_orthogonal_regularization",
                   "--loss-weights", "1", "0.5", "--similarity-fct", "cos_sim",
                   "--columns", "query", "positive")  # fmt: skip
    (first, *_) = records(folder)
    parts = [first[f"loss/{name}"] for name in
             ("multiple_negatives_ranking", "global_orthogonal_regularization")]  # fmt: skip
    np.testing.assert_allclose(first["loss"], parts[0] + 0.5 * parts[1], rtol=1e-6)
    name = "multiple_negatives_ranking + 0.5 global_orthogonal_regularization"
    assert f"| loss | {name} |" in (folder / "model/README.md").read_text()


TASKS = """
[similarity]
data = "{data}"
columns = ["query", "positive"]
loss = "multiple_negatives_ranking"
scale = 10.0

[classification]
data = "{data}"
columns = ["query", "positive", "label"]
loss = "softmax"
num_labels = 4
batch_size = 4
"""


def test_tasks_of_a_file_take_turns_and_share_the_encoder(train, data, tmp_path):
    file = tmp_path / "tasks.toml"
    file.write_text(TASKS.format(data=data))
    folder = train("--tasks", str(file), "--mix", "round_robin", "--steps", "4")
    turns = [
        name for r in records(folder) for name in ("similarity", "classification")
        if f"{name}/loss" in r
    ]  # fmt: skip
    assert turns == ["similarity", "classification"] * 2
    assert [record["pairs_per_s"] > 0 for record in records(folder)] == [True] * 4
    assert saved_params(folder)["loss"].keys() == {"classification"}
    assert jaxembed.load(folder / "model").encode("a bank").shape == (1, 32)


def test_every_setting_of_every_objective_has_a_flag(config):
    settings = {name for objective in REGISTRY.values() for name in objective.settings}
    flags = {field.name for field in dataclasses.fields(config())}
    assert {name for name in settings if name not in flags} == {"reduce_fn"}  # size_average
    assert "size_average" in flags


@pytest.fixture(scope="module")
def help_text():
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


PUBLISHED = """loss-fct cos-score-transformation scale similarity-fct distance-metric triplet-margin
matryoshka-dims matryoshka-weights n-layers-per-step margin size-average num-labels
sentence-embedding-dimension concatenation-sent-rep concatenation-sent-difference
concatenation-sent-multiplication distance-function angle-w angle-tau cosine-w cosine-tau ibn-w
pooling-strategy guide mini-batch-size decoder-name-or-path tie-encoder-decoder teacher-model
batch-size pos-neg-ratio inner-loss"""


@pytest.mark.parametrize("flag", PUBLISHED.split())
def test_flags_have_their_published_names(help_text, flag):
    assert re.search(rf"--(no-)?{flag}\b", help_text)


def test_published_aliases_are_settings_of_ours():
    settings = {name for objective in REGISTRY.values() for name in objective.settings}
    assert set(ALIASES.values()) - settings == {"inner_loss"}


@pytest.mark.parametrize(
    ("name", "setting", "value", "function"),
    [
        ("triplet", "distance_metric", "COSINE", "paired_cosine_distance"),
        ("triplet", "distance_metric", "EUCLIDEAN", "paired_euclidean_distance"),
        ("triplet", "distance_metric", "MANHATTAN", "paired_manhattan_distance"),
        ("triplet", "distance_metric", "DOT_PRODUCT", "paired_dot_distance"),
        ("contrastive", "distance_metric", "COSINE_DISTANCE", "paired_cosine_distance"),
        ("contrastive", "distance_metric", "EUCLIDEAN", "paired_euclidean_distance"),
        ("contrastive", "distance_metric", "MANHATTAN", "paired_manhattan_distance"),
        ("online_contrastive", "size_average", True, "mean"),
        ("contrastive", "size_average", False, "total"),
        ("batch_hard_triplet", "distance_function", "cosine_distance", "cosine_distance"),
        ("batch_all_triplet", "distance_function", "euclidean_distance", "euclidean_distance"),
        ("cosine_similarity", "loss_fct", "MSELoss", "squared_error"),
        ("cosine_similarity", "cos_score_transformation", "Sigmoid", "logistic"),
        ("cosine_similarity", "cos_score_transformation", "Identity", "identity"),
        ("cosent", "similarity_fct", "cos_sim", "paired_cosine"),
        ("multiple_negatives_ranking", "similarity_fct", "cos_sim", "cosine"),
        ("mega_batch_margin", "similarity_fct", "dot_score", "dot"),
    ],
)
def test_published_values_of_enumerations(name, setting, value, function):
    objective = REGISTRY[name].with_settings(**{setting: value})
    chosen = objective.chosen[ALIASES[setting]]
    chosen = inspect.unwrap(getattr(chosen, "func", chosen))
    assert function in (chosen.__name__, {"sigmoid": "logistic"}.get(chosen.__name__))


WRONG = [
    ("softmax", ("--columns", "query", "positive", "score"),
     "a column of int is needed for 'labels'; column 'score' is none"),
    ("batch_hard_triplet", ("--columns", "query", "score"), "column 'score' is none"),
    ("triplet", ("--columns", "query", "positive", "negatives=label"), "must hold texts"),
    ("triplet", ("--data", "{pairs}"), "no negatives to use: the columns are query, positive"),
    ("softmax", ("--columns", "query", "positive", "label", "--num-labels", "3"),
     "num_labels 3 needs labels from 0 to 2; row 3 has 3"),
    ("batch_all_triplet", ("--columns", "query", "number", "--data", "{pairs}"),
     "two labels must have 2 rows or more"),
    ("mse", TEACHER, "the teacher's embeddings have 24 features, the student's 32"),
    ("mse", ("--columns", "query"), "mse needs a teacher: a model, or what one said before"),
    ("embed_distill", (*TEACHER, "--projection-dim", "30"), "24 features, the student's 30"),
    ("gist_embed", ("--columns", "query", "positive"), "gist_embed needs a guide: a model, or"),
    ("gist_embed", ("--columns", "anchors=vector", "positive", *GUIDE),
     "column 'vector' must hold texts for 'anchors'"),
    ("gist_embed", ("--columns", "query", "positive", "guide_anchors=vector"),
     "the batch has no guide_positives"),
    ("distill_kl_div", ("--columns", "query", "positive", "scores=scores_of_two"),
     "distill_kl_div on pairs alone needs a teacher"),
    ("margin_mse", ("--columns", "query", "positive", "negatives=negative", "scores=vector"),
     "scores must have the shape (8, 2); got (8, 32)"),
    ("margin_mse", (), "give exactly one of margins, scores"),
    ("cosine_similarity", ("--columns", "query", "positive", "label"),
     "cosine_similarity needs scores from -1 to 1; row 2 has 2"),
    ("contrastive", ("--columns", "query", "positive", "label"), "needs labels from 0 to 1"),
    ("matryoshka", (), "matryoshka needs matryoshka_dims"),
    ("matryoshka", ("--matryoshka-dims", "64"), "must not exceed the width of the embeddings, 32"),
    ("matryoshka", ("--inner-loss", "softmax", "--matryoshka-dims", "16", "--columns", "query",
                    "positive", "label"), "works on all 32 features but not on the first 16"),
    ("matryoshka", ("--inner-loss", "adaptive_layer"), "matryoshka does not wrap adaptive_layer"),
    ("cosent", ("--inner-loss", "triplet", "--columns", "query", "positive", "score"),
     "wrap nothing"),
    ("contrastive_tension", ("--pos-neg-ratio", "3", "--columns", "query"), "pos_neg_ratio"),
    ("cosent", (*GUIDE, "--columns", "query", "positive", "score"), "uses a guide; leave --guide"),
    ("triplet", ("--distance-metric", "HAMMING"), "distance_fn must be one of cosine"),
    ("cosent", ("--margin", "0.5"), "cosent takes no margin; its settings are scale"),
    ("softmax", ("--sentence-embedding-dimension", "768", "--columns", "query", "positive",
                 "label"), "embeddings have 32 features"),
    ("denoising_auto_encoder", ("--columns", "query", "--model", str(TINY)),
     "the decoder needs vectors of 32 features; got 24"),
    ("denoising_auto_encoder", ("--columns", "query", "--decoder-name-or-path", str(TINY),
                                "--tie-encoder-decoder", "True"), "a tied decoder is the encoder"),
    ("sigmoid", ("--scale", "-1"), "scale must be a finite number above 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "flags", "message"), WRONG)
def test_wrong_data_is_refused_before_anything_is_written(
    train, config, tmp_path, name, flags, message
):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(
        json.dumps({"query": f"a {i}", "positive": f"b {i}", "number": i}) + "\n" for i in range(9)
    ))  # fmt: skip
    flags = [flag.format(pairs=pairs) for flag in flags]
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        train("--loss", name, *flags)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\nloss = 'cosent'\nmargn = 1", "[a] takes no margn; it takes"),
        ("[a]\nloss = 3", "tasks.toml: [a] loss must be a list; got int 3"),
        ("[a]\ndata = 3", "tasks.toml: [a] data must be a list; got int 3"),
        ("[a]\nbatch_size = '8'", '[a] batch_size must be a whole number at least 1; got "8"'),
        ("[a]\nweight = 'x'", '[a] weight must be a finite number at least 0; got "x"'),
        ("[a]\nwindow = 1.5", "[a] window must be a whole number at least 1; got 1.5"),
        ("[a]\nscale = nan", "[a] scale must be a finite number above 0; got NaN"),
        ("[a]\ncolumns = [1]", "[a] columns[0] must be a text; got 1"),
        ("a = 3", "a stands in no table"),
        ("\x00", "cannot be read"),
        ("loss = 'cosent'", "loss stands in no table; write [name] above it"),
        ("[a]\nloss = cosent", "cannot be read"),
        ("", "has no task"),
        ("[a]\nloss = 'cosin'", "unknown loss 'cosin'"),
    ],
)
def test_a_wrong_file_of_tasks_is_refused(train, tmp_path, text, message):
    file = tmp_path / "tasks.toml"
    file.write_text(text)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        train("--tasks", str(file))
    assert message in str(refusal.value)
    assert not (tmp_path / "run").exists()
