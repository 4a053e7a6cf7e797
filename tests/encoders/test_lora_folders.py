"""Adapters of PEFT: merged into the base beside them or named by them, or refused by name."""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxembed
from jaxembed.encoders import EncoderError
from jaxembed.encoders.families import load_family
from jaxembed.encoders.lora import merge_adapter

BASE = Path(__file__).parents[1] / "goldens/families/bert"
TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
SETTINGS = {
    "peft_type": "LORA",
    "base_model_name_or_path": str(BASE),
    "r": 2,
    "lora_alpha": 6,
    "target_modules": ["query"],
    "bias": "none",
    "use_dora": False,
    "peft_version": "0.21.2",
}
DOWN = "base_model.model.encoder.layer.0.attention.self.query.lora_A.weight"
QUERY = "encoder.layer.{}.attention.self.query"


def lora(module, shape, rank=2, kind="lora_{}.weight"):
    """Draws A [r in] and B [out r] of a module of the shape [out in], by their published names."""
    random = np.random.default_rng([*shape, rank, len(module)])
    out, into = shape
    drawn = {"A": random.normal(size=(rank, into)), "B": random.normal(size=(out, rank))}
    return {
        f"base_model.model.{module}.{kind.format(side)}": array.astype(np.float32)
        for side, array in drawn.items()
    }


def queries():
    return lora(QUERY.format(0), (16, 16)) | lora(QUERY.format(1), (16, 16))


def write(folder, tensors=None, **settings):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**SETTINGS, **settings}))
    save_file(queries() if tensors is None else tensors, folder / "adapter_model.safetensors")
    return folder


def products(tensors, module):
    """B times A of a module, by loops."""
    down, up = (tensors[f"base_model.model.{module}.lora_{side}.weight"] for side in "AB")
    return sum(np.outer(up[:, k], down[k]) for k in range(len(down)))


def merged(folder, base=BASE):
    return merge_adapter(folder, load_file(base / "model.safetensors"))


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({}, (3, 3)),
        ({"use_rslora": True}, (6 / 2**0.5, 6 / 2**0.5)),
        ({"lora_alpha": 1.5}, (0.75, 0.75)),
        ({"alpha_pattern": {"layer.1.attention.self.query": 2}}, (3, 1)),
        ({"alpha_pattern": {r"encoder\.layer\.0\..*": 4, "query": 8}}, (2, 4)),
        ({"fan_in_fan_out": True}, (3, 3)),  # for linear maps PEFT does not heed it either
        ({"init_lora_weights": "gaussian", "layers_to_transform": [0]}, (3, 3)),
    ],
)
def test_the_products_are_added_by_their_scale(settings, scales, tmp_path):
    found = merged(write(tmp_path, **settings))
    base = load_file(BASE / "model.safetensors")
    for layer, scale in enumerate(scales):
        name = QUERY.format(layer)
        expected = base.pop(f"{name}.weight") + scale * products(queries(), name)
        np.testing.assert_allclose(found[f"{name}.weight"], expected, atol=1e-5)
    for name, tensor in base.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_each_module_may_have_a_rank_of_its_own(tmp_path):
    tensors = lora(QUERY.format(0), (16, 16), rank=3) | lora(QUERY.format(1), (16, 16))
    found = merged(write(tmp_path, tensors, rank_pattern={"layer.0.attention.self.query": 3}))
    base = load_file(BASE / "model.safetensors")
    for layer, scale in ((0, 2), (1, 3)):
        name = QUERY.format(layer)
        expected = base[f"{name}.weight"] + scale * products(tensors, name)
        np.testing.assert_allclose(found[f"{name}.weight"], expected, atol=1e-5)
    with pytest.raises(EncoderError, match=r"has the rank 3, adapter_config\.json says 2"):
        merged(write(tmp_path, tensors))


