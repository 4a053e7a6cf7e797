"""Configurations that transformers' Flax models would read past are refused by name."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxembed
from jaxembed.encoders import EncoderError
from jaxembed.encoders.families import load_family

pytestmark = pytest.mark.flax_transformers
FOLDER = Path(__file__).parents[1] / "goldens/families"
SIZES = {
    "llama": {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
    "gpt2": {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 16},
    "roformer": {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
    "opt": {"num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 8},
    "t5": {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2},
    "roberta-prelayernorm": {"num_hidden_layers": 1, "num_attention_heads": 2},
    "bert": {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
}


def drawn(folder, model_type, **changes):
    """A model of a configuration, with drawn weights."""
    from jaxembed.encoders.flax_transformers import load_transformer

    settings = {"model_type": model_type, "vocab_size": 32, **SIZES[model_type], **changes}
    if model_type not in ("gpt2", "t5"):
        settings = {"hidden_size": 8, "max_position_embeddings": 16, **settings}
    (folder / "config.json").write_text(json.dumps(settings))
    return load_transformer(folder, dtype=jnp.float32, initialize=0)


@pytest.mark.parametrize(
    ("model_type", "settings", "message"),
    [
        ("llama", {"rope_theta": 500_000.0}, r"'rope_theta' \(500000.0\) is not read by FlaxLlama"),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "'rope_scaling'"),
        ("llama", {"head_dim": 8}, "'head_dim'.*only 4 is computed"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "'scale_attn_by_inverse_layer_idx'"),
        ("roformer", {"embedding_size": 4}, "'embedding_size'"),
        ("opt", {"layer_norm_elementwise_affine": False}, "layer_norm_elementwise_affine"),
        ("llama", {"use_alibi": True}, "'use_alibi'"),
        ("llama", {"hidden_act": "prelu"}, "hidden_act must be one of"),
        ("llama", {"quantization_config": {"quant_method": "awq"}}, r"quantised \(awq\)"),
        ("gpt2", {"n_layer": "1"}, 'n_layer must be a whole number.*; got "1"'),
        ("gpt2", {"n_head": None}, "n_head must be a whole number.*; got null"),
        ("gpt2", {"n_embd": 9}, "gpt2 in config.json: "),
        ("roberta-prelayernorm", {"pad_token_id": None}, "pad_token_id must be a whole number"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert", {"hidden_size": [8]}, "hidden_size must be a whole number"),
        ("t5", {}, "the architecture 't5' has no Flax text encoder; use one of the type bert"),
        ("t5", {"is_encoder_decoder": False}, "the architecture 't5' has no Flax text encoder"),
    ],
)
def test_what_a_flax_model_would_read_past_is_refused(model_type, settings, message, tmp_path):
    with pytest.raises(EncoderError, match=message) as caught:
        drawn(tmp_path, model_type, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gpt_neo", "roformer", "big_bird", "opt"])
def test_what_transformers_writes_by_default_is_read(model_type):
    from transformers import AutoConfig
    from transformers.models.auto.modeling_flax_auto import FLAX_MODEL_MAPPING

    from jaxembed.encoders.flax_keys import check_read, check_values

    config = AutoConfig.for_model(model_type)
    written = config.to_dict()
    check_values("model", written, type(config))
    check_read("model", written, config, FLAX_MODEL_MAPPING[type(config)])


def test_the_activations_of_either_source_are_the_same(tmp_path):
    from jaxembed.encoders.flax_transformers import load_transformer

    folder = Path(shutil.copytree(FOLDER / "bert", tmp_path / "bert"))
    settings = json.loads((folder / "config.json").read_text()) | {"hidden_act": "mish"}
    (folder / "config.json").write_text(json.dumps(settings))
    expected = np.load(FOLDER / "bert/expected.npz")
    tokens = {key: expected[f"right_{key}"] for key in ("input_ids", "attention_mask")}
    ours, theirs = (read(folder, dtype=jnp.float32) for read in (load_family, load_transformer))
    found = jax.jit(theirs.apply)(theirs.params, tokens)
    wanted = jax.jit(ours.apply)(ours.params, tokens)
    real = tokens["attention_mask"][..., None]
    np.testing.assert_allclose(found * real, wanted * real, atol=1e-5)


def test_a_folder_of_t5_is_refused_in_one_line(tmp_path):
    settings = {"model_type": "t5", "vocab_size": 32, **SIZES["t5"], "is_encoder_decoder": False}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(EncoderError, match="the architecture 't5' has no Flax text encoder"):
        jaxembed.load(tmp_path)
