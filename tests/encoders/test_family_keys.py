"""The tables of configuration keys, held to what the installed transformers writes."""

import json
from pathlib import Path

import pytest

from jaxembed.encoders import EncoderError
from jaxembed.encoders.families import FAMILIES
from jaxembed.encoders.families.keys import HARMLESS, ONLY, SHARED, check_keys

FILE = Path("model/config.json")
GOLDENS = Path(__file__).parents[1] / "goldens/families"


def check(settings):
    family = FAMILIES[settings["model_type"]]
    check_keys(FILE, settings, family.keys)
    return family.architecture(settings)


@pytest.fixture(scope="module")
def written():
    """What the installed transformers writes of each model type, by default."""
    from transformers import AutoConfig

    return {name: AutoConfig.for_model(name).to_dict() for name in FAMILIES}


class Recorder(dict):
    """A configuration that remembers which keys were asked for."""

    def __init__(self, settings):
        super().__init__(settings)
        self.asked = set()

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.asked.add(key)
        return super().get(key, default)

    def __contains__(self, key):
        self.asked.add(key)
        return super().__contains__(key)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_key_that_transformers_writes_is_known(model_type, written):
    check(written[model_type])


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_missing_key_has_the_default_of_transformers(model_type, written):
    settings = written[model_type]
    whole = check(settings)
    for key in FAMILIES[model_type].keys.used:
        if key.endswith("?"):
            name = key.removesuffix("?")
            rest = {other: value for other, value in settings.items() if other != name}
            assert check(rest) == whole, name


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_tables_name_all_that_is_read(model_type, written):
    family = FAMILIES[model_type]
    known = {key.removesuffix("?") for key in {**SHARED, **family.keys.used}}
    known |= {*family.keys.harmless}
    for settings in (written[model_type], {**written[model_type], "layer_types": None}):
        recorder = Recorder(settings)
        family.architecture(recorder)
        assert recorder.asked <= known


def test_a_key_stands_in_one_table_only():
    for family in FAMILIES.values():
        reads = {key.removesuffix("?") for key in {**SHARED, **family.keys.used}}
        only = {*ONLY, *family.keys.only}
        assert not reads & only
        assert not (reads | only) & {*family.keys.harmless}
        assert not only & HARMLESS


def test_the_goldens_of_every_family_are_known():
    for file in GOLDENS.glob("*/config.json"):
        check(json.loads(file.read_text()))


WILD = {
    "bert": {
        "directionality": "bidi",
        "pooler_fc_size": 768,
        "pooler_type": "first_token_transform",
    },
    "xlm-roberta": {"output_past": True, "gradient_checkpointing": False},
    "albert": {
        "down_scale_factor": 1,
        "gap_size": 0,
        "net_structure_type": 0,
        "num_memory_blocks": 0,
    },
    "distilbert": {"tie_weights_": True, "sinusoidal_pos_embds": True},
    "modernbert": {
        "reference_compile": True,
        "layer_norm_eps": 1e-5,
        "position_embedding_type": "absolute",
    },
    "gemma3_text": {"cache_implementation": "hybrid", "final_logit_softcapping": 30.0},
    "qwen3": {"unheard_of": None, "use_nothing": False},
    "electra": {"sentence_transformers": {"version": "6.2.0"}},
}


@pytest.mark.parametrize("model_type", WILD)
def test_harmless_keys_of_published_models_change_nothing(model_type, written):
    assert check({**written[model_type], **WILD[model_type]}) == check(written[model_type])


@pytest.mark.parametrize(
    ("model_type", "key", "value"),
    [
        ("bert", "position_embedding_type", "relative_key"),
        ("electra", "position_embedding_type", "relative_key_query"),
        ("bert", "is_decoder", True),
        ("xlm-roberta", "is_decoder", True),
        ("roberta", "add_cross_attention", True),
        ("mpnet", "is_encoder_decoder", True),
        ("bert", "pruned_heads", {"0": [1]}),
        ("gemma3_text", "attn_logit_softcapping", 50.0),
        ("gemma3_text", "is_causal", False),
        ("bert", "use_alibi", True),
        ("qwen3", "adapters", {"a": 1}),
        ("distilbert", "hidden_size", 64),
        ("albert", "residual_scale", 2.0),
    ],
)
def test_a_key_with_an_effect_is_refused_with_the_remedy(model_type, key, value, written):
    with pytest.raises(EncoderError) as caught:
        check({**written[model_type], key: value})
    message = str(caught.value)
    assert message.startswith(f"{FILE}: ")
    assert key in message
    assert "is not supported; only" in message or "remove it if it changes no" in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_size", "768", 'a whole number at least 1.*; got "768"'),
        ("hidden_size", None, "got null"),
        ("hidden_size", 768.0, r"got 768\.0"),
        ("num_hidden_layers", 0, "at least 1"),
        ("num_hidden_layers", 10**9, "at most 10000"),
        ("num_attention_heads", [12], r"got \[12\]"),
        ("num_attention_heads", True, "got true"),
        ("layer_norm_eps", "1e-5", "a finite number"),
        ("layer_norm_eps", float("nan"), "a finite number"),
        ("layer_norm_eps", 0, "above 0"),
        ("hidden_dropout_prob", 1.5, "at most 1"),
        ("hidden_act", "prelu", 'one of "gelu"'),
        ("hidden_act", None, "got null"),
        ("hidden_act", ["gelu"], "hidden_act must be one of"),
        ("dtype", 32, "dtype must be a text or null"),
        ("torch_dtype", {"": "float32"}, "torch_dtype must be a text or null"),
        ("initializer_range", -1, "at least 0"),
        ("type_vocab_size", 0, "at least 1"),
    ],
)
def test_values_of_another_type_or_range_are_refused(key, value, message, written):
    with pytest.raises(EncoderError, match=f"{FILE}: {key} must be .*{message}|{message}"):
        check({**written["bert"], key: value})


def test_positions_that_follow_padding_need_its_id(written):
    for name in ("roberta", "xlm-roberta", "mpnet"):
        with pytest.raises(EncoderError, match="pad_token_id must be a whole number"):
            check({**written[name], "pad_token_id": None})


@pytest.mark.parametrize(
    "method", ["bitsandbytes", "gptq", "awq", "fp8", "compressed-tensors", "torchao", None]
)
@pytest.mark.parametrize("model_type", ["bert", "qwen3"])
def test_quantised_checkpoints_are_refused_by_method(model_type, method, written):
    quantised = {"quant_method": method, "bits": 4} if method else {"load_in_8bit": True}
    with pytest.raises(EncoderError, match=rf"quantised \({method or 'by an unnamed'}.*dequantise"):
        check({**written[model_type], "quantization_config": quantised})
    check({**written[model_type], "quantization_config": None})
