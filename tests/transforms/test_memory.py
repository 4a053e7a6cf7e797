"""The memory of earlier batches against a deque, and as candidates of in-batch losses."""

from collections import deque
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from numpy.testing import assert_allclose, assert_array_equal

from jaxembed.losses import multiple_negatives_ranking_loss
from jaxembed.transforms.memory import Memory, as_negatives, init_memory, push

pytestmark = pytest.mark.usefixtures("strict_promotion")

D = 4
ranking: Any = multiple_negatives_ranking_loss
compiled_ranking = jax.jit(ranking)


def batch(rng, n, real=0.7):
    """Embeddings, ids and mask; what is not real holds NaN."""
    where = rng.random(n) < real
    embeddings = np.where(where[:, None], rng.normal(size=(n, D)), np.nan).astype(np.float32)
    return embeddings, rng.integers(0, 2**32, size=(n, 2), dtype=np.uint32), where


def contents(memory: Memory):
    """The stored pairs of embedding and id, the oldest first."""
    size, count, place = len(memory.embeddings), int(memory.count), int(memory.next)
    places = (place - count + np.arange(count)) % size
    return np.asarray(memory.embeddings)[places], np.asarray(memory.ids)[places]


def filled(size, seed=0, n=None):
    rng = np.random.default_rng(seed)
    embeddings, ids, _ = batch(rng, size if n is None else n, real=1.1)
    return push(init_memory(size, D), jnp.asarray(embeddings), jnp.asarray(ids))


# Pushing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 7, 16], ids=["fewer", "as many", "more than places"])
def test_pushes_are_those_of_a_deque(n):
    rng, size, traces = np.random.default_rng(n), 7, []
    memory, expected = init_memory(size, D), deque(maxlen=size)

    @jax.jit
    def compiled(*args):
        traces.append(args)
        return push(*args)

    for _ in range(8):
        embeddings, ids, where = batch(rng, n)
        memory = compiled(memory, embeddings, ids, where)
        expected.extend((embeddings[i], ids[i]) for i in range(n) if where[i])
        stored, stored_ids = contents(memory)
        assert_array_equal(stored, np.array([x for x, _ in expected]).reshape(-1, D))
        assert_array_equal(stored_ids, np.array([x for _, x in expected]).reshape(-1, 2))
    assert memory.count == size
    assert len(traces) == 1


def test_nothing_real_changes_nothing():
    memory = filled(5, n=3)
    embeddings, ids, where = batch(np.random.default_rng(1), 4, real=-1)
    pushed = jax.jit(push)(memory, embeddings, ids, where)
    jax.tree.map(assert_array_equal, pushed, memory)


def test_without_a_mask_all_rows_are_stored():
    embeddings, ids, _ = batch(np.random.default_rng(1), 4, real=1.1)
    memory = jax.jit(push)(init_memory(5, D), embeddings, ids)
    assert_array_equal(contents(memory)[0], embeddings)
    assert_array_equal(contents(memory)[1], ids)


def test_a_memory_in_bfloat16_stays_one():
    embeddings, ids, where = batch(np.random.default_rng(1), 4, real=1.1)
    memory = jax.jit(push)(init_memory(5, D, jnp.bfloat16), embeddings, ids, where)
    assert memory.embeddings.dtype == jnp.bfloat16
    assert_allclose(np.asarray(memory.embeddings[:4], np.float32), embeddings, rtol=1e-2)


def test_a_donated_memory_is_written_in_place():
    compiled = jax.jit(push, donate_argnums=0)
    memory, (embeddings, ids, where) = filled(64), batch(np.random.default_rng(1), 4)
    expected = push(memory, jnp.asarray(embeddings), jnp.asarray(ids), jnp.asarray(where))
    donated = jax.tree.map(jnp.copy, memory)
    usage: Any = compiled.lower(donated, embeddings, ids, where).compile().memory_analysis()
    assert usage.alias_size_in_bytes >= memory.embeddings.nbytes
    assert usage.temp_size_in_bytes < memory.embeddings.nbytes
    pushed = compiled(donated, embeddings, ids, where)
    jax.tree.map(assert_array_equal, pushed, expected)
    assert donated.embeddings.is_deleted()


def test_a_scan_carries_the_memory():
    rng = np.random.default_rng(0)
    batches = [batch(rng, 3) for _ in range(4)]
    step = lambda memory, batch: (push(memory, *batch), memory.count)  # noqa: E731
    stacked = jax.tree.map(lambda *x: np.stack(x), *batches)
    scanned, _ = jax.jit(lambda memory: jax.lax.scan(step, memory, stacked))(init_memory(5, D))
    expected = init_memory(5, D)
    for one in batches:
        expected = jax.jit(push)(expected, *one)
    jax.tree.map(assert_array_equal, scanned, expected)