def test_token_embeddings_are_adapted(tmp_path):
    module = "embeddings.word_embeddings"
    tensors = lora(module, (16, 64), kind="lora_embedding_{}")
    found = merged(write(tmp_path, tensors))[f"{module}.weight"]
    down, up = (tensors[f"base_model.model.{module}.lora_embedding_{side}"] for side in "AB")
    expected = load_file(BASE / "model.safetensors")[f"{module}.weight"] + 3 * (up @ down).T
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("saved", "name"),
    [
        ("embeddings.LayerNorm.bias", "embeddings.LayerNorm.bias"),  # bias "all", modules_to_save
        (QUERY.format(1) + ".base_layer.bias", QUERY.format(1) + ".bias"),  # bias "lora_only"
        ("embeddings.LayerNorm.modules_to_save.default.bias", "embeddings.LayerNorm.bias"),
        ("pooler.dense.bias", "pooler.dense.bias"),
    ],
)
def test_tensors_that_are_saved_whole_take_the_place_of_the_bases(saved, name, tmp_path):
    whole = np.arange(16, dtype=np.float32)
    found = merged(write(tmp_path, queries() | {f"base_model.model.{saved}": whole}))
    np.testing.assert_array_equal(found[name], whole)


def test_names_may_have_the_prefix_of_a_head_on_either_side(tmp_path):
    expected = merged(write(tmp_path))
    with_prefix = {name.replace("encoder", "bert.encoder"): x for name, x in queries().items()}
    found = merged(write(tmp_path, with_prefix))
    name = QUERY.format(1) + ".weight"
    np.testing.assert_array_equal(found[name], expected[name])
    base = {f"bert.{key}": x for key, x in load_file(BASE / "model.safetensors").items()}
    found = merge_adapter(write(tmp_path), base)
    np.testing.assert_array_equal(found[f"bert.{name}"], expected[name])


def test_what_is_in_no_embedding_needs_no_base(tmp_path):
    tensors = queries() | lora("pooler.dense", (16, 16)) | lora("classifier", (2, 16))
    assert merged(write(tmp_path, tensors)).keys() == load_file(BASE / "model.safetensors").keys()


@pytest.mark.parametrize("beside", [False, True])
def test_a_folder_with_an_adapter_encodes_as_the_merged_model(beside, tmp_path):
    tensors = lora(QUERY.format(0), (32, 32)) | lora(QUERY.format(1), (32, 32))
    folder = Path(shutil.copytree(TINY, tmp_path / "model"))
    base = folder if beside else TINY
    named = "/no/such/base" if beside else str(TINY)  # a base beside it comes first
    write(folder, tensors, base_model_name_or_path=named)
    whole = Path(shutil.copytree(TINY, tmp_path / "whole"))
    save_file(merged(folder, base), whole / "model.safetensors")
    if not beside:
        for name in ("config.json", "model.safetensors"):
            (folder / name).unlink()
    texts = ["a ship at night", "bread"]
    expected = jaxembed.load(whole).encode(texts)
    encoder = jaxembed.load(folder)
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-6)
    assert np.abs(jaxembed.load(TINY).encode(texts) - expected).max() > 0.01
    encoder.save(tmp_path / "saved")
    assert not (tmp_path / "saved/adapter_config.json").exists()
    np.testing.assert_allclose(jaxembed.load(tmp_path / "saved").encode(texts), expected, atol=1e-6)


def test_other_options_of_loading_go_with_an_adapter(tmp_path):
    folder = write(tmp_path)
    whole = load_family(folder, dtype=jnp.float32)
    cut = load_family(folder, dtype=jnp.float32, n_layers=1)
    same = lambda x, y: np.testing.assert_array_equal(x[:1], y)  # noqa: E731
    jax.tree.map(same, whole.params["layers"], cut.params["layers"])
    assert load_family(folder, dtype=jnp.float32, initialize=0).width == 16


