"""Small losses keep their digits, by sums of 60 digits; every loss takes every float type.

The gradient of an exact sum is its difference quotient with a step of 1e-20.
"""

import functools
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import losses
from jaxembed.losses import elementwise, reranking
from jaxembed.similarity import unit
from jaxembed.transforms import over_mesh
from tests.arrays import cast
from tests.losses.cases import CASES, RICHEST

STEP = Decimal("1e-20")
NEVER: Any = Decimal("-1e6")  # the logit of what is no candidate

exp, ln, root = (np.vectorize(f, otypes=[object]) for f in (Decimal.exp, Decimal.ln, Decimal.sqrt))
decimals = np.vectorize(lambda x: Decimal(float(x)), otypes=[object])

# The losses in decimals --------------------------------------------------------------------------


def cross_entropy(logits, labels=(0, 1)):
    """The mean of `log Σ exp(logits_i) - logits_i[labels_i]`."""
    return np.mean(ln(exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), list(labels)])


def directions(x, y, *others):
    """The logits of x against y, and off the diagonal of the other pairs of columns."""
    x, y = (z / root((z * z).sum(axis=1, keepdims=True)) for z in (x, y))
    columns = {"x": x, "y": y}
    its = [100 * columns[left] @ columns[right].T for left, right in others]
    own = np.eye(len(x), dtype=bool)
    return np.concatenate([100 * x @ y.T, *(np.where(own, NEVER, z) for z in its)], axis=1)


def ranking(x, y):
    return cross_entropy(directions(x, y))


def symmetric(x, y):
    return (ranking(x, y) + ranking(y, x)) / 2


def guided(x, y):
    return cross_entropy(directions(x, y, "xx", "yy"))


def cosent(x, y):
    """Of two pairs, of which the first has the greater score."""
    x, y = (z / root((z * z).sum(axis=1, keepdims=True)) for z in (x, y))
    above, below = 20 * (x * y).sum(axis=1)
    return (1 + (below - above).exp()).ln()


def tension(x, y):
    same, other = (x * y).sum(axis=1)
    return (1 + (-same).exp()).ln() + (1 + other.exp()).ln()


def first_class(scores):
    return cross_entropy(scores, (0, 0))


def listmle(scores):
    return sum(first_class(scores[:, place:]) for place in range(scores.shape[1]))


def listnet(scores):
    targets = exp(decimals(TARGETS))
    targets /= targets.sum(axis=1, keepdims=True)
    return -np.mean((targets * (scores - ln(exp(scores).sum(axis=1, keepdims=True)))).sum(axis=1))


# The losses in JAX -------------------------------------------------------------------------------


class Small(NamedTuple):
    name: str
    loss: Callable[..., Any]
    exact: Callable[..., Any]
    arrays: tuple[Any, ...]


X, NEAR, FAR = (jnp.array([[1, a], [a, 1]]) for a in (0.0, 0.9, 0.45))
SCORES = jnp.array([[30.0, 10.0, -12.0], [25.0, 9.0, -6.0]])
TARGETS = jnp.array([[60.0, 0.0, 0.0], [50.0, 1.0, 0.0]])
LABELS, FIRST = jnp.array([0, 0]), jnp.array([1, 0])
IN_BATCH = [
    Small(loss.__name__, functools.partial(loss, **keywords), exact, (X, positives))
    for loss, keywords, exact, positives in (
        (losses.multiple_negatives_ranking_loss, {"scale": 100.0}, ranking, NEAR),
        (losses.multiple_negatives_symmetric_ranking_loss, {"scale": 100.0}, symmetric, NEAR),
        (losses.contrastive_tension_in_batch_negatives_loss, {"scale": 100.0}, symmetric, NEAR),
        (
            losses.gist_embed_loss,
            {"guide_anchors": jnp.eye(2), "guide_positives": jnp.eye(2) + 0.1},
            guided,
            FAR,
        ),
        (
            losses.angle_loss,
            {"scores": jnp.ones(2), "ibn_w": 1.0, "angle_w": 0.0, "cosine_tau": 0.01},
            ranking,
            NEAR,
        ),
    )
]
IN_BATCH.append(
    Small(
        "multi_vector_multiple_negatives_ranking_loss",
        functools.partial(losses.multi_vector_multiple_negatives_ranking_loss, scale=100.0),
        lambda x, y: cross_entropy(100 * x[:, 0] @ y[:, 0, 0].T),
        (X[:, None], unit(NEAR)[:, None, None]),  # of one token each
    )
)
OF_ROWS = [
    Small(name, functools.partial(loss, **keywords), exact, arrays)
    for name, loss, keywords, exact, arrays in (
        (
            "cosent",
            losses.cosent_loss,
            {"scores": FIRST},
            cosent,
            (X, jnp.array([[1, 0], [1, -3.0]])),
        ),
        (
            "tension",
            losses.contrastive_tension_loss,
            {"labels": FIRST},
            tension,
            (jnp.array([[5.0, 3.0], [-4.0, 3.0]]), jnp.array([[4.0, 1.0], [5.0, 0.5]])),
        ),
        ("softmax", losses.softmax_loss, {"labels": LABELS}, first_class, (SCORES,)),
        ("classes", reranking.cross_entropy_loss, {"labels": LABELS}, first_class, (SCORES,)),
        (
            "reranking",
            reranking.multiple_negatives_ranking_loss,
            {"scale": 1.0, "activation_fn": elementwise.identity},
            first_class,
            (SCORES,),
        ),
        ("listmle", reranking.listmle_loss, {}, listmle, (SCORES,)),
        ("listnet", reranking.listnet_loss, {"labels": TARGETS}, listnet, (SCORES,)),
    )
]


