"""Wrong use of a loss is refused with what was expected and what came."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config

from jaxembed import losses

N, D, K = 4, 6, 2
X, Y = jnp.ones((N, D)), jnp.ones((N, D)) / 2
NEGATIVES = jnp.ones((N, K, D))
LABELS, SCORES = jnp.arange(N), jnp.linspace(0.0, 1.0, N)
GUIDE = {"guide_anchors": X, "guide_positives": Y}


@pytest.fixture(autouse=True)
def unchecked():
    """Lets wrong shapes and dtypes reach the functions' own checks."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


# loss, arrays, keywords, message
WRONG = [
    ("cosent_loss", (X,), {"scores": SCORES}, "cosent_loss takes the arrays left, right; got 1"),
    ("mega_batch_margin_loss", (X, Y, NEGATIVES), {}, "takes the arrays anchors, positives; got 3"),
    ("sigmoid_loss", (X, Y, NEGATIVES), {}, "takes the arrays anchors, positives; got 3"),
    ("triplet_loss", (X, Y), {}, "takes the arrays anchors, positives, negatives; got 2"),
    ("batch_all_triplet_loss", (X, Y), {"labels": LABELS}, "takes the arrays embeddings; got 2"),
    (
        "multiple_negatives_ranking_loss",
        (X,),
        {},
        r"takes the arrays anchors, positives, negatives \(optional\); got 1",
    ),
    *(
        (loss, (X,), {"labels": SCORES}, "labels must be integers; got float32")
        for loss in (
            "batch_hard_triplet_loss",
            "batch_hard_soft_margin_triplet_loss",
            "batch_semi_hard_triplet_loss",
            "batch_all_triplet_loss",
            "softmax_loss",
        )
    ),
    (
        "denoising_auto_encoder_loss",
        (NEGATIVES,),
        {"target_ids": jnp.ones((N, K)), "pad_id": 0},
        "target_ids must be integers; got float32",
    ),
    *(
        (loss, (X,), {"labels": LABELS, "margin": -0.5}, "margin must not be below 0; got -0.5")
        for loss in (
            "batch_hard_triplet_loss",
            "batch_semi_hard_triplet_loss",
            "batch_all_triplet_loss",
        )
    ),
    *(
        (loss, (X, Y), {"labels": LABELS, "margin": -1}, "margin must not be below 0; got -1")
        for loss in ("contrastive_loss", "online_contrastive_loss")
    ),
    ("triplet_loss", (X, Y, X), {"margin": -0.1}, "margin must not be below 0; got -0.1"),
    ("gist_embed_loss", (X, Y), {**GUIDE, "margin": -0.1}, "margin must not be below 0; got -0.1"),
    *(
        (loss, (X, Y), {"scale": 0, **keywords}, "scale must be above 0; got 0")
        for loss, keywords in (
            ("multiple_negatives_ranking_loss", {}),
            ("multiple_negatives_symmetric_ranking_loss", {}),
            ("mega_batch_margin_loss", {}),
            ("sigmoid_loss", {}),
            ("contrastive_tension_loss", {"labels": LABELS}),
            ("contrastive_tension_in_batch_negatives_loss", {}),
            ("cosent_loss", {"scores": SCORES}),
            ("angle_loss", {"scores": SCORES}),
        )
    ),
    ("gist_embed_loss", (X, Y), {**GUIDE, "temperature": 0.0}, "temperature must be above 0"),
    (
        "gist_embed_loss",
        (X, Y),
        {**GUIDE, "margin_strategy": "none"},
        r"margin_strategy must be one of \['absolute', 'relative'\]; got 'none'",
    ),
    ("gist_embed_loss", (X, Y, NEGATIVES), GUIDE, "negatives and guide_negatives go together"),
    (
        "gist_embed_loss",
        (X, Y),
        {"guide_anchors": X[:3], "guide_positives": Y[:3]},
        r"guide_anchors must start with the axes \(4,\); got shape \(3, 6\)",
    ),
    ("contrastive_loss", (X, Y), {"labels": LABELS[:3]}, r"labels must be one per row, \(4,\)"),
    (
        "contrastive_loss",
        (X, Y),
        {"labels": LABELS, "where": LABELS[:, None] > 0},
        r"where must have the shape \(4,\); got \(4, 1\)",
    ),
    ("mse_loss", (X,), {"teacher": X, "where": LABELS}, "where must be booleans; got int32"),
    ("mse_loss", (X > 0,), {"teacher": X}, "embeddings and scores must be floats; got bool"),
    ("contrastive_loss", (X, Y[:3]), {"labels": LABELS}, r"right must have the shape of left"),
    ("cosine_similarity_loss", (X, Y), {"scores": X}, "scores must be one per row"),
    ("cosent_loss", (X, Y), {"scores": SCORES[:2]}, r"scores must have the shape \(4,\)"),
    (
        "angle_loss",
        (X, Y),
        {},
        r"angle_loss needs scores \[n\] or negatives \[n k d\]; got neither",
    ),
    ("angle_loss", (X, Y), {"scores": SCORES, "ibn_w": -1.0}, "ibn_w must not be below 0"),
    (
        "triplet_loss",
        (X, Y, jnp.ones((N, K, D + 1))),
        {},
        r"negatives must be \[4 6\] or \[4 k 6\]; got \(4, 2, 7\)",
    ),
    ("mse_loss", (X,), {"teacher": X[:, :3]}, r"teacher must have the shape of student, \(4, 6\)"),
    (
        "embed_distill_loss",
        (X,),
        {"teacher": X, "distance": "dot"},
        r"distance must be one of \['cosine', 'mse', 'l2'\]; got 'dot'",
    ),
    ("margin_mse_loss", (X, Y, NEGATIVES), {}, "exactly one of margins, scores; got none"),
    (
        "margin_mse_loss",
        (X, Y, NEGATIVES),
        {"margins": jnp.ones((N, K)), "scores": jnp.ones((N, K + 1))},
        "give exactly one of",
    ),
    (
        "margin_mse_loss",
        (X, Y, NEGATIVES),
        {"margins": jnp.ones((N, K + 1))},
        r"margins must have the shape \(4, 2\); got \(4, 3\)",
    ),
    (
        "distill_kl_div_loss",
        (X, NEGATIVES[:, :1]),
        {"scores": jnp.ones((N, 1))},
        r"candidates must be \[4 k 6\] with k of 2 or more; got \(4, 1, 6\)",
    ),
    ("distill_kl_div_loss", (X, NEGATIVES), {}, "exactly one of scores, teacher_queries; got none"),
    (
        "distill_kl_div_loss",
        (X, NEGATIVES),
        {"teacher_queries": X},
        "teacher_queries and teacher_candidates go together",
    ),
    (
        "distill_kl_div_loss",
        (X, NEGATIVES),
        {"scores": jnp.ones((N, K)), "temperature": 0.0},
        "temperature must be above 0; got 0.0",
    ),
    (
        "global_orthogonal_regularization_loss",
        (X,),
        {"mean_weight": 0, "second_moment_weight": 0.0},
        "must not both be 0",
    ),
    (
        "batch_all_triplet_loss",
        (X,),
        {"labels": LABELS, "where": LABELS[:2] > 0},
        r"where must have the shape \(4,\)",
    ),
]


