"""Low-rank adapters: what they compute, who learns, in chunks and on devices, saved and refused."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxembed
from jaxembed.objectives import REGISTRY
from jaxembed.training import Checkpoints, build_train_step, create_state, make_mesh
from jaxembed.training.compiled import program_cost
from jaxembed.training.lora import init_lora, merge_lora, with_lora
from jaxembed.training.optimizer import adamw

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
ALPHA = 6.0
SCHEDULE = optax.constant_schedule(1e-2)
OPTIMIZER = adamw(SCHEDULE, eps=1e-4)
STACKED = pytest.mark.parametrize("source", ["jaxembed"], indirect=True)
LAYERS = {"jaxembed": "layers/attention", "transformers": "encoder/layer/0/attention/self"}


@pytest.fixture(scope="module")
def batch(encoder):
    pairs = {
        "anchors": ["a cat", "code", "bank", "river", "sun", "moon", "tree", "leaf"],
        "positives": ["a feline", "a program", "money", "a stream", "star", "sky", "oak", "green"],
    }
    tokens = {name: encoder.tokenizer(texts) for name, texts in pairs.items()}
    return {**tokens, "where": np.arange(8) < 7}


@pytest.fixture(scope="module")
def adapters(encoder):
    """Adapters that were trained, as it were."""
    drawn = init_lora(jax.random.key(1), encoder.params, rank=3, targets=("query", "2_Dense"))
    generator = np.random.default_rng(0)
    noise = lambda x: x + jnp.asarray(generator.normal(size=x.shape, scale=0.1), x.dtype)  # noqa: E731
    return jax.tree.map(noise, drawn)


def flat(tree):
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def train(encoder, batch, *, steps=2, devices=1, key=None, **options):
    """The state after a few steps of new adapters, and the losses."""
    mesh = make_mesh(jax.devices()[:devices])
    objective = REGISTRY["multiple_negatives_ranking"].build(encoder.apply, mesh=mesh, **options)
    adapters = init_lora(jax.random.key(0), encoder.params, rank=4)
    base = {"base": encoder.params}
    state = create_state({"encoder": adapters}, OPTIMIZER, mesh, frozen=base)
    step = build_train_step(with_lora(objective, alpha=ALPHA), OPTIMIZER, SCHEDULE, mesh)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, batch, key)
        losses.append(float(metrics["loss"]))
    return state, losses


def test_merged_kernels_are_the_sum_over_ranks():
    generator = np.random.default_rng(0)
    draw = lambda *shape: generator.normal(size=shape)  # noqa: E731
    kernel, a, b = draw(2, 5, 4), draw(2, 5, 3), draw(2, 3, 4)
    expected = kernel.copy()
    for l in range(2):
        for r in range(3):
            expected[l] += ALPHA / 3 * np.outer(a[l, :, r], b[l, r])
    params = {"up": {"kernel": jnp.float32(kernel), "bias": jnp.ones((2, 4))}}
    pair = {"a": jnp.float32(a), "b": jnp.float32(b)}
    merged = merge_lora(params, {"up": {"kernel": pair}}, alpha=ALPHA)
    np.testing.assert_allclose(merged["up"]["kernel"], expected, rtol=1e-5)
    assert merged["up"]["bias"] is params["up"]["bias"]
    one = {"up": {"kernel": jax.tree.map(lambda x: x[1], pair)}}
    flat_params = jax.tree.map(lambda x: x[1], params)
    merged = merge_lora(flat_params, one, alpha=ALPHA)["up"]["kernel"]
    np.testing.assert_allclose(merged, expected[1], rtol=1e-5)


def test_a_merged_layer_is_the_layer_beside_its_adapter():
    x, kernel, a, b = (
        jax.random.normal(jax.random.key(i), shape)
        for i, shape in enumerate([(7, 5), (5, 4), (5, 2), (2, 4)])
    )
    merged = merge_lora({"kernel": kernel}, {"kernel": {"a": a, "b": b}}, alpha=ALPHA)["kernel"]
    np.testing.assert_allclose(x @ merged, x @ kernel + ALPHA / 2 * (x @ a) @ b, atol=1e-5)


def test_new_adapters_change_nothing(encoder):
    adapters = init_lora(jax.random.key(0), encoder.params, rank=4)
    merged = merge_lora(encoder.params, adapters, alpha=ALPHA)
    jax.tree.map(np.testing.assert_array_equal, merged, encoder.params)


def test_adapters_have_few_parameters_drawn_apart(encoder, source):
    adapters = init_lora(jax.random.key(0), encoder.params, rank=4)
    assert sum(x.size for x in jax.tree.leaves(adapters)) == 2 * 2 * 4 * (32 + 32)
    a = [x for name, x in flat(adapters).items() if name.endswith("/a")]
    rows = np.concatenate([np.reshape(x, (-1, 32 * 4)) for x in a])
    assert rows.shape[0] == 4  # two layers, query and value
    assert len(np.unique(rows[:, 0])) == 4
    bound = 32**-0.5
    assert 0.9 * bound < np.abs(rows).max() <= bound
    assert abs(rows.mean()) < 0.1 * bound
    again = init_lora(jax.random.key(0), encoder.params, rank=4)
    jax.tree.map(np.testing.assert_array_equal, again, adapters)


def test_targets_are_ends_of_paths(encoder, source):
    def targets(*targets):
        adapters = init_lora(jax.random.key(0), encoder.params, rank=2, targets=targets)
        return {name.removesuffix("/kernel/a") for name in flat(adapters) if name.endswith("/a")}

    inside = f"transformer/{LAYERS[source]}"
    assert f"{inside}/query" in targets("query")
    assert targets("query", "query") == targets("query")
    assert {f"{inside}/{name}" for name in ("query", "key", "value")} < targets("attention/*")
    assert targets("2_Dense") == {"2_Dense"}
    kernels = {name for name in flat(encoder.params) if name.endswith("/kernel")}
    assert targets("*") == {name.removesuffix("/kernel") for name in kernels}


def test_stacked_layers_adapt_as_single_ones():
    stacked = jaxembed.load(TINY, source="jaxembed")
    single = jaxembed.load(TINY, source="transformers")
    adapters = init_lora(jax.random.key(0), stacked.params, rank=2)
    adapters = jax.tree.map(lambda x: x + 0.1, adapters)
    of_stack = adapters["transformer"]["layers"]["attention"]
    layers = {
        str(l): {"attention": {"self": jax.tree.map(lambda x, l=l: x[l], of_stack)}}
        for l in range(2)
    }
    of_single = {"transformer": {"encoder": {"layer": layers}}}
    embeddings = [
        dataclasses.replace(encoder, params=merge_lora(encoder.params, its, alpha=ALPHA)).encode(
            ["a cat", "code"]
        )
        for encoder, its in ((stacked, adapters), (single, of_single))
    ]
    np.testing.assert_allclose(embeddings[0], embeddings[1], atol=1e-5)
    assert np.abs(embeddings[0] - stacked.encode(["a cat", "code"])).max() > 1e-2


def test_the_objective_of_adapters_is_that_of_the_merged_encoder(encoder, batch, adapters):
    objective = REGISTRY["multiple_negatives_ranking"].build(encoder.apply)
    key, base = jax.random.key(3), {"base": encoder.params}
    merged = {"encoder": merge_lora(encoder.params, adapters, alpha=ALPHA)}
    expected, (metrics, _) = jax.jit(objective)(merged, batch, key=key)
    adapted = jax.jit(with_lora(objective, alpha=ALPHA))
    loss, (same, _) = adapted({"encoder": adapters}, batch, key=key, frozen=base)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert same.keys() == metrics.keys()


@STACKED
def test_only_adapters_learn_and_other_kernels_cost_no_gradient(encoder, batch, adapters):
    objective = REGISTRY["multiple_negatives_ranking"].build(encoder.apply)

    def of_all(params):
        return objective({"encoder": params}, batch, key=None)[0]

    def of_adapters(adapters, base):
        adapted = with_lora(objective, alpha=ALPHA)
        return adapted({"encoder": adapters}, batch, key=None, frozen={"base": base})[0]

    whole = jax.jit(jax.grad(of_all)).lower(encoder.params).compile()
    small = jax.jit(jax.grad(of_adapters)).lower(adapters, encoder.params).compile()
    assert program_cost(small).flops < 0.85 * program_cost(whole).flops

    gradients = flat(small(adapters, encoder.params))
    merged = merge_lora(encoder.params, adapters, alpha=ALPHA)
    of_kernels = flat(whole(merged))
    for name, gradient in gradients.items():
        kernel, _, side = name.rpartition("/")
        a, b = flat(adapters)[f"{kernel}/a"], flat(adapters)[f"{kernel}/b"]
        g = of_kernels[kernel]
        by_hand = g @ jnp.swapaxes(b, -1, -2) if side == "a" else jnp.swapaxes(a, -1, -2) @ g
        np.testing.assert_allclose(gradient, ALPHA / 3 * by_hand, atol=2e-5)
        assert np.abs(gradient).max() > 1e-3


@STACKED
def test_adapters_train_and_the_base_stays(encoder, batch):
    before = jax.device_get(encoder.params)
    state, losses = train(encoder, batch, steps=6)
    assert losses[-1] < 0.9 * losses[0]
    after = jax.device_get(state.frozen)
    jax.tree.map(np.testing.assert_array_equal, after, {"base": before})
    n_adapters = sum(x.size for x in jax.tree.leaves(state.params))
    moments = sum(x.size for x in jax.tree.leaves(state.opt_state) if x.ndim)
    assert moments == 2 * n_adapters == 2 * 1024


@STACKED
def test_chunks_and_devices_train_adapters_alike(encoder, batch):
    key = jax.random.key(5)  # so there is dropout
    expected, losses = train(encoder, batch, key=key)
    for devices, size in ((1, 4), (2, 2)):
        state, same = train(encoder, batch, devices=devices, mini_batch_size=size, key=key)
        np.testing.assert_allclose(same, losses, rtol=2e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.params, expected.params
        )


@STACKED
def test_checkpoints_hold_adapters_and_folders_what_is_merged(encoder, batch, tmp_path):
    state, _ = train(encoder, batch)
    checkpoints = Checkpoints(tmp_path / "checkpoints", {})
    checkpoints.save(2, state)
    checkpoints.close()
    size = sum(file.stat().st_size for file in (tmp_path / "checkpoints").rglob("*"))
    assert size < 4 * sum(x.size for x in jax.tree.leaves(encoder.params))

    again = Checkpoints(tmp_path / "checkpoints", {})
    restored = again.restore(
        dataclasses.replace(state, params=jax.tree.map(jnp.zeros_like, state.params))
    )
    again.close()
    merged = merge_lora(encoder.params, restored.params["encoder"], alpha=ALPHA)
    trained = dataclasses.replace(encoder, params=merged)
    loaded = jaxembed.load(trained.save(tmp_path / "model"))
    texts = ["a cat", "some code"]
    np.testing.assert_allclose(loaded.encode(texts), trained.encode(texts), atol=1e-6)
    assert np.abs(trained.encode(texts) - encoder.encode(texts)).max() > 1e-3


def test_what_cannot_be_adapted_is_refused(encoder, batch, source):
    init = lambda **options: init_lora(jax.random.key(0), encoder.params, **options)  # noqa: E731
    with pytest.raises(ValueError, match="rank must be at least 1; got 0"):
        init(rank=0)
    with pytest.raises(ValueError, match=r"'q_proj' is the end of no linear .* 2_Dense, .*query"):
        init(rank=2, targets=("query", "q_proj"))
    with pytest.raises(ValueError, match=r"adapters of \['deep'\], but params have only \['up'\]"):
        merge_lora({"up": {}}, {"deep": {}}, alpha=1)
    adapted = with_lora(REGISTRY["multiple_negatives_ranking"].build(encoder.apply), alpha=1)
    with pytest.raises(ValueError, match=r"frozen must have base, the encoder; got \['guide'\]"):
        adapted({"encoder": init(rank=2)}, batch, key=None, frozen={"guide": {}})