@pytest.mark.flax_transformers
def test_the_models_of_transformers_take_adapters_too(tmp_path):
    from jaxembed.encoders.flax_transformers import load_transformer

    folder = write(tmp_path)
    tensors = load_transformer(folder, dtype=jnp.float32)
    name = QUERY.format(1) + ".weight"
    np.testing.assert_array_equal(tensors.tensors(tensors.params)[name], merged(folder)[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "an adapter of the type IA3, only LORA is merged"),
        ({"peft_type": "PROMPT_TUNING"}, "of the type PROMPT_TUNING"),
        ({"peft_type": None}, "peft_type must be a text"),
        ({"use_dora": True}, "use_dora = true is not supported"),
        ({"lora_bias": True}, "lora_bias = true is not supported"),
        ({"init_lora_weights": "pissa"}, 'init_lora_weights = "pissa" is not supported'),
        ({"layer_replication": [[0, 1]]}, "layer_replication = "),
        ({"trainable_token_indices": [3]}, "trainable_token_indices = "),
        ({"target_parameters": ["experts.up"]}, "target_parameters = "),
        ({"new_kind_of_lora": 1}, r"the key 'new_kind_of_lora' \(1\) is not known"),
        ({"r": "2"}, 'r must be a whole number at least 1; got "2"'),
        ({"r": 0}, "r must be a whole number at least 1; got 0"),
        ({"lora_alpha": None}, "lora_alpha must be a finite number; got null"),
        ({"rank_pattern": [2]}, "rank_pattern must be an object or null"),
        ({"alpha_pattern": {"(": 2}}, r"has the pattern '\('"),
        ({"base_model_name_or_path": None}, "names no base, and none lies beside it"),
        ({"base_model_name_or_path": "/no/base"}, "/no/base does not exist.*; change base_model"),
        ({"base_model_name_or_path": 3}, "base_model_name_or_path must be a text or null; got 3"),
    ],
)
def test_adapters_that_cannot_be_merged_are_refused_with_the_remedy(settings, message, tmp_path):
    with pytest.raises(EncoderError, match=message) as caught:
        load_family(write(tmp_path, **settings), dtype=jnp.float32)
    assert "adapter_config.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    if "base" not in message and "pattern" not in message and "peft_type" not in message:
        assert "merge it with PEFT" in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds no LoRA"),
        ({"encoder.x.lora_B.weight": np.ones((2, 2))}, "lacks A or B|fits no weight of the base"),
        ({"base_model.model.a.lora_magnitude_vector": np.ones(2)}, "magnitude_vector is not supp"),
        ({"weight": np.ones(2)}, "tensor weight is not supported"),
        (lora("encoder.layer.9.attention.self.query", (16, 16)), "layer.9.* fits no weight"),
        (lora(QUERY.format(0), (16, 15)), r"\(16, 2\) times \(2, 15\), does not fit"),
        ({**queries(), DOWN: np.ones((2, 16), int)}, "holds int64, no floats"),
        ({**queries(), DOWN: np.full((2, 16), np.nan)}, "holds NaN"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(tensors, message, tmp_path):
    with pytest.raises(EncoderError, match=message):
        load_family(write(tmp_path, tensors), dtype=jnp.float32)


def test_a_lone_half_of_a_pair_is_refused(tmp_path):
    tensors = {
        name: x for name, x in queries().items() if "0.attention.self.query.lora_B" not in name
    }
    with pytest.raises(EncoderError, match=re.escape(QUERY.format(0)) + " lacks A or B"):
        load_family(write(tmp_path, tensors), dtype=jnp.float32)


def test_an_adapter_without_its_tensors_is_refused(tmp_path):
    folder = write(tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(EncoderError, match=r"there is only adapter_model\.bin; save it as safet"):
        load_family(folder, dtype=jnp.float32)


def test_an_adapter_of_an_adapter_is_refused(tmp_path):
    write(tmp_path / "first")
    second = write(tmp_path / "second", base_model_name_or_path=str(tmp_path / "first"))
    with pytest.raises(EncoderError, match="is no whole transformer; merge it"):
        load_family(second, dtype=jnp.float32)
