"""Broken, strange and missing model folders are refused by name, with the remedy."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxembed
from jaxembed.encoders import EncoderError
from jaxembed.encoders.modules import Pooling

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_unknown_folder():
    with pytest.raises(EncoderError, match="the model folder /no/such does not exist"):
        jaxembed.load("/no/such")


def test_unknown_name_without_network():
    with pytest.raises(
        EncoderError, match="'no-such-model' is no folder here and cannot be fetched"
    ):
        jaxembed.load("no-such-model")


def test_a_file_of_a_model_is_no_folder():
    with pytest.raises(EncoderError, match=r"config.json is a file; give the model folder that"):
        jaxembed.load(TINY / "config.json")


def test_folder_without_a_model(tmp_path):
    with pytest.raises(EncoderError, match=r"no model folder: it has no config\.json"):
        jaxembed.load(tmp_path)


@pytest.mark.flax_transformers
def test_architecture_without_a_flax_encoder(folder):
    edit(folder / "config.json", model_type="deberta-v2")
    with pytest.raises(EncoderError, match="'deberta-v2' has no Flax text encoder; use one of"):
        jaxembed.load(folder)


@pytest.mark.flax_transformers
def test_architecture_nobody_knows(folder):
    edit(folder / "config.json", model_type="new-bert")
    with pytest.raises(EncoderError, match="does not know the model type 'new-bert'"):
        jaxembed.load(folder)


@pytest.mark.flax_transformers
def test_encoder_decoder(folder):
    edit(folder / "config.json", model_type="t5", is_encoder_decoder=True)
    with pytest.raises(EncoderError, match="is_encoder_decoder = true is not supported; only"):
        jaxembed.load(folder)


def test_without_flax_models_in_transformers(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EncoderError, match="no Flax models; take the source jaxembed"):
        jaxembed.load(folder, source="transformers")
    edit(folder / "config.json", model_type="deberta-v2")
    message = "no Flax models and jaxembed no family for the model type 'deberta-v2'; install"
    with pytest.raises(EncoderError, match=message):
        jaxembed.load(folder)
    with pytest.raises(EncoderError, match="jaxembed has no family for the model type 'deberta"):
        jaxembed.load(folder, source="jaxembed")


def test_missing_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(EncoderError, match=r"lacks 1 tensors, .*layer\.1\.output\.dense"):
        jaxembed.load(folder)


def test_tensor_of_a_wrong_shape(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"] = np.zeros((406, 31), np.float32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(EncoderError, match=r"word_embeddings\.weight must be \(406, 32\)"):
        jaxembed.load(folder)


def test_file_cut_short(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(EncoderError, match="broken or cut short"):
        jaxembed.load(folder)


def test_weights_in_another_format_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"only pytorch_model\.bin; save it as safetensors"):
        jaxembed.load(folder)


def test_module_that_is_not_supported(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.WordWeights"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EncoderError, match="WordWeights is not supported"):
        jaxembed.load(folder)


def test_unknown_pooling_mode(folder):
    edit(folder / "1_Pooling/config.json", pooling_mode="median")
    with pytest.raises(EncoderError, match="pooling mode 'median' is none of"):
        jaxembed.load(folder)


def test_older_pooling_config(folder):
    expected = jaxembed.load(folder).encode(["a b c"])
    config = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True,
              "pooling_mode_mean_tokens": True}  # fmt: skip
    (folder / "1_Pooling/config.json").write_text(json.dumps(config))
    older = jaxembed.load(folder)
    assert older.modules[0][1] == Pooling(("cls", "mean"), width=32)
    assert older.encode(["a b c"]).shape == expected.shape


def test_old_names_of_layer_norms_and_a_task_prefix(folder):
    expected = jaxembed.load(folder).encode(["a b c"])
    renamed = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
        if not name.startswith("pooler")
    }
    renamed["cls.predictions.bias"] = np.zeros(406, np.float32)
    save_file(renamed, folder / "model.safetensors")
    np.testing.assert_array_equal(jaxembed.load(folder).encode(["a b c"]), expected)


def test_a_bare_transformer_pools_by_the_mean(folder):
    (folder / "modules.json").unlink()
    encoder = jaxembed.load(folder)
    assert encoder.dimension == 32
    assert encoder.modules[0][1] == Pooling(("mean",), width=32)


def test_max_seq_length_beyond_the_positions(folder):
    with pytest.raises(EncoderError, match="max_seq_length must lie between 2 and 64; got 65"):
        jaxembed.load(folder, max_seq_length=65)


def test_text_that_is_none(folder):
    with pytest.raises(EncoderError, match="text 1 must be a string; got NoneType None"):
        jaxembed.load(folder).encode(["a", None])  # pyright: ignore[reportArgumentType]


def test_unknown_prompt(folder):
    with pytest.raises(EncoderError, match=r"no prompt 'title'; it has \['document', 'query'\]"):
        jaxembed.load(folder).encode(["a"], prompt_name="title")


def test_no_text_at_all(folder):
    assert jaxembed.load(folder).encode([]).shape == (0, 24)


def test_tensors_of_several_files_are_read(folder):
    whole = jaxembed.load(folder).encode(["a bank"])
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in names if files[name] == file}, folder / file)
    index = json.dumps({"metadata": {}, "weight_map": files})
    (folder / "model.safetensors.index.json").write_text(index)
    np.testing.assert_array_equal(jaxembed.load(folder).encode(["a bank"]), whole)
