"""The values of objectives, from embeddings computed apart and sums written plainly."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxembed
from jaxembed.objectives import REGISTRY, WeightedSum, as_sum, named
from jaxembed.objectives.distillation import distill_embeddings
from tests.objectives.every import FLAGS, GUIDE, TEACHER


def value_of(tasks, batch=None, params=None, key=None):
    """The loss of the first batch, as the objective computes it."""
    params = tasks.init(jax.random.key(0)) if params is None else params
    objective = tasks.build()
    loss, (metrics, _) = objective(
        params,
        tasks(0) if batch is None else batch,
        key=jax.random.key(0) if key is None else key,
        frozen=tasks.networks.frozen_params,
    )
    return float(loss), metrics


def embed(network, tokens):
    return np.asarray(network.apply(network.params, tokens), np.float64)


def log_softmax(x):
    return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))


def cosine(x, y):
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    return x @ y.T


def test_softmax_is_the_cross_entropy_of_the_classifier(open_tasks):
    tasks = open_tasks("--loss", "softmax", "--columns", "query", "positive", "label")
    params, batch = tasks.init(jax.random.key(0)), tasks(0)
    own = jax.tree.map(np.float64, params["loss"]["softmax"])
    left, right = (embed(tasks.networks.encoder, batch[role]) for role in ("left", "right"))
    logits = np.concatenate([left, right, abs(left - right)], 1) @ own["kernel"] + own["bias"]
    expected = -np.mean(log_softmax(logits)[np.arange(8), batch["labels"]])
    loss, metrics = value_of(tasks)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(logits.argmax(1) == batch["labels"]))
    assert tasks.single.objective.objectives[0].settings["num_labels"] == 4  # from the data


def test_tension_compares_two_encoders_on_pairs_labelled_by_their_texts(open_tasks):
    tasks = open_tasks("--loss", "contrastive_tension", *FLAGS["contrastive_tension"])
    params, batch = tasks.init(jax.random.key(0)), tasks(0)
    own = params["loss"]["contrastive_tension"]
    own["encoder"] = jax.tree.map(lambda x: 1.1 * x, own["encoder"])
    encoder = tasks.networks.encoder
    first = embed(dataclasses.replace(encoder, params=own["encoder"]), batch["first"])
    second = embed(encoder, batch["second"])
    same = np.array([1, 0, 0, 0, 1, 0, 0, 0])  # every fourth pair is a text with itself
    assert np.array_equal((batch["ids"] == batch["anchor_ids"]).all(1), same)
    x = np.sum(first * second, axis=1)
    expected = np.sum(np.logaddexp(0, x) - same * x)
    np.testing.assert_allclose(value_of(tasks, params=params)[0], expected, rtol=1e-4)


def test_the_scale_of_tension_in_batch_is_the_exponential_of_its_parameter(open_tasks):
    name = "contrastive_tension_in_batch_negatives"
    tasks = open_tasks("--loss", name, "--columns", "query", "--scale", "5")
    params, batch = tasks.init(jax.random.key(0)), tasks(0)
    np.testing.assert_allclose(np.exp(params["loss"][name]["logit_scale"]), 5, rtol=1e-6)
    params["loss"][name]["logit_scale"] = jnp.log(7.0)
    x = embed(tasks.networks.encoder, batch["first"])
    both = log_softmax(7 * cosine(x, x))
    np.testing.assert_allclose(
        value_of(tasks, params=params)[0], -np.mean(np.diag(both)), rtol=1e-4
    )


def test_a_live_guide_is_its_stored_embeddings(open_tasks):
    tasks = open_tasks("--loss", "gist_embed", *GUIDE, "--hard-negatives")
    batch, guide = tasks(0), tasks.networks.guide
    stored = dict(batch)
    for role in ("anchors", "positives"):
        stored[f"guide_{role}"] = jnp.asarray(embed(guide, batch[f"guide_{role}"]), jnp.float32)
    n, k, t = batch["guide_negatives"]["input_ids"].shape
    flat = {name: x.reshape(n * k, t) for name, x in batch["guide_negatives"].items()}
    of_negatives = jnp.asarray(embed(guide, flat), jnp.float32)
    stored["guide_negatives"] = of_negatives.reshape(n, k, -1)
    np.testing.assert_allclose(value_of(tasks, stored)[0], value_of(tasks)[0], rtol=1e-5)
    other = {**stored, "guide_anchors": stored["guide_anchors"][::-1]}
    assert abs(value_of(tasks, other)[0] - value_of(tasks)[0]) > 1e-3


def test_tokens_of_the_student_are_not_taken_for_the_guides(open_tasks):
    tasks = open_tasks("--loss", "gist_embed", *GUIDE)
    batch = {name: x for name, x in tasks(0).items() if not name.startswith("guide")}
    with pytest.raises(ValueError, match=r"the batch has no guide_anchors: give the guide's"):
        value_of(tasks, batch)


def test_what_a_guide_reads_is_packed_by_itself(open_tasks):
    tasks = open_tasks("--loss", "gist_embed", *GUIDE)
    batch = {**tasks(0), "guide_anchors": {"places": np.arange(8)}}
    with pytest.raises(ValueError, match="a guide reads texts that are packed by themselves"):
        value_of(tasks, batch)


def test_kl_on_pairs_alone_takes_all_positives_for_candidates(open_tasks):
    flags = ("--loss", "distill_kl_div", *TEACHER, "--student-temperature", "2")
    tasks = open_tasks(*flags, "--columns", "query", "positive")
    batch = dict(tasks(0))
    batch["where"] = np.arange(8) < 6
    student, teacher = (
        [embed(network, batch[prefix + role])[:6] for role in ("queries", "positives")]
        for network, prefix in ((tasks.networks.encoder, ""), (tasks.networks.teacher, "teacher_"))
    )
    of_student, of_teacher = student[0] @ student[1].T, teacher[0] @ teacher[1].T
    target = log_softmax(of_teacher)
    rows = np.sum(np.exp(target) * (target - log_softmax(of_student / 2)), axis=1)
    np.testing.assert_allclose(value_of(tasks, batch)[0], 4 * np.mean(rows), rtol=1e-4)


@pytest.mark.parametrize("name", ["margin_mse", "distill_kl_div"])
def test_a_live_teacher_is_its_stored_scores(open_tasks, name):
    tasks = open_tasks("--loss", name, *TEACHER, "--hard-negatives")
    batch, teacher = tasks(0), tasks.networks.teacher
    queries, positives = (embed(teacher, batch[f"teacher_{r}"]) for r in ("queries", "positives"))
    negatives = embed(teacher, {k: x[:, 0] for k, x in batch["teacher_negatives"].items()})
    scores = np.stack([np.sum(queries * x, axis=1) for x in (positives, negatives)], axis=1)
    stored = {key: x for key, x in batch.items() if not key.startswith("teacher")}
    stored["scores"] = np.float32(scores)
    np.testing.assert_allclose(value_of(tasks, stored)[0], value_of(tasks)[0], rtol=1e-4)


def test_margins_may_be_one_column_of_numbers(open_tasks):
    tasks = open_tasks("--loss", "margin_mse", "--columns", "query", "positive",
                       "negatives=negative", "margins=margin")  # fmt: skip
    batch = tasks(0)
    assert batch["margins"].shape == (8,)
    q, p = (embed(tasks.networks.encoder, batch[role]) for role in ("queries", "positives"))
    tokens = {key: x[:, 0] for key, x in batch["negatives"].items()}
    n = embed(tasks.networks.encoder, tokens)
    errors = np.sum(q * p, axis=1) - np.sum(q * n, axis=1) - batch["margins"]
    np.testing.assert_allclose(value_of(tasks)[0], np.mean(errors**2), rtol=1e-4)


@pytest.mark.parametrize("name", ["mse", "embed_distill"])
def test_every_text_of_a_row_learns_the_teachers_embedding_of_the_first(open_tasks, name):
    flags = (*TEACHER, "--columns", "query", "positive", "--projection-dim", "24")
    tasks = open_tasks("--loss", name, *flags)
    params, batch = tasks.init(jax.random.key(0)), tasks(0)
    own = jax.tree.map(np.float64, params["loss"][name])
    target = embed(tasks.networks.teacher, batch["teacher_texts"])
    errors = []
    for role in ("texts", "texts_2"):
        x = embed(tasks.networks.encoder, batch[role]) @ own["kernel"] + own["bias"]
        cosines = np.diag(cosine(x, target))
        errors.append(np.mean((x - target) ** 2) if name == "mse" else np.mean(1 - cosines))
    np.testing.assert_allclose(value_of(tasks)[0], np.mean(errors), rtol=1e-4)


def test_a_stored_teacher_may_have_an_embedding_for_each_text():
    rng = np.random.default_rng(0)
    columns = [jnp.asarray(rng.normal(size=(5, 3))) for _ in range(2)]
    teacher = jnp.asarray(rng.normal(size=(5, 2, 3)))
    errors = [1 - np.diag(cosine(np.asarray(x), teacher[:, i])) for i, x in enumerate(columns)]
    loss = distill_embeddings(*columns, teacher=teacher)
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-5)
    with pytest.raises(ValueError, match="embeddings of 2 texts in a row, the student encodes 1"):
        distill_embeddings(columns[0], teacher=teacher)


def test_denoising_is_the_cross_entropy_of_every_token_of_the_clean_text(open_tasks):
    tasks = open_tasks("--loss", "denoising_auto_encoder", "--columns", "positive")
    params, batch = tasks.init(jax.random.key(0)), dict(tasks(0))
    batch["where"] = np.arange(8) < 5
    clean, damaged = batch["original"], batch["damaged"]
    assert damaged["attention_mask"].sum() < clean["attention_mask"].sum()
    decoder = tasks.networks.decoder
    vectors = tasks.networks.encoder.apply(params["encoder"], damaged)
    own = params["loss"]["denoising_auto_encoder"]
    ids = clean["input_ids"]
    logits = decoder.apply(decoder.merged(own, params["encoder"]), ids[:, :-1], vectors)
    costs = [
        -log_softmax(np.float64(logits[i, t]))[ids[i, t + 1]]
        for i in range(5)
        for t in range(ids.shape[1] - 1)
        if ids[i, t + 1] != decoder.pad_id
    ]
    np.testing.assert_allclose(value_of(tasks, batch)[0], np.mean(costs), rtol=1e-4)


def test_noise_differs_from_step_to_step_and_not_from_run_to_run(open_tasks):
    flags = ("--loss", "denoising_auto_encoder", "--columns", "positive", "--batch-size", "16")
    one, again = open_tasks(*flags), open_tasks(*flags)
    jax.tree.map(np.testing.assert_array_equal, one(0), again(0))
    lengths = [sorted(one(step)["damaged"]["attention_mask"].sum(1)) for step in (0, 1)]
    assert lengths[0] != lengths[1]


def test_a_sum_is_the_sum_and_its_terms_read_the_same_embeddings(open_tasks):
    names = ("multiple_negatives_ranking", "global_orthogonal_regularization")
    both = open_tasks("--loss", *names, "--loss-weights", "1", "0.25", "--hard-negatives")
    batch = both(0)
    first, metrics = value_of(open_tasks("--loss", names[0], "--hard-negatives"), batch)
    np.testing.assert_allclose(metrics["in_batch_accuracy"], value_of(both)[1]["in_batch_accuracy"])
    parts = []
    encoder = both.networks.encoder
    columns = [embed(encoder, batch[role]) for role in ("anchors", "positives")]
    columns.append(embed(encoder, {key: x[:, 0] for key, x in batch["negatives"].items()}))
    for x in columns:
        s = cosine(x, x)[~np.eye(8, dtype=bool)]
        parts.append(np.mean(s) ** 2 + max(np.mean(s**2) - 1 / 32, 0))
    np.testing.assert_allclose(value_of(both)[0], first + 0.25 * np.mean(parts), rtol=1e-4)


def test_wrappers_take_the_last_layer_and_all_of_them(open_tasks):
    flags = ("--columns", "query", "positive", "score")
    plain = open_tasks("--loss", "cosent", *flags)
    layers = open_tasks("--loss", "adaptive_layer", "--inner-loss", "cosent", *flags,
                        "--n-layers-per-step", "-1", "--prior-layers-weight", "0",
                        "--kl-div-weight", "0", "--last-layer-weight", "2")  # fmt: skip
    np.testing.assert_allclose(value_of(layers)[0], 2 * value_of(plain)[0], rtol=1e-5)
    dims = open_tasks("--loss", "matryoshka", "--inner-loss", "cosent", *flags,
                      "--matryoshka-dims", "32", "--matryoshka-weights", "3")  # fmt: skip
    np.testing.assert_allclose(value_of(dims)[0], 3 * value_of(plain)[0], rtol=1e-5)


def test_settings_and_names_that_do_not_go_together_are_refused():
    for make, message in (
        (lambda: named("triplets"), "unknown loss 'triplets'; choose one of"),
        (lambda: named("triplet", scale=1), "triplet takes no scale; its settings are margin"),
        (lambda: named("matryoshka", inner_loss="tripled"), "unknown inner_loss 'tripled'"),
        (lambda: named("triplet", inner_loss="cosent"), "triplet does not wrap cosent"),
        (lambda: as_sum(["cosent", "cosent"]), "a sum takes each loss once"),
        (lambda: as_sum(["cosent", "angle"], [1.0]), "2 losses and 1 weights"),
        (lambda: WeightedSum((), ()), "a sum needs one weight for each"),
        (
            lambda: as_sum(["multiple_negatives_ranking", "contrastive_tension"]),
            "contrastive_tension cannot be added to multiple_negatives_ranking",
        ),
    ):
        with pytest.raises(ValueError) as refusal:  # noqa: PT011
            make()
        assert message in str(refusal.value)


def test_settings_are_values_and_published_names_are_ours():
    objective = named("triplet", distance_metric="MANHATTAN", triplet_margin=0.5)
    assert objective.settings["margin"] == 0.5
    assert objective.settings == {**REGISTRY["triplet"].settings, **objective.chosen}
    assert REGISTRY["triplet"].settings["margin"] == 5.0


def test_fit_refuses_what_does_not_go_together(student):
    encoder = jaxembed.load(student)
    rows = [{"anchor": "a cat", "positive": "a feline"}] * 2
    wrong: list[tuple[Any, Any, dict[str, Any], str]] = [
        ({"a": "cosent"}, rows, {}, "needs a dict of data sets of the same names, ['a']"),
        ({"a": "cosent"}, {"b": rows}, {}, "['a']; got ['b']"),
        ("multiple_negatives_ranking", rows, {"batch_size": 3}, "no multiple of 2 devices"),
        ("multiple_negatives_ranking", rows, {"batch_plan": "best"}, "batch_plan must be one of"),
    ]
    for loss, data, options, message in wrong:
        with pytest.raises(ValueError) as refusal:  # noqa: PT011
            jaxembed.fit(encoder, loss, data, **options)
        assert message in str(refusal.value)


def test_fit_reports_every_step_and_leaves_the_encoder_as_it_was(student):
    encoder = jaxembed.load(student, dropout=False)
    before = jax.device_get(encoder.params)
    rows = [{"anchor": f"a cat {i}", "positive": f"a feline {i}"} for i in range(8)]
    found = {}
    trained = jaxembed.fit(
        encoder,
        "multiple_negatives_ranking",
        rows,
        batch_size=4,
        epochs=2,
        learning_rate=1e-3,
        on_step=lambda step, metrics: found.update({step: metrics["loss"]}),
    )
    assert list(found) == [1, 2, 3, 4]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(encoder.params), before)
    assert np.abs(trained.encode("a cat") - encoder.encode("a cat")).max() > 1e-4
