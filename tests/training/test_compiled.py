"""Costs read from compiled programs: known programs, compiled for CPUs and for TPUs."""

from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P, SingleDeviceSharding

from jaxembed.training.compiled import program_cost
from tests.tpu_programs import needs_libtpu, on_tpus

ONE = 2 * 96 * 80 * 80  # flops of the product of [96, 80] and [80, 80]
FLOAT = 4  # bytes


def dense(x, w):
    return x @ w


def transposed(x, w):
    return (w.T @ x.T).T


def in_fusion(x, w):
    return jax.nn.gelu(jnp.sin(x) @ w + 1.0)


def batched(x, w):
    return jnp.einsum(
        "bnd,bdm->bnm", x.reshape(12, 8, 80), w.reshape(1, 80, 80) * jnp.ones((12, 1, 1))
    )


def heads(x, w):
    return jnp.einsum("bnhd,bmhd->bhnm", x.reshape(2, 48, 4, 20), w.reshape(2, 40, 4, 20))


def scans(x, w):
    def inner(x, _):
        return jnp.tanh(x @ w), None

    def outer(x, _):
        return lax.scan(inner, x, length=5)[0] + 1, None

    return lax.scan(outer, x, length=7)[0]


def gradient_of_scans(x, w):
    return jax.grad(lambda w: jnp.sum(scans(x, w) ** 2))(w)


def counted_by_three(x, w):
    return lax.while_loop(lambda c: c[0] < 11, lambda c: (c[0] + 3, jnp.tanh(c[1] @ w)), (1, x))


def branches(x, w):
    return lax.cond(x.sum() > 0, lambda: x @ w, lambda: (x @ w) @ w)


def convolution(x, w):
    x, w = x.reshape(1, 16, 6, 80), jnp.broadcast_to(w, (3, 3, 80, 80))
    return lax.conv_general_dilated(
        x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


FLOPS = {
    dense: ONE,
    transposed: ONE,
    in_fusion: ONE,
    batched: ONE,
    heads: 2 * (2 * 48 * 4 * 40) * 20,
    scans: 7 * 5 * ONE,
    gradient_of_scans: 3 * 7 * 5 * ONE,
    counted_by_three: 4 * ONE,  # 1, 4, 7, 10
    branches: 3 * ONE,  # of both
    convolution: 2 * (14 * 4 * 80) * (3 * 3 * 80),
}


def flops(devices, name):
    """Of one of the programs above, compiled for the first device."""
    sharding = SingleDeviceSharding(devices[0])
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32, sharding=sharding) for s in ((96, 80), (80, 80))]
    return program_cost(jax.jit(globals()[name]).lower(*shapes).compile()).flops


def all_flops(devices):
    return {function.__name__: flops(devices, function.__name__) for function in FLOPS}


@pytest.fixture(scope="module")
def tpu_flops():
    return on_tpus(all_flops)


@pytest.mark.parametrize("function", FLOPS, ids=lambda function: function.__name__)
def test_products_of_a_cpu_program_are_counted(function):
    assert flops(jax.devices(), function.__name__) == FLOPS[function]


@needs_libtpu
@pytest.mark.parametrize("function", FLOPS, ids=lambda function: function.__name__)
def test_products_of_a_tpu_program_are_counted(function, tpu_flops):
    assert tpu_flops[function.__name__] == FLOPS[function]


def until(x, w):
    return lax.while_loop(lambda x: x.sum() < 3, lambda x: jnp.tanh(x @ w), x)


def until_another(x, w):  # what is compared grows by one, but from something else
    def turn(carry):
        count, other, x = carry
        return other + 1, 2 * count, jnp.tanh(x @ w)

    return lax.while_loop(lambda carry: carry[0] < 30, turn, (1, 1, x))


def until_without_products(x, w):
    return lax.while_loop(lambda x: x.sum() < 3, jnp.tanh, x) @ w


def refusal(devices, name):
    """The reason why the products of a program cannot be counted."""
    with pytest.raises(ValueError, match="unknown") as refused:
        flops(devices, name)
    return str(refused.value)


@pytest.mark.parametrize("name", ["until", "until_another"])
def test_a_product_in_a_loop_that_turns_unknown_times_is_refused(name):
    assert "use lax.scan" in refusal(jax.devices(), name)


