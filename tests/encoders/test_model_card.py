"""The card of a saved model: names from outside are values in it, not YAML or Markdown."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import jaxembed
from jaxembed.encoders.model_card import model_card

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"


@pytest.fixture(scope="module")
def encoder():
    return jaxembed.load(TINY)


def header(card):
    _, front, body = card.split("---\n", 2)
    return yaml.safe_load(front), body


@pytest.mark.parametrize("name", ["intfloat/e5-small-v2", "all-MiniLM-L6-v2", "on", "1.0"])
def test_the_base_model_is_a_name_of_the_hub(encoder, name):
    front, body = header(model_card(replace(encoder, name=name), {"base model": name}))
    assert front["base_model"] == name
    assert f"Trained with jaxembed from `{name}`." in body


@pytest.mark.parametrize("name", [str(TINY), "/home/me/secret/tiny", "../runs/tiny", "a/b/tiny"])
def test_a_folder_of_this_machine_is_no_base_model(encoder, name):
    card = model_card(encoder, {"base model": name, "steps": 3})
    front, body = header(card)
    assert "base_model" not in front
    assert name not in card
    assert "from `tiny`" in body
    assert "| base model | tiny |" in body
    assert "| steps | 3 |" in body


ODD = ["org/model\nlicense: mit", "a: b", "x\r\n---\n# Other", "`rm` | b", "m\u2028license: x"]


@pytest.mark.parametrize("name", ODD)
def test_a_name_adds_neither_keys_nor_lines(encoder, name):
    facts = {"base model": name, "a\nb": name}
    front, body = header(model_card(replace(encoder, name=name), facts))
    usual, _ = header(model_card(replace(encoder, name="m"), {}))
    assert front.keys() <= usual.keys()
    table = body[body.index("| | |") :].strip().splitlines()
    assert len(table) == 4
    assert all(row.replace("\\|", "").count("|") == 3 for row in table)
