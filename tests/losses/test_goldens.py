"""Every loss against the PyTorch library's own class: value and gradients in float64."""

import functools
import inspect
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import late_interaction, losses, similarity
from jaxembed.losses import elementwise, reduction, reranking

HERE = Path(__file__).parents[1] / "goldens" / "losses"
CASES = [
    (path.stem, case)
    for path in sorted(HERE.glob("*.json"))
    for case in json.loads(path.read_text())
]
FUNCTION_MODULES = [
    *(similarity, late_interaction, elementwise, reduction),
    *(losses, reranking, jax.nn, jnp),
]
FUNCTION_KEYS = {"score_transform", "weighting", "document_regularizer", "query_regularizer"}
NO_COUNTERPART = {"sigmoid_loss"}


def pair_classification(left, right, *, weight, bias, labels, **settings):
    """The library's SoftmaxLoss: features of the pair, its classifier, cross-entropy."""
    features = losses.pair_features(left, right, **settings)
    return losses.softmax_loss(features @ weight.T + bias[None, :], labels=labels)


def through_auto_encoder(name, *columns, last_nonzero, expected_last_nonzero, **keywords):
    """The library's CSR losses: of the codes of the columns, which are encoded one by one."""
    parameters = {key: keywords.pop(key) for key in ("weight", "pre_bias", "latent_bias")}
    choices = {key: keywords.pop(key) for key in ("k", "k_aux", "normalize", "dead_threshold")}
    codes = []
    for column in columns:
        code, last_nonzero = losses.sparse_auto_encode(parameters, column, last_nonzero, **choices)
        codes.append(code)
    counted = jnp.all(last_nonzero == expected_last_nonzero)
    return jnp.where(counted, getattr(losses, name)(*codes, **keywords), jnp.nan)


# Cases that need more than one function of jaxembed, and the loss that each stands for.
COMPOSED = {
    "pair_classification": (pair_classification, "softmax_loss"),
    **{
        f"{name}_through_auto_encoder": (
            partial(through_auto_encoder, f"{name}_loss"),
            f"{name}_loss",
        )
        for name in ("csr", "csr_reconstruction")
    },
}


def function(value):
    """Resolves a name, or `[name, {keyword: value}]`, to a function."""
    if value is None:
        return None
    name, keywords = (value, {}) if isinstance(value, str) else value
    found = (getattr(module, name, None) for module in FUNCTION_MODULES)
    found = next(value for value in found if callable(value))  # a submodule is none
    keywords = {
        key: jnp.asarray(x, jnp.float64) if isinstance(x, float) else x
        for key, x in resolved(keywords).items()
    }
    return partial(found, **keywords) if keywords else found


def resolved(settings):
    """Replaces names of functions by functions, and lists by tuples."""

    def resolve(key, value):
        if key.endswith("_fn") or key in FUNCTION_KEYS:
            return function(value)
        return tuple(value) if isinstance(value, list) else value

    return {key: resolve(key, value) for key, value in settings.items()}


def settings_of(settings):
    """Splits the settings into those that a program is compiled for, and numbers: its arguments.

    Losses do not check the values of arrays: some recorded margins are below 0.
    """
    numbers = {key: np.float64(x) for key, x in settings.items() if isinstance(x, float)}
    return {key: x for key, x in settings.items() if key not in numbers}, numbers


def loss_of(path):
    if path in COMPOSED:
        return COMPOSED[path][0]
    loss: Any = losses
    for name in path.split("."):
        loss = getattr(loss, name)
    return loss


@functools.cache
def compiled(path, settings):
    """`(embeddings, parameters), keywords, numbers -> value, gradients` of a loss, jitted.

    Cases that differ only in arrays and numbers share a program. `settings` are JSON.
    """

    def value(differentiated, keywords, numbers):
        embeddings, parameters = differentiated
        settings_here = resolved(json.loads(settings))
        return loss_of(path)(*embeddings, **parameters, **keywords, **numbers, **settings_here)

    return jax.jit(jax.value_and_grad(value))


@pytest.fixture(scope="module")
def arrays():
    """The arrays of a family, read once."""
    files = {path.stem: np.load(path) for path in HERE.glob("*.npz")}
    yield files
    for file in files.values():
        file.close()


@pytest.mark.parametrize(
    ("family", "case"), CASES, ids=[f"{family}-{case['name']}" for family, case in CASES]
)
def test_value_and_gradients_equal_the_librarys(family, case, arrays):
    def read(keys):
        found = [arrays[family][f"{case['name']}/{key}"] for key in keys]
        return {
            key: x.astype(np.int32) if x.dtype == np.int64 else x
            for key, x in zip(keys, found, strict=True)
        }

    settings, numbers = settings_of(case["settings"])
    embeddings, parameters = read(case["embeddings"]), read(case["parameters"])
    compute = compiled(case["loss"], json.dumps(settings))
    with jax.enable_x64(True):
        arguments = ([*embeddings.values()], parameters), read(case["keywords"]), numbers
        value, (of_embeddings, of_parameters) = compute(*arguments)
    gradients = {**dict(zip(embeddings, of_embeddings, strict=True)), **of_parameters}
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, case["value"], rtol=1e-9, atol=1e-9)
    for key, actual in gradients.items():
        expected = arrays[family][f"{case['name']}/d_{key}"]
        greatest = np.abs(expected).max(initial=0)
        np.testing.assert_allclose(
            actual, expected, rtol=0, atol=1e-6 * greatest + 1e-12, err_msg=key
        )


def test_every_loss_with_a_counterpart_has_a_golden():
    modules = {"": losses, "reranking.": reranking}
    public = {
        prefix + name
        for prefix, module in modules.items()
        for name, value in vars(module).items()
        if name.endswith("_loss") and inspect.isfunction(value)
    }
    recorded = {COMPOSED.get(case["loss"], (None, case["loss"]))[1] for _, case in CASES}
    assert public - NO_COUNTERPART == recorded
