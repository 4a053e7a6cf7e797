"""What `fit` refuses before the first step."""

from functools import partial
from importlib import import_module
from pathlib import Path

import jax
import pytest

import jaxembed
from jaxembed.data import DataError
from jaxembed.training import make_mesh

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
PAIRS = {"anchor": ["a cat", "the sun"], "positive": ["a pet", "a star"]}


@pytest.fixture(scope="module")
def encoder():
    return jaxembed.load(TINY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 2.0}, "batch_size must be a whole number at least 1; got 2.0"),
        ({"mini_batch_size": 0}, "mini_batch_size must be a whole number at least 1; got 0"),
        ({"epochs": 0}, "epochs must be a whole number at least 1; got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number at least 1; got 1.5"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number at least 0"),
        ({"learning_rate": -1e-5}, "learning_rate must be a finite number at least 0"),
        ({"warmup_share": 2}, "warmup_share must be a finite number at least 0 and at most 1"),
        ({"on_step": "print"}, "on_step must be a function; got str 'print'"),
    ],
)
def test_wrong_numbers_are_refused_by_name(encoder, arguments, message):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        jaxembed.fit(encoder, "multiple_negatives_ranking", PAIRS, **{"batch_size": 2, **arguments})
    assert message in str(refusal.value)


def test_what_fit_does_not_take_is_named(encoder):
    with pytest.raises(ValueError, match="encoder must be an Encoder; got NoneType None"):
        jaxembed.fit(None, "cosent", PAIRS)  # pyright: ignore[reportArgumentType]
    for keyword in ("batchsize", "shards", "networks"):
        with pytest.raises(TypeError, match=rf"fit\(\) takes no '{keyword}'; further opt"):
            partial(jaxembed.fit, **{keyword: 3})(encoder, "cosent", PAIRS)


@pytest.mark.parametrize("loss", [None, 3, [], print, [print], ["cosent", None]])
def test_what_is_no_loss_is_refused(encoder, loss):
    with pytest.raises(ValueError, match="a loss must be a name such as 'cosent', an Objective"):
        jaxembed.fit(encoder, loss, PAIRS)


def test_a_batch_of_one_row_has_no_negatives(encoder, monkeypatch):
    one = partial(make_mesh, jax.devices()[:1])
    monkeypatch.setattr(import_module("jaxembed.tasks.fit"), "make_mesh", one)
    with pytest.raises(DataError, match="learns nothing of batch_size 1; use at least 2"):
        jaxembed.fit(encoder, "multiple_negatives_ranking", PAIRS, batch_size=1)
