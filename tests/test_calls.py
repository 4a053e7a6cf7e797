"""Calls with values of another kind are refused in one line that names the argument."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config

from jaxembed import transforms
from jaxembed.losses import multiple_negatives_ranking_loss as ranking
from jaxembed.mining import Filters, mine
from jaxembed.search import top_k_search

X = jnp.ones((4, 6))
ZEROS, PLACES = np.zeros((2, 3)), np.arange(6).reshape(2, 3)
MEMORY = transforms.init_memory(4, 6)
IDS = jnp.zeros((4, 2), jnp.uint32)
matryoshka = functools.partial(transforms.matryoshka, ranking)


@pytest.fixture(autouse=True)
def unchecked():
    """Lets wrong values reach the functions' own checks."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def encode(params, tokens, *, key=None):
    return tokens @ params


WRONG = [
    (transforms.matryoshka, ("cosent", (2,)), {}, "loss of matryoshka must be a function"),
    (matryoshka, (64,), {}, "dims of matryoshka must be several values; got 64"),
    (matryoshka, ((2,), 0.5), {}, "weights of matryoshka must be several values; got 0.5"),
    (matryoshka, ((2,), [float("nan")]), {}, "weights must be finite numbers; got nan"),
    (matryoshka, ((2,),), {"dim": 3}, "matryoshka takes no dim; did you mean dims"),
    (matryoshka, ((2, 3), None, "1"), {}, "n_dims_per_step of matryoshka must be an integer"),
    (transforms.adaptive_layer, (None,), {}, "loss of adaptive_layer must be a function; got None"),
    (transforms.adaptive_layer, (ranking, "a"), {}, "n_layers_per_step of .* must be an integer"),
    (transforms.adaptive_layer, (ranking, 1, "a"), {}, "last_layer_weight of .* must be a number"),
    (transforms.quantized, (ranking, "int8", 3), {}, "columns of quantized must be several values"),
    (transforms.int8_levels, (X, [[0] * 6] * 2), {}, "ranges of int8_levels must be an array"),
    (transforms.ranges_of, ([[1.0]],), {}, "embeddings of ranges_of must be an array; got a list"),
    (transforms.over_mesh, (ranking, None), {}, "mesh of over_mesh must be a Mesh; got None"),
    (transforms.by_device, (encode, None), {}, "mesh of by_device must be a Mesh; got None"),
    (transforms.cached, ("bert", 2), {}, "encode of cached must be a function; got 'bert'"),
    (transforms.by_length, (3,), {}, "encode of by_length must be a function; got 3"),
    (transforms.init_memory, ("a", 2), {}, "size of init_memory must be an integer; got 'a'"),
    (transforms.init_memory, (2, -1), {}, "d must be at least 1; got -1"),
    (transforms.push, (MEMORY, [[1.0]], IDS), {}, "embeddings of push must be an array"),
    (transforms.push, (MEMORY, X, X[:, :2]), {}, "ids must be unsigned integers"),
    (transforms.ema, ({}, {}, "x"), {}, "decay of ema must be a number; got 'x'"),
    (transforms.soup, (None,), {}, "trees of soup must be several values; got None"),
    (top_k_search, ([[1.0]], ZEROS), {"k": 1}, "queries must be an array of vectors; got list"),
    (top_k_search, (ZEROS, ZEROS), {"k": "1"}, "k of top_k_search must be an integer; got '1'"),
    (
        top_k_search,
        (ZEROS, np.array([["a"]])),
        {"k": 1},
        "corpus of top_k_search must hold numbers",
    ),
    (
        top_k_search,
        (ZEROS, ZEROS),
        {"k": 1, "exclude": np.ones((2, 1))},
        "exclude must hold rows, as integers; got float64",
    ),
    (Filters, (), {"relative_margin": -1}, "relative_margin is a share .* from 0 to 1; got -1"),
    (Filters, (), {"relative_margin": 2}, "relative_margin is a share .* from 0 to 1; got 2"),
    (Filters, (), {"max_score": float("nan")}, "max_score must be a finite number; got nan"),
    (Filters, (), {"num_negatives": 1.5}, "num_negatives must be a whole number; got 1.5"),
    (mine, (ZEROS, PLACES, ZEROS[:, 0], Filters(1)), {}, "all scores are 0"),
    (mine, (ZEROS * np.nan, PLACES, ZEROS[:, 0], Filters(1)), {}, "scores must be numbers"),
]


@pytest.mark.parametrize(("function", "values", "keywords", "message"), WRONG)
def test_a_wrong_call_is_refused(function, values, keywords, message):
    with pytest.raises(ValueError, match=message) as refusal:
        function(*values, **keywords)
    assert "\n" not in str(refusal.value)


def test_numbers_and_axes_of_every_kind_are_taken():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    for axes in ("data", ("data",)):
        loss = transforms.over_mesh(ranking, mesh, axis_name=axes)
        for scale in (20, 20.0, np.float32(20), jnp.array(20.0)):
            np.testing.assert_allclose(loss(X, X, scale=scale), np.log(4), rtol=1e-5)
