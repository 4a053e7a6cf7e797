"""What is particular to the ranking losses: traced settings, learnable scale, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config

from jaxembed.losses import (
    multiple_negatives_ranking_loss,
    multiple_negatives_symmetric_ranking_loss,
)
from tests.losses.cases.case import pair, with_negatives


@pytest.fixture
def pairs():
    return [jnp.asarray(x, jnp.float32) for x in pair(np.random.default_rng(0), 5)]


@pytest.fixture
def triplets():
    return [jnp.asarray(x, jnp.float32) for x in with_negatives(2)(np.random.default_rng(0), 5)]


@pytest.fixture
def unchecked():
    """Lets wrong shapes reach the function's own checks."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def test_scale_is_learnable_and_sweeps_as_an_array(pairs):
    slope = jax.grad(lambda scale: multiple_negatives_ranking_loss(*pairs, scale=scale))(2.0)
    assert np.isfinite(slope)
    assert slope != 0
    scales = jnp.array([1.0, 20.0])
    swept = jax.vmap(lambda scale: multiple_negatives_ranking_loss(*pairs, scale=scale))(scales)
    single = [multiple_negatives_ranking_loss(*pairs, scale=scale) for scale in (1.0, 20.0)]
    np.testing.assert_allclose(swept, single, rtol=1e-6)


def test_second_derivatives_exist(pairs):
    hessian = jax.hessian(multiple_negatives_ranking_loss)(*pairs)
    assert np.isfinite(hessian).all()


def test_one_row_in_all_four_directions_costs_log_two(pairs):
    directions = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
    row = [x[:1] for x in pairs]
    loss = multiple_negatives_ranking_loss(*row, directions=directions)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    assert multiple_negatives_ranking_loss(*row) == 0


def test_hardness_is_a_constant_to_the_gradient(triplets):
    settings = {"hardness_mode": "all_negatives", "hardness_strength": 5.0}
    anchors, positives, negatives = triplets

    def loss(anchors, frozen):
        """The same value with the penalty built by hand from frozen similarities."""
        unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
        documents = unit(jnp.concatenate([positives, negatives.reshape(10, -1)]))
        positive = jnp.eye(5, 15, dtype=bool)
        penalty = jnp.where(positive, 0, 5.0 * (unit(frozen) @ documents.T))
        logits = 20.0 * unit(anchors) @ documents.T + penalty
        return -jnp.mean(jnp.diagonal(jax.nn.log_softmax(logits)))

    expected = jax.grad(loss)(anchors, anchors)
    actual = jax.grad(multiple_negatives_ranking_loss)(*triplets, **settings)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_ids_take_duplicates_out_of_the_denominator():
    anchors = jnp.eye(3, 4)
    positives = jnp.concatenate([jnp.eye(2, 4), jnp.eye(1, 4)])  # row 2 has the positive of row 0
    ids = jnp.array([[0, 1], [0, 2], [0, 1]], jnp.uint32)
    without = multiple_negatives_ranking_loss(anchors, positives, reduce_fn=None)
    with_ids = multiple_negatives_ranking_loss(anchors, positives, ids=ids, reduce_fn=None)
    np.testing.assert_allclose(without[0], np.log(2), rtol=1e-4)
    assert with_ids[0] < 1e-4
    np.testing.assert_allclose(without[1], with_ids[1])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"scale": 0}, "scale must be above 0; got 0"),
        ({"scale": -1.5}, "scale must be above 0; got -1.5"),
        ({"hardness_strength": -1.0}, "hardness_strength must not be below 0"),
        ({"hardness_mode": "hard"}, "hardness_mode must be one of .* got 'hard'"),
        ({"directions": ("doc_to_query",)}, 'directions must hold "query_to_doc"'),
        ({"directions": "query_to_doc"}, "directions must be a sequence"),
        ({"directions": ("query_to_doc", "up")}, "directions must be one of .* got 'up'"),
        ({"partition_mode": "split"}, "partition_mode must be one of"),
        (
            {"partition_mode": "per_direction", "directions": ("query_to_doc", "doc_to_doc")},
            'partition_mode "per_direction" takes',
        ),
        ({"negatives_where": jnp.ones((5, 2), bool)}, "negatives_where needs negatives"),
    ],
)
def test_wrong_settings_are_refused(pairs, keywords, message):
    with pytest.raises(ValueError, match=message):
        multiple_negatives_ranking_loss(*pairs, **keywords)


def test_ids_without_ids_of_negatives_are_refused(triplets):
    with pytest.raises(ValueError, match="ids and negative_ids go together"):
        multiple_negatives_ranking_loss(*triplets, ids=jnp.zeros((5, 2), jnp.uint32))


def test_wrong_shapes_are_refused(triplets, unchecked):
    anchors, positives, negatives = triplets
    with pytest.raises(ValueError, match=r"positives must have the shape of anchors, \(5, 6\)"):
        multiple_negatives_ranking_loss(anchors, positives[:4])
    with pytest.raises(ValueError, match=r"negatives must be \[5 k 6\]; got \(5, 2, 3\)"):
        multiple_negatives_ranking_loss(anchors, positives, negatives[..., :3])
    with pytest.raises(ValueError, match=r"where must have the shape \(5,\)"):
        multiple_negatives_symmetric_ranking_loss(anchors, positives, where=jnp.ones(4, bool))


def test_traced_settings_are_not_checked(pairs):
    loss = jax.jit(lambda scale: multiple_negatives_ranking_loss(*pairs, scale=scale))(-1.0)
    assert np.isfinite(loss)