def test_vmap_pushes_into_several_memories():
    batches = [batch(np.random.default_rng(i), 3) for i in range(2)]
    memories = [filled(5, seed=i, n=3 + i) for i in range(2)]
    stack = partial(jax.tree.map, lambda *x: jnp.stack(x))
    pushed = jax.jit(jax.vmap(push))(stack(*memories), *stack(*batches))
    expected = stack(*[jax.jit(push)(m, *b) for m, b in zip(memories, batches, strict=True)])
    jax.tree.map(assert_array_equal, pushed, expected)


def over_two_devices(memory):
    """The shardings of rows and of a memory spread by its places."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    rows, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    return rows, jax.tree.map(lambda x: rows if x.ndim else whole, memory)


def test_two_devices_hold_half_of_the_memory_each():
    expected, rng = init_memory(8, D), np.random.default_rng(0)
    rows, places = over_two_devices(expected)
    memory = jax.device_put(expected, places)

    @partial(jax.jit, out_shardings=(places, None))
    def step(memory, embeddings, ids, where):
        return push(memory, embeddings, ids, where), as_negatives(memory, 4)

    for _ in range(4):
        arrays = batch(rng, 4)
        memory, negatives = step(memory, *jax.device_put(arrays, rows))
        jax.tree.map(assert_array_equal, negatives, as_negatives(expected, 4))
        expected = jax.jit(push)(expected, *arrays)
        jax.tree.map(assert_array_equal, memory, expected)
    assert memory.embeddings.sharding.is_equivalent_to(rows, 2)


def test_a_spread_memory_stays_where_it_is():
    memory, arrays = init_memory(512, D), batch(np.random.default_rng(0), 8)
    rows, places = over_two_devices(memory)
    compiled = jax.jit(
        push, donate_argnums=0, in_shardings=(places, *[rows] * 3), out_shardings=places
    )
    usage: Any = compiled.lower(memory, *arrays).compile().memory_analysis()
    half = memory.embeddings.nbytes / 2
    assert half <= usage.alias_size_in_bytes < 2 * half
    assert usage.temp_size_in_bytes < half


# As candidates -----------------------------------------------------------------------------------


def pairs(n, seed=0):
    rng = np.random.default_rng(seed)
    anchors = rng.normal(size=(n, D)).astype(np.float32)
    positives = (0.7 * anchors + rng.normal(size=(n, D))).astype(np.float32)
    ids = rng.integers(0, 2**32, size=(n, 2), dtype=np.uint32)
    return jnp.asarray(anchors), jnp.asarray(positives), jnp.asarray(ids)


def ranking_by_hand(*arrays, scale=20.0):
    """The mean over rows of -log softmax over positives of the batch and extra candidates."""
    anchors, positives, ids, extra, extra_ids = map(np.asarray, arrays)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    values = []
    for i, anchor in enumerate(anchors):
        own = scale * unit(anchor) @ unit(positives[i])
        logits = [own]
        for candidates, their_ids in ((positives, ids), (extra, extra_ids)):
            for candidate, its_id in zip(candidates, their_ids, strict=True):
                if tuple(its_id) != tuple(ids[i]):
                    logits.append(scale * unit(anchor) @ unit(candidate))
        values.append(np.log(np.sum(np.exp(np.array(logits, np.float64)))) - own)
    return np.mean(values)


@pytest.mark.parametrize("count", [0, 5, 8, 11], ids=["empty", "partly", "full", "wrapped"])
def test_every_row_is_compared_with_the_whole_memory(count):
    anchors, positives, ids = pairs(4)
    memory = init_memory(8, D)
    earlier, earlier_ids, _ = batch(np.random.default_rng(1), count, real=1.1)
    for i in range(count):
        memory = jax.jit(push)(memory, earlier[i : i + 1], earlier_ids[i : i + 1])
    value = compiled_ranking(anchors, positives, ids=ids, **as_negatives(memory, 4))
    expected = ranking_by_hand(anchors, positives, ids, earlier[-8:], earlier_ids[-8:])
    assert_allclose(value, expected, rtol=1e-5)
    alone = compiled_ranking(anchors, positives, ids=ids)
    assert (value > alone + 1e-3) == (count > 0)


def test_a_stored_copy_of_the_own_positive_is_no_negative():
    anchors, positives, ids = pairs(4)
    memory = push(filled(8), positives[1:3], ids[1:3])
    loss = lambda memory: compiled_ranking(  # noqa: E731
        anchors, positives, ids=ids, **as_negatives(memory, 4)
    )
    stored, stored_ids = contents(memory)
    expected = ranking_by_hand(anchors, positives, ids, stored, stored_ids)
    assert_allclose(loss(memory), expected, rtol=1e-5)
    other_ids = memory._replace(ids=memory.ids + jnp.uint32(1))
    assert loss(other_ids) > expected + 0.01


def test_no_gradient_goes_into_the_memory():
    anchors, positives, ids = pairs(4)

    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def gradients(earlier, anchors):
        memory = push(init_memory(4, D), earlier, ids)
        return ranking(anchors, positives, ids=ids + jnp.uint32(1), **as_negatives(memory, 4))

    of_earlier, of_anchors = gradients(positives, anchors)
    assert_array_equal(of_earlier, np.zeros_like(of_earlier))
    assert np.abs(of_anchors).min() > 0


def test_the_slice_of_a_masked_row_is_no_candidate():
    anchors, positives, ids = pairs(4)
    memory, where = filled(8), jnp.array([True, True, True, False])
    value = compiled_ranking(anchors, positives, ids=ids, where=where, **as_negatives(memory, 4))
    expected = ranking_by_hand(
        anchors[:3], positives[:3], ids[:3], memory.embeddings[:6], memory.ids[:6]
    )
    assert_allclose(value, expected, rtol=1e-5)


def test_other_negatives_are_joined_along_axis_1():
    anchors, positives, ids = pairs(4)
    hard, hard_ids, _ = batch(np.random.default_rng(3), 8, real=1.1)
    memory = filled(8)
    hard_negatives = {
        "negatives": hard.reshape(4, 2, D),
        "negative_ids": hard_ids.reshape(4, 2, 2),
        "negatives_where": np.ones((4, 2), bool),
    }
    join = lambda *x: jnp.concatenate(x, axis=1)  # noqa: E731
    joined = jax.tree.map(join, hard_negatives, as_negatives(memory, 4))
    extra = np.concatenate([hard, memory.embeddings])
    extra_ids = np.concatenate([hard_ids, memory.ids])
    expected = ranking_by_hand(anchors, positives, ids, extra, extra_ids)
    value = compiled_ranking(anchors, positives, ids=ids, **joined)
    assert_allclose(value, expected, rtol=1e-5)


def test_training_carries_the_memory_without_compiling_again():
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(32, 6)).astype(np.float32)
    ids = rng.integers(0, 2**32, size=(32, 2), dtype=np.uint32)
    queries = texts + 0.3 * rng.normal(size=(32, 6)).astype(np.float32)

    def objective(params, memory, queries, texts, ids):
        anchors, positives = queries @ params, texts @ params
        loss = ranking(anchors, positives, ids=ids, **as_negatives(memory, 4))
        return loss, push(memory, positives, ids)

    traces = []

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, memory, *batch):
        traces.append(batch)
        (loss, memory), gradient = jax.value_and_grad(objective, has_aux=True)(
            params, memory, *batch
        )
        return params - 0.1 * gradient, memory, loss

    params = jnp.asarray(0.5 * rng.normal(size=(6, D)), jnp.float32)
    memory, curve = init_memory(16, D), []
    for i in range(64):
        rows = np.r_[4 * i : 4 * i + 4] % 32
        current = np.asarray(texts[rows] @ params)
        params, memory, loss = step(params, memory, queries[rows], texts[rows], ids[rows])
        assert_allclose(contents(memory)[0][-4:], current, rtol=1e-4, atol=1e-5)
        assert memory.count == min(4 * (i + 1), 16)
        curve.append(float(loss))
    assert len(traces) == 1
    assert np.mean(curve[-8:]) < 0.7 * np.mean(curve[8:16])


# Refusals ----------------------------------------------------------------------------------------


def test_a_size_that_is_no_multiple_of_the_rows_is_refused():
    with pytest.raises(ValueError, match=r"must be a multiple of the 4 rows; got 6"):
        as_negatives(init_memory(6, D), 4)
    with pytest.raises(ValueError, match=r"must be a multiple of the 0 rows; got 6"):
        as_negatives(init_memory(6, D), 0)


def test_a_memory_without_places_is_refused():
    with pytest.raises(ValueError, match="size must be at least 1; got 0"):
        init_memory(0, D)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((jnp.zeros((3, 2)), jnp.zeros((3, 2), jnp.uint32)), r"embeddings .* \(3, 4\); got \(3, 2"),
        ((jnp.zeros((3, D)), jnp.zeros(3, jnp.uint32)), r"ids .* \(3, 2\); got \(3,\)"),
        (
            (jnp.zeros((3, D)), jnp.zeros((3, 2), jnp.int32)),
            "ids must be unsigned .* int32",
        ),
        (
            (jnp.zeros((3, D)), jnp.zeros((3, 2), jnp.uint32), jnp.ones(2, bool)),
            r"where .* \(3,\); got \(2,\)",
        ),
        (
            (jnp.zeros((3, D)), jnp.zeros((3, 2), jnp.uint32), jnp.ones(3)),
            r"where must be booleans; got float32",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, message):
    with pytest.raises(ValueError, match=message):
        push(init_memory(6, D), *arrays)
