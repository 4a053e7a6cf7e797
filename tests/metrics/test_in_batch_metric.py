"""In-batch accuracy against loops, with masks, blocks and ties."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from jaxembed.metrics import in_batch_accuracy


def reference(anchors, positives, where):
    right = rows = 0
    for i, anchor in enumerate(anchors):
        if not where[i]:
            continue
        rows += 1
        best, best_cosine = None, -np.inf
        for j, positive in enumerate(positives):
            if not where[j]:
                continue
            cosine = anchor @ positive / (np.linalg.norm(anchor) * np.linalg.norm(positive))
            if cosine > best_cosine:
                best, best_cosine = j, cosine
        right += best == i
    return right / rows


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    anchors = rng.normal(size=(23, 6)).astype(np.float32)
    positives = anchors + rng.normal(size=(23, 6)).astype(np.float32)
    positives *= rng.uniform(0.1, 10, (23, 1)).astype(np.float32)
    return anchors, positives, rng.random(23) < 0.7


@pytest.mark.parametrize("block_size", [None, 1, 4, 23, 50])
@pytest.mark.parametrize("masked", [False, True])
def test_accuracy_equals_a_loop_over_all_pairs(pairs, masked, block_size):
    anchors, positives, where = pairs
    where = where if masked else np.ones_like(where)
    expected = reference(anchors, positives, where)
    found = jax.jit(in_batch_accuracy, static_argnames="block_size")(
        jnp.array(anchors),
        jnp.array(positives),
        where=jnp.array(where) if masked else None,
        block_size=block_size,
    )
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert 0.2 < expected < 0.9


def test_masked_rows_do_not_change_the_accuracy_whatever_they_hold(pairs):
    anchors, positives, where = pairs
    expected = in_batch_accuracy(jnp.array(anchors[where]), jnp.array(positives[where]))
    anchors[~where] = positives[~where] = np.nan
    found = in_batch_accuracy(jnp.array(anchors), jnp.array(positives), where=jnp.array(where))
    assert found == expected


def test_no_real_row_gives_zero():
    rows = jnp.eye(3)
    assert in_batch_accuracy(rows, rows, where=jnp.zeros(3, bool)) == 0


def test_a_collapsed_model_is_at_chance():
    rows = jnp.ones((5, 4))
    np.testing.assert_allclose(in_batch_accuracy(rows, rows), 1 / 5, rtol=1e-6)


def test_no_gradient_flows_through_the_accuracy(pairs):
    anchors, positives, _ = map(jnp.array, pairs)
    gradients = jax.grad(in_batch_accuracy, argnums=(0, 1))(anchors, positives)
    assert not any(jnp.any(gradient) for gradient in gradients)


def test_blocks_keep_the_memory_linear():
    rows = jax.ShapeDtypeStruct((4096, 16), jnp.float32)
    lowered = jax.jit(in_batch_accuracy, static_argnames="block_size").lower(
        rows, rows, block_size=64
    )
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 4096 * 4096 * 4 / 8


def test_arrays_of_different_shapes_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else beartype is first
    with pytest.raises(ValueError, match=r"one shape, got \(3, 2\) and \(4, 2\)"):
        in_batch_accuracy(jnp.ones((3, 2)), jnp.ones((4, 2)))
