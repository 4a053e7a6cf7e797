"""What the compiled programs of streamed losses take: matrix products, memory, collectives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxembed import similarity
from jaxembed.losses import multiple_negatives_ranking_loss, streaming
from jaxembed.training.compiled import program_cost
from jaxembed.transforms import over_mesh
from tests.losses.test_streaming import IN_BATCH
from tests.tpu_programs import facts, needs_libtpu, on_tpus

GIB = 2**30
D = 768


def lower_over(devices, rows, block_size, ring, normalised):
    """The ranking loss with ids, value and gradients, for rows spread over the devices."""
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    loss = over_mesh(multiple_negatives_ranking_loss, mesh, block_size=block_size, ring=ring)
    similarity_fn = similarity.dot if normalised else similarity.cosine

    def value(anchors, positives, scale, ids):
        return loss(anchors, positives, scale=scale, ids=ids, similarity_fn=similarity_fn)

    def shape(dtype, *size):
        spec = PartitionSpec("data") if size else PartitionSpec()
        return jax.ShapeDtypeStruct(size, dtype, sharding=NamedSharding(mesh, spec))

    embeddings = shape(jnp.float32, rows, D)
    arguments = embeddings, embeddings, shape(jnp.float32), shape(jnp.uint32, rows, 2)
    return jax.jit(jax.value_and_grad(value, (0, 1, 2))).lower(*arguments)


def cost_over(devices, rows, block_size, ring, normalised):
    cost = facts(lower_over(devices, rows, block_size, ring, normalised), devices)
    return {
        "flops": cost["flops"] / (6 * rows**2 * D / len(devices)),
        "temporaries": cost["temporary_bytes"] / GIB,
        "collectives in loops": sorted(cost["loop_collectives"]),
    }


# topology, rows, GiB of temporaries on each chip
CHIPS = [
    ("v5e:2x4", 2**16, 0.05),
    pytest.param("v5e:2x4", 2**18, 0.35, marks=pytest.mark.exhaustive),
    pytest.param("v5e:16x16", 2**20, 0.05, marks=pytest.mark.exhaustive),
]


@needs_libtpu
@pytest.mark.parametrize(("topology", "rows", "bound"), CHIPS)
def test_on_a_pod_rows_come_by_with_little_memory_and_no_product_twice(topology, rows, bound):
    for normalised in (False, True):
        cost = on_tpus(cost_over, rows, 1024, False, normalised, topology=topology)
        assert cost["temporaries"] <= bound
        assert 1 <= cost["flops"] <= 1.02


@needs_libtpu
def test_on_a_pod_a_ring_computes_the_entries_twice_and_sends_to_neighbours():
    cost = on_tpus(cost_over, 2**16, 512, True, False)
    assert cost["temporaries"] <= 0.05
    assert 4 / 3 <= cost["flops"] <= 1.35
    assert cost["collectives in loops"] == ["collective-permute"]


@pytest.mark.parametrize("ring", [False, True])
def test_on_two_devices_each_does_half(ring):
    cost = cost_over(jax.devices()[:2], 1024, 256, ring, False)
    assert cost["flops"] == pytest.approx(4 / 3 if ring else 1)


def test_on_one_device_the_products_are_those_of_the_plain_loss_in_little_memory():
    embeddings = jax.ShapeDtypeStruct((8192, D), jnp.float32)
    ids = jax.ShapeDtypeStruct((8192, 2), jnp.uint32)

    def cost(block_size):
        def value(anchors, positives, scale, ids):
            return multiple_negatives_ranking_loss(
                anchors, positives, scale=scale, ids=ids, block_size=block_size
            )

        gradient = jax.jit(jax.value_and_grad(value, (0, 1, 2)))
        scale = jax.ShapeDtypeStruct((), jnp.float32)
        return program_cost(gradient.lower(embeddings, embeddings, scale, ids).compile())

    streamed, plain = cost(512), cost(None)
    assert streamed.flops == plain.flops == 6 * 8192**2 * D
    assert streamed.temporary_bytes < 100 * 2**20 < plain.temporary_bytes / 7


def temporaries(case, block_size, n=2048):
    """Bytes that value and gradient of a streamed loss take."""
    embeddings, rows = jax.tree.map(jnp.asarray, case.inputs(n))
    arrays = jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype.kind == "f" else x, (embeddings, rows)
    )

    def value(embeddings, rows):
        return case.loss(*embeddings, **rows, **case.settings, block_size=block_size)

    return program_cost(jax.jit(jax.value_and_grad(value)).lower(*arrays).compile()).temporary_bytes


last_of_each = pytest.mark.parametrize(
    "case", {case.loss: case for case in IN_BATCH}.values(), ids=lambda case: case.name
)


@last_of_each
def test_no_streamed_loss_keeps_a_matrix_of_all_pairs(case):
    assert temporaries(case, block_size=16) < 4 * 2048**2 / 2


@last_of_each
def test_nothing_as_large_as_a_block_waits_in_front_of_the_loop(case, monkeypatch):
    in_one_piece = temporaries(case, block_size=256)
    monkeypatch.setattr(streaming, "in_one_piece", lambda function: function)
    assert in_one_piece < 0.8 * temporaries(case, block_size=256)


def test_a_value_alone_costs_one_product():
    n = 512
    embeddings = jax.ShapeDtypeStruct((n, D), jnp.float32)
    loss = functools.partial(multiple_negatives_ranking_loss, block_size=64)
    assert program_cost(jax.jit(loss).lower(embeddings, embeddings).compile()).flops == 2 * n**2 * D
