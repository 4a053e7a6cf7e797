"""A candidate that equals the own positive is never closer than it, at any size of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed.losses import gist_embed_loss, multiple_negatives_ranking_loss

SIZES = (8, 100, 128, 1000, 1001)  # products of other sizes round differently


def rows(n, count):
    generator = np.random.default_rng(n)
    return [jnp.asarray(generator.normal(size=(n, 24)), jnp.float32) for _ in range(count)]


def ranking_loss(anchors, positives, scale):
    """The plain loss: no candidate left out."""
    anchors, positives = (
        np.float64(x) / np.linalg.norm(np.float64(x), axis=1, keepdims=True)
        for x in (anchors, positives)
    )
    logits = scale * anchors @ positives.T
    greatest = logits.max(axis=1)
    sums = greatest + np.log(np.sum(np.exp(logits - greatest[:, None]), axis=1))
    return np.mean(sums - np.diag(logits))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("block_size", [None, 64])
def test_a_guide_to_whom_all_positives_are_one_text_leaves_none_out(n, block_size):
    anchors, positives, guide_anchors, guide_positives = rows(n, 4)
    guide_positives = jnp.broadcast_to(guide_positives[0], guide_positives.shape)
    loss = jax.jit(gist_embed_loss, static_argnames=("contrast_anchors", "contrast_positives",
                                                     "block_size"))(
        anchors,
        positives,
        guide_anchors=guide_anchors,
        guide_positives=guide_positives,
        contrast_anchors=False,
        contrast_positives=False,
        block_size=block_size,
    )  # fmt: skip
    np.testing.assert_allclose(loss, ranking_loss(anchors, positives, 100), rtol=1e-5)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("block_size", [None, 64])
def test_a_duplicate_of_the_positive_is_within_a_margin_of_0(n, block_size):
    anchors, positives = rows(n, 2)
    positives = jnp.broadcast_to(positives[0], positives.shape)
    loss = jax.jit(
        multiple_negatives_ranking_loss, static_argnames=("block_size", "false_negative_margin")
    )(anchors, positives, false_negative_margin=0.0, block_size=block_size)
    np.testing.assert_allclose(loss, np.log(n), rtol=1e-5)
