"""What XLA makes of a cached encoder: work, collectives and memory of the compiled gradient.

The encoder has the size of MiniLM (but for the vocabulary), texts have 32 tokens, chunks 32 rows.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

from jaxembed.transforms.cached import cached
from tests.tpu_programs import facts, needs_libtpu, on_tpus
from tests.transforms.small_encoder import encode, init

TOKENS = 32
CHUNK = 32


def plain(mesh):
    return encode


def over_mesh(mesh):
    return cached(encode, CHUNK, mesh=mesh)


def in_own_shard_map(mesh):
    rows = P("data")
    return jax.shard_map(cached(encode, CHUNK), mesh=mesh, in_specs=(P(), rows), out_specs=rows)


def left_to_jit(mesh):
    return cached(encode, CHUNK)


def naive(mesh):
    """Chunks of neighbouring rows, which makes every device encode all of them."""

    def encode_chunks(params, tokens):
        chunks = tokens["input_ids"].reshape(-1, CHUNK, TOKENS)
        step = jax.checkpoint(lambda ids: encode(params, {"input_ids": ids}))
        return lax.map(step, chunks).reshape(-1, params["embedding"].shape[1])

    return encode_chunks


WAYS = {way.__name__: way for way in (plain, over_mesh, in_own_shard_map, left_to_jit, naive)}


def cost(devices, way, n):
    """The cost of value and gradient of a simple loss; the rows are spread over the devices."""
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    encode_rows = WAYS[way](mesh)

    def loss(params, tokens):
        return jnp.sum(jnp.tanh(encode_rows(params, tokens)))

    def shapes(tree, spec):
        sharding = NamedSharding(mesh, spec)
        place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)  # noqa: E731
        return jax.tree.map(place, tree)

    params = shapes(jax.eval_shape(init, jax.random.key(0)), P())
    tokens = shapes({"input_ids": jax.ShapeDtypeStruct((n, TOKENS), jnp.int32)}, P("data"))
    step = jax.jit(jax.value_and_grad(loss), out_shardings=NamedSharding(mesh, P()))
    return facts(step.lower(params, tokens), devices)


def costs(devices, *requests):
    return [cost(devices, *request) for request in requests]


@cache
def flops_of_plain(n):
    """Floating-point operations without chunks, of all devices together."""
    few = 2 * CHUNK
    return cost(jax.devices()[:1], "plain", few)["flops"] * n // few


def shared_work(program, n, devices):
    """The work of one device, as a multiple of its share of the plain encoder's."""
    return program["flops"] / (flops_of_plain(n) / devices)


def check_one_reduction(program):
    """The gradients of all parameters are reduced once, XLA having combined their reductions."""
    assert program["loop_collectives"] == {}
    assert list(program["collectives"]) == ["all-reduce"]
    reduction = program["collectives"]["all-reduce"]
    parameters = jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)))
    gradients = sum(4 * parameter.size for parameter in parameters)
    assert reduction["count"] == 1
    assert gradients <= reduction["bytes"] <= gradients + 64  # and the loss


def check_same_memory(few, many):
    """Temporaries, the embeddings of all rows among them, are the same within a twentieth."""
    assert many["temporary_bytes"] <= 1.05 * few["temporary_bytes"]


@pytest.fixture(scope="module")
def cpu_programs():
    names = ("over_mesh", "in_own_shard_map")
    return {(name, n): cost(jax.devices(), name, n) for name in names for n in (1024, 4096)}


@pytest.mark.parametrize("way", ["over_mesh", "in_own_shard_map"])
def test_on_cpus_every_device_does_its_share_and_reduces_once(cpu_programs, way):
    for n in (1024, 4096):
        assert 1.30 <= shared_work(cpu_programs[way, n], n, 2) <= 1.40
        check_one_reduction(cpu_programs[way, n])


@pytest.mark.parametrize("way", ["over_mesh", "in_own_shard_map"])
def test_on_cpus_the_memory_does_not_grow_with_the_rows(cpu_programs, way):
    check_same_memory(cpu_programs[way, 1024], cpu_programs[way, 4096])
    few_rows = cost(jax.devices(), "plain", 256)
    assert cpu_programs[way, 4096]["temporary_bytes"] < few_rows["temporary_bytes"]


def test_on_cpus_devices_share_the_work_also_when_jit_shards_it():
    assert 1.30 <= shared_work(cost(jax.devices(), "left_to_jit", 1024), 1024, 2) <= 1.40


def test_on_cpus_the_checks_see_that_every_device_encodes_all_rows():
    assert shared_work(cost(jax.devices(), "naive", 1024), 1024, 2) > 2.6


def test_on_cpus_the_checks_see_reductions_in_the_loop():
    with pytest.raises(AssertionError):
        check_one_reduction(cost(jax.devices(), "left_to_jit", 1024))


@pytest.fixture(scope="module")
def tpu_programs():
    requests = [("over_mesh", 1024), ("over_mesh", 4096), ("naive", 1024), ("left_to_jit", 1024)]
    return dict(zip(requests, on_tpus(costs, *requests), strict=True))


@needs_libtpu
def test_on_tpus_every_device_does_its_share_and_reduces_once(tpu_programs):
    for n in (1024, 4096):
        assert 1.30 <= shared_work(tpu_programs["over_mesh", n], n, 8) <= 1.40
        check_one_reduction(tpu_programs["over_mesh", n])


@needs_libtpu
def test_on_tpus_the_memory_does_not_grow_with_the_rows(tpu_programs):
    check_same_memory(tpu_programs["over_mesh", 1024], tpu_programs["over_mesh", 4096])


@needs_libtpu
def test_on_tpus_devices_share_the_work_also_when_jit_shards_it(tpu_programs):
    assert 1.30 <= shared_work(tpu_programs["left_to_jit", 1024], 1024, 8) <= 1.40


@needs_libtpu
def test_on_tpus_the_checks_see_that_every_device_encodes_all_rows(tpu_programs):
    assert shared_work(tpu_programs["naive", 1024], 1024, 8) > 10