def exactly(small: Small) -> tuple[float, np.ndarray]:
    """Returns the value and its gradient by the entries of the first array."""
    with localcontext() as context:
        context.prec = 60
        first, *rest = map(decimals, small.arrays)
        value = small.exact(first, *rest)
        gradient = np.zeros(first.shape)
        for place in np.ndindex(*first.shape):
            moved = first.copy()
            moved[place] += STEP
            gradient[place] = (small.exact(moved, *rest) - value) / STEP
        return float(value), gradient


def assert_exact(small: Small, loss: Callable[..., Any]) -> None:
    expected_value, expected = exactly(small)
    assert 0 < expected_value < 1e-3
    value, gradient = jax.jit(jax.value_and_grad(loss))(*small.arrays)
    np.testing.assert_allclose(value, expected_value, rtol=1e-4)
    np.testing.assert_allclose(gradient, expected, rtol=2e-4, atol=1e-4 * np.abs(expected).max())


of_each = functools.partial(pytest.mark.parametrize, ids=lambda small: small.name)


@of_each("small", [*IN_BATCH, *OF_ROWS])
def test_a_small_loss_keeps_its_digits(small):
    assert_exact(small, small.loss)


@of_each("small", IN_BATCH)
@pytest.mark.parametrize("how", ["blocks", "devices", "ring"])
def test_a_small_loss_keeps_its_digits_in_blocks_and_over_devices(small, how):
    loss = functools.partial(small.loss, block_size=1)
    if how != "blocks":
        mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        loss = over_mesh(loss, mesh, ring=how == "ring")
    assert_exact(small, loss)


def test_the_published_example():
    loss = losses.multiple_negatives_ranking_loss(X, NEAR, scale=100)
    np.testing.assert_allclose(loss, 5.9127e-4, rtol=1e-5)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=() if case in RICHEST else pytest.mark.exhaustive)
        for case in CASES
    ],
)
@pytest.mark.parametrize(
    ("dtype", "x64"),
    [
        ("float16", False),
        ("float32", True),
        pytest.param("float16", True, marks=pytest.mark.exhaustive),
        pytest.param("bfloat16", True, marks=pytest.mark.exhaustive),
    ],
)
def test_every_loss_takes_every_float_and_gives_float32(case, dtype, x64):
    columns, rows = case.inputs(4)
    parameters = case.parameters(np.random.default_rng(0))
    with jax.enable_x64(x64), jax.numpy_dtype_promotion("standard"):
        columns, rows, parameters = cast((columns, rows, parameters), dtype)
        loss = lambda columns: case.loss(*columns, **rows, **parameters, **case.settings)  # noqa: E731
        value, gradients = jax.eval_shape(jax.value_and_grad(loss), columns)
    assert value.dtype == jnp.float32
    assert all(gradient.dtype == dtype for gradient in jax.tree.leaves(gradients))