@pytest.mark.parametrize(
    ("loss", "arrays", "keywords", "message"),
    WRONG,
    ids=[f"{loss}-{index}" for index, (loss, *_) in enumerate(WRONG)],
)
def test_wrong_use_is_refused(loss, arrays, keywords, message):
    with pytest.raises(ValueError, match=message):
        getattr(losses, loss)(*arrays, **keywords)


def test_all_features_of_a_pair_switched_off_are_refused():
    off = {"concatenation_sent_rep": False, "concatenation_sent_difference": False}
    with pytest.raises(ValueError, match="must be True; got False for all"):
        losses.pair_features(X, Y, **off)


def test_traced_numbers_are_not_checked():
    loss = jax.jit(lambda margin: losses.triplet_loss(X, Y, X, margin=margin))(-1.0)
    assert jnp.isfinite(loss)


def test_names_may_stand_for_positions():
    assert losses.mse_loss(student=X, teacher=X) == 0


def test_a_label_out_of_range_shows_as_not_a_number():
    values = losses.softmax_loss(X, labels=jnp.array([0, D - 1, D, -1]), reduce_fn=None)
    assert jnp.array_equal(jnp.isnan(values), jnp.array([False, False, True, True]))


def test_numpy_arrays_are_taken_and_left_as_they_were():
    where = np.array([True, True, False, True])
    ids = np.arange(2 * N, dtype=np.uint32).reshape(N, 2)
    arrays: Any = {"ids": ids, "where": where, "scale": 1.0}
    x: Any = np.asarray(jax.random.normal(jax.random.key(0), (N, D)))
    loss = jax.jit(lambda y: losses.multiple_negatives_ranking_loss(y, x, **arrays))(x)
    expected = losses.multiple_negatives_ranking_loss(
        jnp.asarray(x), jnp.asarray(x), **jax.tree.map(jnp.asarray, arrays)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert where.tolist() == [True, True, False, True]