@needs_libtpu
@pytest.mark.parametrize("name", ["until", "until_another"])
def test_a_product_in_such_a_loop_of_a_tpu_program_is_refused(name):
    assert "use lax.scan" in on_tpus(refusal, name)


def test_a_loop_without_products_may_turn_as_often_as_it_likes():
    assert flops(jax.devices(), "until_without_products") == ONE


def kernel(x, w):
    from jax.experimental import pallas as pl

    def multiply(x, w, out):
        out[...] = x[...] @ w[...]

    return pl.pallas_call(multiply, out_shape=jax.ShapeDtypeStruct((96, 80), jnp.float32))(x, w)


def refusal_of_kernel(devices):
    with pytest.raises(ValueError, match="tpu_custom_call") as refused:
        flops(devices, "kernel")
    return str(refused.value)


@needs_libtpu
def test_a_product_in_a_kernel_is_refused():
    assert "without that kernel" in on_tpus(refusal_of_kernel)


def collectives(devices):
    """The cost of a program with every kind of collective, three sums of them in a loop."""
    mesh = Mesh(np.array(devices), ("data",))
    shards = len(devices)

    def local(x):  # [256, 512] on each device
        def add(total, _):
            return total + lax.pcast(lax.psum(jnp.sin(total), "data"), "data", to="varying"), None

        x = lax.scan(add, x, length=3)[0]
        gathered = lax.all_gather(jnp.sin(x), "data", tiled=True)
        scattered = lax.psum_scatter(jnp.cos(x), "data", tiled=True)
        moved = lax.ppermute(jnp.exp(x), "data", [(i, (i + 1) % shards) for i in range(shards)])
        exchanged = lax.all_to_all(jnp.tanh(x), "data", 0, 0, tiled=True)
        return gathered, scattered, moved, exchanged, lax.psum(x.sum(), "data")

    specs = (P("data"), P("data"), P("data"), P("data"), P())
    shards_of = jax.shard_map(local, mesh=mesh, in_specs=P("data"), out_specs=specs)
    x = jax.ShapeDtypeStruct(
        (256 * shards, 512), jnp.float32, sharding=NamedSharding(mesh, P("data"))
    )
    return asdict(program_cost(jax.jit(shards_of).lower(x).compile()))


def check_collectives(cost, shards):
    array = 256 * 512 * 4
    assert cost["loop_collectives"] == {"all-reduce": {"count": 3, "bytes": 3 * array}}
    assert cost["collectives"] == {
        "all-gather": {"count": 1, "bytes": shards * array},
        "all-reduce": {"count": 1, "bytes": 4},
        "all-to-all": {"count": 1, "bytes": array},
        "collective-permute": {"count": 1, "bytes": array},
        "reduce-scatter": {"count": 1, "bytes": array},
    }


def test_collectives_of_a_cpu_program_are_counted_inside_and_outside_of_loops():
    check_collectives(collectives(jax.devices()), 2)


@needs_libtpu
def test_collectives_of_a_tpu_program_are_counted_inside_and_outside_of_loops():
    check_collectives(on_tpus(collectives), 8)


def test_memory_is_that_of_arguments_outputs_and_temporaries():
    x = jnp.ones((256, 256))
    cost = program_cost(
        jax.jit(lambda x: jnp.sort(x @ x, 0) @ x, donate_argnums=0).lower(x).compile()
    )
    assert (cost.argument_bytes, cost.output_bytes, cost.aliased_bytes) == (256 * 256 * 4,) * 3
    assert cost.temporary_bytes >= 256 * 256 * 4
    assert cost.memory_bytes == 256 * 256 * 4 + cost.temporary_bytes


def test_memory_traffic_is_what_fusions_read_and_write():
    x = jnp.zeros((64, 1000))
    once = program_cost(jax.jit(lambda x: jnp.sin(x) * 2 + 1).lower(x).compile())
    assert once.memory_traffic == 2 * x.nbytes


def test_memory_traffic_of_a_loop_counts_the_slices_that_it_reads():
    stacked, x = jnp.zeros((64, 5000)), jnp.zeros(5000)

    def through(x, stacked):
        return lax.scan(lambda x, row: (jnp.tanh(x) * row, None), x, stacked)[0]

    found = program_cost(jax.jit(through).lower(x, stacked).compile())
    turn = found.memory_traffic / 64 / x.nbytes
    assert 2.9 < turn < 8  # row and x are read, x is written, and some copies; not all rows
