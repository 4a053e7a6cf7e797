"""The tables of keys are those of sentence-transformers 6.2, whose defaults change nothing."""

import json
from pathlib import Path

import pytest

from jaxembed.encoders import EncoderError, limits, settings, tokenizer_settings
from jaxembed.encoders.keys import Keys
from jaxembed.encoders.modules import dense, dropout, norms, pooling, weighted_layers
from jaxembed.forms import check_form

STORED = json.loads((Path(__file__).parents[1] / "goldens/folders/keys.json").read_text())
MODULES = {
    "Pooling": pooling.KEYS,
    "Dense": dense.KEYS,
    "Normalize": norms.NORMALIZE,
    "LayerNorm": norms.LAYER_NORM,
    "Dropout": dropout.KEYS,
    "WeightedLayerPooling": weighted_layers.KEYS,
    "Transformer": limits.KEYS,
}
FILES = {
    "config_sentence_transformers.json": settings.KEYS,
    "sentence_bert_config.json": limits.KEYS,
    "tokenizer_config.json": tokenizer_settings.KEYS,
}


@pytest.mark.parametrize("module", MODULES)
def test_a_table_has_every_key_of_the_module_and_takes_its_default(module):
    keys, published = MODULES[module], STORED["modules"][module]
    assert not keys.unknown(published)
    defaults = {key: value for key, value in published.items()
                if value not in ("required", None) or key in keys.only}  # fmt: skip
    forms = {key.removesuffix("?"): form for key, form in keys.used.items()}
    check_form(defaults, {key: forms[key] for key in defaults if key in forms}, module)
    keys.check(defaults, Path(module))


def test_every_module_is_held_to_its_table():
    assert STORED["modules"].keys() == MODULES.keys()


@pytest.mark.parametrize("name", FILES)
def test_a_table_has_every_key_that_is_written(name):
    written = STORED["written"][name]
    assert len(written) >= 4
    assert not FILES[name].unknown(written)
    check_form(written, dict(FILES[name].used), name)


def test_a_key_is_used_harmless_refused_or_unknown(tmp_path):
    keys = Keys(used={"size": int}, harmless=("note",), only={"mode": (None, "a")})
    file = tmp_path / "config.json"

    def read(**content):
        file.write_text(json.dumps(content))
        return keys.read(file)

    assert read(size=3, note=[1], mode="a") == {"size": 3, "note": [1], "mode": "a"}
    with pytest.raises(EncoderError, match=r'mode = "b" is not supported; only null or "a" is'):
        read(size=3, mode="b")
    with pytest.raises(EncoderError, match=r"the key 'more' \(\[0, 1, .*…\) is not known; remove"):
        read(size=3, more=list(range(100)))
    with pytest.raises(EncoderError, match="it lacks 'size'"):
        read(note=1)
    with pytest.raises(EncoderError, match="size must be a whole number; got true"):
        read(size=True)
