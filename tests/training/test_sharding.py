"""Where arrays lie on a mesh, and that a spread state trains like one that is whole."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec as P

import jaxembed
from jaxembed.data import bind_columns, make_batch, open_dataset
from jaxembed.encoders import tensor_axis
from jaxembed.objectives import REGISTRY
from jaxembed.training import (
    Checkpoints,
    abstract_state,
    adamw,
    build_train_step,
    create_state,
    gather,
    join_rows,
    make_mesh,
    own_row_parts,
    place_rows,
    row_parts,
    sharding,
    state_specs,
)
from jaxembed.training.sharding import AXES

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"


def spec(shape, *sizes, path=("kernel",)):
    tree: Any = jax.ShapeDtypeStruct(shape, jnp.float32)
    mesh: Any = AbstractMesh(sizes, AXES)
    for name in reversed(path):
        tree = {name: tree}
    return jax.tree.leaves(
        state_specs(tree, mesh, tensor_axis),
        is_leaf=lambda leaf: isinstance(leaf, P),
    )[0]


QUERY = ("encoder", "transformer", "layers", "attention", "query", "kernel")


@pytest.mark.parametrize(
    ("shape", "sizes", "path", "expected"),
    [
        ((512, 2048), (4, 1, 1), ("kernel",), P(None, None)),
        ((512, 2048), (1, 4, 1), ("kernel",), P(None, "fsdp")),  # both alike: the longer
        ((512, 2048), (1, 16, 1), ("kernel",), P(None, "fsdp")),
        ((512, 2048), (1, 64, 1), ("kernel",), P("fsdp", None)),  # 2048 / 64 is less than a tile
        ((30522, 768), (1, 4, 1), ("embedding",), P(None, "fsdp")),  # 4 does not divide 30522
        ((30523, 77), (1, 4, 1), ("embedding",), P(None, None)),
        ((768,), (1, 4, 1), ("bias",), P(None)),  # too small
        ((12, 768, 3072), (1, 16, 1), ("kernel",), P(None, "fsdp", None)),
        ((12, 768, 768), (2, 1, 2), QUERY, P(None, None, "tensor")),
        ((12, 768, 768), (2, 2, 2), QUERY, P(None, "fsdp", "tensor")),
        ((12, 768, 768), (2, 1, 5), QUERY, P(None, None, None)),
    ],
)
def test_an_array_is_spread_so_that_the_least_is_stored(shape, sizes, path, expected):
    assert spec(shape, *sizes, path=path) == expected


def test_moments_lie_where_their_parameters_do():
    params = {"layers": {"mlp": {"up": {"kernel": jnp.ones((2, 64, 128))}}}}
    state = abstract_state(params, adamw(lambda step: 1e-3), make_mesh(fsdp=2), frozen=params)
    of = lambda tree: {x.sharding.spec for x in jax.tree.leaves(tree) if x.ndim == 3}  # noqa: E731
    assert len(of(state.params)) == 1
    assert of(state.params) == of(state.opt_state) == of(state.frozen)
    assert of(state.params) != {P(None, None, None)}


@pytest.mark.parametrize(
    "sizes", [{"fsdp": 3}, {"tensor": 4}, {"fsdp": 0}, {"fsdp": 2, "tensor": 2}]
)
def test_a_mesh_that_the_devices_do_not_fill_is_refused(sizes):
    with pytest.raises(ValueError, match="must divide the number of devices, 2"):
        make_mesh(jax.devices()[:2], **sizes)


def test_rows_are_spread_over_data_and_fsdp():
    for sizes in ({}, {"fsdp": 2}):
        mesh = make_mesh(jax.devices()[:2], **sizes)
        assert row_parts(mesh) == 2
        assert own_row_parts(mesh) == (0, 1)
        x: Any = np.arange(12.0).reshape(6, 2)
        placed = place_rows({"x": x}, mesh)["x"]
        assert placed.addressable_shards[0].data.shape == (3, 2)
        np.testing.assert_array_equal(gather(placed), x)
    mesh = make_mesh(jax.devices()[:2], tensor=2)
    assert (row_parts(mesh), own_row_parts(mesh)) == (1, (0,))
    assert place_rows(x, mesh).is_fully_replicated
    np.testing.assert_array_equal(join_rows(x, 6), x)


@pytest.fixture(scope="module")
def encoder():
    return jaxembed.load(TINY, dropout=False)


@pytest.fixture(scope="module")
def batches(encoder):
    roles = REGISTRY["multiple_negatives_ranking"].roles
    rows = bind_columns(open_dataset("wordnet-gloss").select(range(32)), roles)
    tokenizer = encoder.tokenizer.with_buckets((48,))
    return [
        make_batch(rows, roles, np.r_[8 * i : 8 * i + 7, -1], lambda texts, role: tokenizer(texts))
        for i in range(3)
    ]


SGD = optax.sgd(0.1)  # AdamW makes steps of rounding where a gradient is 0


def train(encoder, batches, monkeypatch, *, devices=2, mini_batch_size=None, keep=None, **sizes):
    monkeypatch.setattr(sharding, "SMALL", 64)
    mesh = make_mesh(jax.devices()[:devices], **sizes)
    specs = lambda params: state_specs(params, mesh, tensor_axis)  # noqa: E731
    options = {"mini_batch_size": mini_batch_size, "param_specs": specs, "mesh": mesh}
    objective = REGISTRY["multiple_negatives_ranking"].build(encoder.apply, **options)
    params = {"encoder": encoder.params}
    state = create_state(params, SGD, mesh, tensor_axis=tensor_axis)
    step = build_train_step(objective, SGD, lambda step: 0.1, mesh, tensor_axis=tensor_axis)
    losses = []
    for number, batch in enumerate(batches):
        state, metrics = step(state, batch, None)
        losses.append(float(metrics["loss"]))
        if keep is not None and number == 0:
            keep.save(1, state)
    return state, losses


@pytest.fixture(scope="module")
def whole(encoder, batches):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return train(encoder, batches, monkeypatch, devices=1)


@pytest.mark.parametrize(
    "how",
    [{"fsdp": 2}, {"fsdp": 2, "mini_batch_size": 2}, {"tensor": 2}],
    ids=["fsdp", "fsdp cached", "tensor"],
)
def test_a_spread_state_trains_like_a_whole_one(encoder, batches, whole, monkeypatch, how):
    state, losses = train(encoder, batches, monkeypatch, **how)
    np.testing.assert_allclose(losses, whole[1], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.params, whole[0].params
    )
    parameters = jax.tree.leaves(state.params)
    of_one = sum(x.addressable_shards[0].data.nbytes for x in parameters)
    assert of_one < 0.7 * sum(x.nbytes for x in parameters)


def test_a_checkpoint_goes_on_on_another_mesh(encoder, batches, whole, monkeypatch, tmp_path):
    checkpoints = Checkpoints(tmp_path, {})
    train(encoder, batches[:1], monkeypatch, fsdp=2, keep=checkpoints)
    checkpoints.close()
    again = Checkpoints(tmp_path, {})
    mesh = make_mesh(jax.devices()[:1])
    state = again.restore(create_state({"encoder": encoder.params}, SGD, mesh))
    again.close()
    assert int(state.step) == 1
    objective = REGISTRY["multiple_negatives_ranking"].build(encoder.apply)
    step = build_train_step(objective, SGD, lambda step: 0.1, mesh)
    for batch, expected in zip(batches[1:], whole[1][1:], strict=True):
        state, metrics = step(state, batch, None)
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
