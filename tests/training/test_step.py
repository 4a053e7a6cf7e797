"""The compiled step: one device or two, with and without dropout, precisions, refusals."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxembed
from jaxembed.data import bind_columns, make_batch, open_dataset
from jaxembed.objectives import REGISTRY
from jaxembed.training import adamw, build_train_step, create_state, make_mesh, warmup_schedule
from jaxembed.training.compiled import program_cost
from jaxembed.training.optimizer import clip_by_global_norm, decayed
from jaxembed.training.step import updated_if
from tests.compiling import counted

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
SCHEDULE = warmup_schedule(1e-3, steps=10, warmup_steps=2)
OPTIMIZER = adamw(SCHEDULE)


@pytest.fixture(scope="module")
def encoder():
    return jaxembed.load(TINY)


@pytest.fixture(scope="module")
def batches(encoder):
    roles = REGISTRY["multiple_negatives_ranking"].roles
    data = open_dataset("wordnet-gloss").select(range(0, 640, 10))  # some rows have no negative
    rows = bind_columns(data, roles, ("query", "positive", "negatives=negative"))
    tokenizer = encoder.tokenizer.with_buckets((48,))

    def make(i):
        indices = np.r_[8 * i : 8 * i + 7, -1]
        return make_batch(rows, roles, indices, lambda texts, role: tokenizer(texts))

    return [make(i) for i in range(4)]


def run(
    encoder,
    batches,
    *,
    devices=1,
    key=None,
    loss="multiple_negatives_ranking",
    optimizer=OPTIMIZER,
    **settings,
):
    mesh = make_mesh(jax.devices()[:devices])
    state = create_state({"encoder": encoder.params}, optimizer, mesh)
    step = step_of(encoder.apply, mesh, loss, optimizer, tuple(settings.items()))
    curve = []
    for batch in batches:
        state, metrics = step(state, batch, key)
        curve.append(jax.device_get(metrics))
    return state, curve


@functools.cache  # tests of the same step compile it once
def step_of(encode, mesh, loss, optimizer, settings):
    objective = REGISTRY[loss].with_settings(**dict(settings)).build(encode)
    return build_train_step(objective, optimizer, SCHEDULE, mesh)


def losses(curve):
    return [point["loss"] for point in curve]


@pytest.mark.parametrize("key", [None, jax.random.key(3)], ids=["plain", "dropout"])
def test_two_devices_train_as_one(encoder, batches, key):
    plain = optax.sgd(SCHEDULE)  # AdamW makes steps of rounding where a gradient is 0
    one, curve_of_one = run(encoder, batches, key=key, optimizer=plain)
    two, curve_of_two = run(encoder, batches, key=key, optimizer=plain, devices=2)
    np.testing.assert_allclose(losses(curve_of_two), losses(curve_of_one), rtol=2e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one.params, two.params)


def test_the_loss_falls_on_a_batch_seen_again(encoder, batches):
    _, curve = run(encoder, [batches[0]] * 8)
    assert losses(curve)[-1] < 0.7 * losses(curve)[0]
    assert curve[0]["learning_rate"] == 0
    assert curve[0]["grad_norm"] > 0
    assert 0 <= curve[0]["in_batch_accuracy"] <= 1


def test_settings_reach_the_loss(encoder, batches):
    _, cold = run(encoder, batches[:1], scale=1.0)
    _, hot = run(encoder, batches[:1], scale=20.0)
    assert abs(losses(cold)[0] - losses(hot)[0]) > 0.1


def test_symmetric_loss_trains_too(encoder, batches):
    _, curve = run(encoder, batches, loss="multiple_negatives_symmetric_ranking")
    assert np.isfinite(losses(curve)).all()


def test_a_setting_of_another_loss_is_refused(encoder):
    with pytest.raises(
        ValueError, match="cosine_similarity takes no scale; its settings are loss_fn"
    ):
        REGISTRY["cosine_similarity"].with_settings(scale=2.0)


def test_the_key_of_a_step_comes_from_root_and_step(encoder, batches):
    key = jax.random.key(0)
    _, curve = run(encoder, [batches[0]] * 2, key=key)
    _, again = run(encoder, [batches[0]] * 2, key=key)
    _, other = run(encoder, [batches[0]] * 2, key=jax.random.key(1))
    assert losses(curve) == losses(again)
    assert losses(curve)[0] != losses(curve)[1]  # learning rate 0: only the mask differs
    assert losses(curve)[0] != losses(other)[0]


def test_the_callers_parameters_survive_donation(encoder, batches):
    before = jax.device_get(encoder.params)
    run(encoder, batches[:2])
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(encoder.params), before)


def test_matrices_decay_and_biases_and_norms_do_not(encoder):
    mask = decayed(encoder.params)
    flat = {path[-1].key: leaf for path, leaf in jax.tree_util.tree_flatten_with_path(mask)[0]}
    assert flat == {"kernel": True, "embedding": True, "bias": False, "scale": False}


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_schedules_rise_and_fall(decay):
    schedule = warmup_schedule(1.0, steps=100, warmup_steps=10, decay=decay)
    values = np.array([schedule(step) for step in range(101)])
    np.testing.assert_allclose(values[:11], np.arange(11) / 10, atol=1e-6)
    end = {"linear": 0.0, "cosine": 0.0, "constant": 1.0}[decay]
    np.testing.assert_allclose(values[100], end, atol=1e-6)
    assert np.all(np.diff(values[10:]) <= 1e-7)


def test_a_warm_up_longer_than_the_training_is_refused():
    with pytest.raises(ValueError, match=r"warmup_steps must lie in \[0, 10\); got 10"):
        warmup_schedule(1.0, steps=10, warmup_steps=10)
    with pytest.raises(ValueError, match="decay must be one of"):
        warmup_schedule(1.0, steps=10, warmup_steps=1, decay="steep")


def test_one_program_per_shape(encoder, batches):
    mesh = make_mesh(jax.devices()[:1])
    traces = []
    objective = counted(REGISTRY["multiple_negatives_ranking"].build(encoder.apply), traces)
    step = build_train_step(objective, OPTIMIZER, SCHEDULE, mesh)
    state = create_state({"encoder": encoder.params}, OPTIMIZER, mesh)
    for batch in batches:
        state, _ = step(state, batch, None)
    assert len(traces) == 1


def test_cosine_similarity_objective(encoder):
    roles = REGISTRY["cosine_similarity"].roles
    data = {"sentence1": ["a cat", "a dog"], "sentence2": ["the cat", "a car"], "score": [0.9, 0.1]}
    rows = bind_columns(open_dataset(data), roles)
    batch = make_batch(rows, roles, np.arange(2), lambda texts, role: encoder.tokenizer(texts))
    _, curve = run(encoder, [batch] * 3, loss="cosine_similarity")
    texts = encoder.encode(data["sentence1"]), encoder.encode(data["sentence2"])
    cosines = np.sum(texts[0] * texts[1], axis=1)
    expected = np.mean((cosines - np.array([0.9, 0.1])) ** 2)
    np.testing.assert_allclose(losses(curve)[0], expected, rtol=1e-4)


def test_masked_rows_and_missing_negatives_do_not_change_the_loss(encoder, batches):
    batch = batches[0]
    assert not batch["where"][-1]
    assert not batch["negatives_where"].all()
    other = jax.tree.map(np.copy, batch)
    other["positives"]["input_ids"][-1] = 7
    other["negatives"]["input_ids"][~batch["negatives_where"]] = 9
    _, curve = run(encoder, [batch])
    _, same = run(encoder, [other])
    np.testing.assert_allclose(losses(curve), losses(same), rtol=1e-6)


def test_bfloat16_follows_float32(batches, encoder):
    fast = jaxembed.load(TINY, dtype=jnp.bfloat16)
    _, curve = run(encoder, batches, scale=1.0)
    state, bfloat16_curve = run(fast, batches, scale=1.0)
    np.testing.assert_allclose(losses(bfloat16_curve), losses(curve), rtol=2e-2)
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(encoder, batches, part):
    mesh = make_mesh(jax.devices()[:1])
    built = REGISTRY["multiple_negatives_ranking"].build(encoder.apply)

    def objective(params, batch, **keywords):
        loss, others = built(params, batch, **keywords)
        broken = batch["broken"][0]
        if part == "loss":
            return jnp.where(broken, jnp.inf, 1.0) * loss, others
        return loss + jnp.sqrt(jnp.where(broken, 0.0, 1.0) * jnp.square(loss)), others

    step = build_train_step(objective, OPTIMIZER, SCHEDULE, mesh)
    state = create_state({"encoder": encoder.params}, OPTIMIZER, mesh)
    one = {**batches[0], "broken": np.zeros(8, bool)}
    broken = {**one, "broken": np.ones(8, bool)}
    state, _ = step(state, one, None)
    before = jax.device_get((state.params, state.opt_state))
    state, metrics = step(state, broken, None)
    assert np.isfinite(metrics["loss"]) == (part == "gradient")
    assert metrics["skipped"] == 1
    assert state.step == 2
    jax.tree.map(np.testing.assert_array_equal, (state.params, state.opt_state), before)
    state, metrics = step(state, one, None)
    assert metrics["skipped"] == 0
    assert np.isfinite(metrics["loss"])
    changed = jax.tree.map(lambda a, b: np.any(np.asarray(a) != b), state.params, before[0])
    assert any(jax.tree.leaves(changed))


def test_the_state_is_updated_in_place():
    """Nothing of the size of the parameters is kept but their gradient."""
    params = {"kernel": jnp.ones((256, 1024))}

    def objective(params, batch, **keywords):
        return jnp.mean(jnp.sin(batch["x"] @ params["kernel"])), ({}, keywords["carried"])

    mesh = make_mesh(jax.devices()[:1])
    step = build_train_step(objective, OPTIMIZER, SCHEDULE, mesh)
    state = create_state(params, OPTIMIZER, mesh)
    program = step.lower(state, {"x": np.ones((4, 256), np.float32)}, None).compile()
    size = params["kernel"].nbytes
    cost = program_cost(program)
    assert cost.aliased_bytes > 3 * size  # parameters and both moments
    assert size <= cost.temporary_bytes < 1.2 * size


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_state_is_updated_or_left_on_every_platform(platform):
    state = create_state({"kernel": jnp.ones(3)}, OPTIMIZER, make_mesh(jax.devices()[:1]))
    choose = jax.jit(
        lambda finite, state: updated_if(
            finite, lambda: jax.tree.map(lambda x: x + 2, state), state, platform
        )
    )
    for finite in (True, False):
        kept = choose(finite, state)
        np.testing.assert_array_equal(kept.params["kernel"], 3.0 if finite else 1.0)
        assert kept.step == (2 if finite else 0)


@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clipping_is_that_of_optax(max_norm):
    gradients = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(4, jnp.bfloat16)}
    clips = clip_by_global_norm(max_norm), optax.clip_by_global_norm(max_norm)
    clipped, expected = (clip.update(gradients, clip.init(gradients))[0] for clip in clips)

    def compare(ours, theirs):
        assert ours.dtype == theirs.dtype
        rtol = 1e-2 if ours.dtype == jnp.bfloat16 else 1e-6
        np.testing.assert_allclose(ours, theirs, rtol=rtol)

    jax.tree.map(compare, clipped, expected)


def test_a_norm_that_is_known_is_not_computed_again():
    gradients = {"a": jnp.ones(4)}
    clip = clip_by_global_norm(1.0)
    clipped, _ = clip.update(gradients, clip.init(gradients), grad_norm=jnp.asarray(10.0))
    np.testing.assert_allclose(jax.tree.leaves(clipped)[0], 0.1)
