"""Wrapped losses against the PyTorch library's own classes: value and gradients in float64."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import losses, similarity
from jaxembed.transforms.adaptive_layer import adaptive_layer
from jaxembed.transforms.matryoshka import matryoshka

HERE = Path(__file__).parents[1] / "goldens" / "transforms"
CASES = json.loads((HERE / "wrappers.json").read_text())


def wrapped(case):
    settings = dict(case["settings"]["base"])
    if "similarity_fn" in settings:
        settings["similarity_fn"] = getattr(similarity, settings["similarity_fn"])
    loss = partial(getattr(losses, case["loss"]), **settings)
    for transform in (matryoshka, adaptive_layer):
        if transform.__name__ in case["settings"]:
            loss = transform(loss, **case["settings"][transform.__name__])
    return loss


@pytest.fixture(scope="module")
def arrays():
    with np.load(HERE / "wrappers.npz") as file:
        yield dict(file)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_value_and_gradients_equal_the_librarys(case, arrays):
    def read(names):
        found = {name: arrays[f"{case['name']}/{name}"] for name in names}
        return {key: x.astype(np.int32) if x.dtype == np.int64 else x for key, x in found.items()}

    embeddings, keywords = read(case["embeddings"]), read(case["keywords"])
    loss = wrapped(case)

    @jax.jit
    @jax.value_and_grad
    def compute(embeddings, keywords):
        return loss(*(embeddings[name] for name in case["embeddings"]), **keywords)

    with jax.enable_x64(True):
        value, gradients = compute(embeddings, keywords)
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, case["value"], rtol=1e-9, atol=1e-9)
    for name, actual in gradients.items():
        expected = arrays[f"{case['name']}/d_{name}"]
        atol = 1e-6 * np.abs(expected).max() + 1e-12
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol, err_msg=name)


def test_every_class_has_goldens():
    assert {tuple(case["settings"])[1:] for case in CASES} == {
        ("matryoshka",),
        ("adaptive_layer",),
        ("matryoshka", "adaptive_layer"),
    }
