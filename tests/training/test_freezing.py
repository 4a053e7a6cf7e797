"""Frozen parameters and learning rates by layer: patterns, masks, updates, moments, costs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxembed.objectives import REGISTRY
from jaxembed.training import build_train_step, create_state, make_mesh
from jaxembed.training.compiled import program_cost
from jaxembed.training.freezing import layer_scales, restricted, trainable, with_frozen
from jaxembed.training.optimizer import adamw, clip_by_global_norm

RATE = optax.constant_schedule(1e-2)
OPTIONS = {"weight_decay": 0.1, "clip_norm": 0.5}
STACKED = pytest.mark.parametrize("source", ["jaxembed"], indirect=True)
LAYERS = {"jaxembed": "encoder/transformer/layers", "transformers": "encoder/transformer/*/layer"}


@pytest.fixture(scope="module")
def params(encoder):
    return {"encoder": encoder.params, "loss": {"softmax": {"head": {"kernel": jnp.ones((3, 2))}}}}


@pytest.fixture
def batch(encoder):
    pairs = {
        "anchors": ["a cat", "code", "bank", "river"],
        "positives": ["a feline", "a program", "money", "stream"],
    }
    tokens = {name: encoder.tokenizer(texts) for name, texts in pairs.items()}
    return {**tokens, "where": np.array([True, True, True, False])}


def flat(tree):
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def n_frozen(params, freeze):
    """How many numbers do not learn."""
    masks = trainable(params, freeze)
    sizes = jax.tree.map(lambda mask, x: np.sum(~np.broadcast_to(mask, x.shape)), masks, params)
    return sum(jax.tree.leaves(sizes))


def random_like(params, seed):
    generator = np.random.default_rng(seed)
    draw = lambda x: jnp.asarray(generator.normal(size=x.shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, params)


def updated(optimizer, params, steps=3, part=lambda tree: tree):
    """A part of the parameters after some steps, and the state of its optimizer."""
    gradients = [part(random_like(params, step)) for step in range(steps)]
    params = part(params)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def layers_of(tree):
    return tree["encoder"]["transformer"]["layers"]


def small(n_layers=3):
    """Parameters with a stack of layers."""
    layers = {"query": {"kernel": np.ones((n_layers, 2, 4)), "bias": np.ones((n_layers, 4))}}
    tree = {"embeddings": {"tokens": {"embedding": np.ones((7, 2))}}, "layers": layers}
    return random_like({"encoder": {"transformer": tree}, "loss": {"head": np.ones(3)}}, 9)


def test_a_pattern_is_the_beginning_of_a_path_or_has_stars(params):
    sizes = {name: leaf.size for name, leaf in flat(params).items()}
    total = lambda wanted: sum(size for name, size in sizes.items() if wanted(name))  # noqa: E731
    assert n_frozen(params, []) == 0
    assert n_frozen(params, ["encoder/transformer/embeddings"]) == total(
        lambda name: name.startswith("encoder/transformer/embeddings/")
    )
    assert n_frozen(params, ["*/bias", "loss"]) == total(
        lambda name: name.endswith("/bias") or name.startswith("loss/")
    )
    assert n_frozen(params, ["encoder/", "encoder"]) == total(lambda x: x.startswith("encoder/"))


def test_slices_mean_the_same_layers_stacked_or_not(params, source):
    layers = LAYERS[source]
    (all_layers, first, last, but_one) = (
        n_frozen(params, [layers + which]) for which in ("", "[:1]", "[1:]", "[:-1]")
    )
    assert first == last == but_one == all_layers / 2
    assert n_frozen(params, [layers + "[:1]", layers + "[1:]"]) == all_layers
    assert n_frozen(params, ["*[:1]"]) == first
    norms = n_frozen(params, ["encoder/transformer/*/bias[1:]"])
    assert 0 < norms < last


def test_a_frozen_first_layer_is_the_first_of_the_stack():
    mask = trainable(small(), ["encoder/transformer/layers[:1]"])["encoder"]["transformer"]
    kernel = mask["layers"]["query"]["kernel"]
    assert kernel.shape == (3, 1, 1)
    assert kernel.ravel().tolist() == [False, True, True]
    assert mask["embeddings"]["tokens"]["embedding"] is True


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (["encoder/transformer/embedings"], "no parameter; near it are encoder/transformer/embedd"),
        (["encoder/transformer/layers[7:]"], r"'encoder/transformer/layers\[7:\]' .* \(3 layers\)"),
        (["encoder/transformer/embeddings[:2]"], "matches no parameter"),
        (["embeddings"], "matches no parameter; .*embeddings"),
        (["???"], "matches no parameter; paths are encoder, encoder/transformer"),
        (["*"], r"\['\*'\] leave no parameter that learns"),
        (["encoder", "loss/head"], "leave no parameter that learns"),
    ],
)
def test_patterns_that_freeze_nothing_or_everything_are_refused(freeze, message):
    with pytest.raises(ValueError, match=message):
        trainable(small(), freeze)


def test_the_others_learn_as_if_the_frozen_ones_were_not_there():
    params = small()
    learns = trainable(params, ["encoder/transformer/embeddings", "loss"])
    found, state = updated(adamw(RATE, trainable=learns, **OPTIONS), params)
    frozen = [name for name, mask in flat(learns).items() if not mask]
    assert len(frozen) == 2
    for name in frozen:
        np.testing.assert_array_equal(flat(found)[name], flat(params)[name])
    alone, its_state = updated(adamw(RATE, **OPTIONS), params, part=layers_of)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), layers_of(found), alone)
    moments = [sum(x.size for x in jax.tree.leaves(s) if x.ndim) for s in (state, its_state)]
    assert moments[0] == moments[1] == 2 * sum(x.size for x in jax.tree.leaves(alone))


def test_the_norm_that_clips_is_of_what_learns():
    params = {"a": jnp.ones(4), "b": jnp.ones(4)}
    gradients = {"a": jnp.ones(4), "b": 100 * jnp.ones(4)}
    optimizer = restricted(clip_by_global_norm(1.0), {"a": True, "b": False})
    optimizer = optax.with_extra_args_support(optimizer)  # as the step gives it the norm of all
    updates, _ = optimizer.update(
        gradients, optimizer.init(params), params, grad_norm=optax.tree.norm(gradients)
    )
    of_a, of_b = jax.tree.leaves(updates)
    np.testing.assert_allclose(of_a, 0.5)
    np.testing.assert_array_equal(of_b, 0)


def test_the_rest_of_a_stack_learns_as_a_stack_of_its_own():
    params = small()
    freeze = ["encoder/transformer/layers[:2]", "encoder/transformer/embeddings", "loss"]
    found, _ = updated(adamw(RATE, trainable=trainable(params, freeze), **OPTIONS), params)

    def last(tree):
        return jax.tree.map(lambda x: x[2:], layers_of(tree))

    alone, _ = updated(adamw(RATE, **OPTIONS), params, part=last)

    def check(after, before, expected):
        np.testing.assert_array_equal(after[:2], before[:2])
        np.testing.assert_allclose(after[2:], expected, rtol=1e-6)

    jax.tree.map(check, layers_of(found), layers_of(params), alone)


def test_with_nothing_frozen_or_scaled_the_updates_are_the_same():
    params = small()
    all_of_them, ones = trainable(params, []), layer_scales(params, 1.0)
    masked, _ = updated(adamw(RATE, trainable=all_of_them, scales=ones, **OPTIONS), params)
    plain, _ = updated(adamw(RATE, **OPTIONS), params)
    jax.tree.map(np.testing.assert_array_equal, masked, plain)


def test_learning_rates_fall_towards_the_embeddings(params, source):
    scales = flat(layer_scales(params, 0.5))
    for name, scale in scales.items():
        if "/embeddings/" in name:
            assert scale == 0.25
        elif source == "jaxembed" and "/layers/" in name:
            assert scale.ravel().tolist() == [0.5, 1.0]
            assert scale.ndim == flat(params)[name].ndim
        elif "/layer/0/" in name:
            assert scale == 0.5
        else:
            assert scale == 1.0


def test_tables_beside_the_layers_and_the_heads_of_losses_are_not_scaled():
    params = small()
    params["encoder"]["transformer"]["relative"] = {"embedding": np.ones((4, 2))}
    params["encoder"]["2_Dense"] = {"kernel": np.ones((2, 2))}
    params["loss"] = {"tension": {"encoder": params["encoder"]}, "embed": np.ones(3)}
    scales = layer_scales(params, 0.5)
    assert scales["encoder"]["transformer"]["relative"]["embedding"] == 1
    assert scales["encoder"]["transformer"]["embeddings"]["tokens"]["embedding"] == 0.125
    assert scales["encoder"]["2_Dense"]["kernel"] == scales["loss"]["embed"] == 1
    jax.tree.map(
        np.testing.assert_array_equal, scales["loss"]["tension"]["encoder"], scales["encoder"]
    )


def test_scales_multiply_updates_and_their_decay():
    params = small()
    scales = layer_scales(params, 0.5)
    scaled, _ = updated(adamw(RATE, scales=scales, **OPTIONS), params, steps=1)
    plain, _ = updated(adamw(RATE, **OPTIONS), params, steps=1)
    jax.tree.map(
        lambda after, whole, before, scale: np.testing.assert_allclose(
            after - before, (whole - before) * scale, atol=1e-6
        ),
        scaled,
        plain,
        params,
        scales,
    )


@pytest.mark.parametrize("decay", [0, 1.5, -0.1])
def test_a_decay_that_does_not_fall_is_refused(decay):
    with pytest.raises(ValueError, match=rf"decay must lie in \(0, 1\]; got {decay}"):
        layer_scales(small(), decay)


def test_a_decay_without_layers_is_refused():
    with pytest.raises(ValueError, match="no layers under encoder/transformer"):
        layer_scales({"encoder": {"kernel": np.ones((2, 2))}}, 0.5)


def test_an_objective_with_frozen_parts_has_no_gradient_there_and_costs_less(
    encoder, batch, source
):
    params = {"encoder": encoder.params}
    objective = REGISTRY["multiple_negatives_ranking"].build(encoder.apply)
    # A scan over stacked layers goes back through all of them, but not to what is frozen in all.
    also = {"jaxembed": "*/mlp", "transformers": "*/embeddings"}[source]
    learns = trainable(params, [f"{LAYERS[source]}[:1]", also])

    def compiled(objective):
        def loss(params):
            return objective(params, batch, key=None)[0]

        return jax.jit(jax.value_and_grad(loss)).lower(params).compile()

    whole, part = compiled(objective), compiled(with_frozen(objective, learns))
    (loss, gradients), (same, cut) = whole(params), part(params)
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    jax.tree.map(
        lambda mask, found, expected: np.testing.assert_allclose(
            found, np.where(mask, expected, 0), atol=1e-5
        ),
        learns,
        cut,
        gradients,
    )
    flops = [program_cost(program).flops for program in (whole, part)]
    assert flops[1] < 0.9 * flops[0]


@STACKED
def test_two_devices_train_what_learns_as_one(encoder, batch, source):
    params = {"encoder": encoder.params}
    learns = trainable(params, [f"{LAYERS[source]}[:1]", "encoder/transformer/embeddings"])
    optimizer = adamw(RATE, trainable=learns, scales=layer_scales(params, 0.5), eps=1e-4)
    objective = with_frozen(REGISTRY["multiple_negatives_ranking"].build(encoder.apply), learns)
    states = []
    for devices in (1, 2):
        mesh = make_mesh(jax.devices()[:devices])
        state = create_state(params, optimizer, mesh)
        step = build_train_step(objective, optimizer, RATE, mesh)
        for _ in range(2):
            state, _ = step(state, batch, None)
        states.append(jax.device_get(state.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), *states)

    def check(mask, after, before):
        kept = ~np.broadcast_to(mask, before.shape)
        np.testing.assert_array_equal(after[kept], before[kept])
        assert kept.all() or not np.array_equal(after[~kept], before[~kept])

    jax.tree.map(check, learns, states[1], jax.device_get(params))
