"""Losses of any number of rows, negatives and features equal their references, empty ones too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxembed import losses
from tests.losses.references import distillation, in_batch, pairs, ranking, triplets


def columns(rng, n, k, d):
    anchors, positives = rng.normal(size=(2, n, d))
    return anchors, positives, rng.normal(size=(n, k, d))


def one_negative_or_more(rng, n, k, d):
    return columns(rng, n, k + 1, d)


def two_candidates_or_more(rng, n, k, d):
    queries, _, candidates = columns(rng, n, k + 2, d)
    return queries, candidates


def one_column(rng, n, k, d):
    return (rng.normal(size=(n, d)),)


def two_columns(rng, n, k, d):
    return columns(rng, n, k, d)[:2]


NO_KEYWORDS = lambda rng, n, k: {}  # noqa: E731
CLASSES = lambda rng, n, k: {"labels": rng.integers(0, 3, size=n)}  # noqa: E731
SCORES = lambda rng, n, k: {"scores": rng.integers(0, 5, size=n) / 4}  # noqa: E731
MARGINS = lambda rng, n, k: {"margins": rng.normal(size=(n, k + 1))}  # noqa: E731
TEACHER = lambda rng, n, k: {"scores": rng.normal(size=(n, k + 2))}  # noqa: E731

SHAPED = [
    (losses.multiple_negatives_ranking_loss, ranking, columns, NO_KEYWORDS),
    (losses.sigmoid_loss, in_batch, two_columns, NO_KEYWORDS),
    (losses.angle_loss, pairs, columns, SCORES),
    (losses.triplet_loss, triplets, one_negative_or_more, NO_KEYWORDS),
    (losses.batch_hard_triplet_loss, triplets, one_column, CLASSES),
    (losses.batch_semi_hard_triplet_loss, triplets, one_column, CLASSES),
    (losses.batch_all_triplet_loss, triplets, one_column, CLASSES),
    (losses.margin_mse_loss, distillation, one_negative_or_more, MARGINS),
    (losses.distill_kl_div_loss, distillation, two_candidates_or_more, TEACHER),
]


@pytest.mark.parametrize(
    ("loss", "references", "embeddings", "keywords"),
    SHAPED,
    ids=[row[0].__name__ for row in SHAPED],
)
@given(n=st.integers(1, 6), k=st.integers(0, 3), d=st.integers(2, 7), seed=st.integers(0, 99))
@settings(max_examples=6, deadline=None, derandomize=True)
def test_any_shape_equals_the_reference(loss, references, embeddings, keywords, n, k, d, seed):
    rng = np.random.default_rng(seed)
    arrays, rows = embeddings(rng, n, k, d), keywords(rng, n, k)
    expected = getattr(references, loss.__name__)(*arrays, **rows)
    with jax.enable_x64(True):
        floats = [jnp.asarray(array) for array in arrays]
        rows = {
            name: jnp.asarray(x, jnp.int32 if x.dtype.kind == "i" else None)
            for name, x in rows.items()
        }
        actual = jax.jit(loss)(*floats, **rows)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x, none: losses.multiple_negatives_ranking_loss(x, x, none),
        lambda x, none: losses.angle_loss(x, x, none, scores=x[:, 0]),
        lambda x, none: losses.triplet_loss(x, x, none),
        lambda x, none: losses.margin_mse_loss(x, x, none, margins=none[..., 0]),
    ],
    ids=["ranking", "angle", "triplet", "margin_mse"],
)
@pytest.mark.parametrize("n", [0, 3])
def test_no_negatives_and_no_rows_are_finite(compute, n):
    x = jax.random.normal(jax.random.key(0), (n, 4))
    value, gradient = jax.value_and_grad(compute)(x, jnp.zeros((n, 0, 4)))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
