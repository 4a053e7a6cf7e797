"""All layers at once, and what `load` changes: fewer layers, another pooling, drawn weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxembed
from jaxembed.encoders import EncoderError
from jaxembed.encoders.flax_transformers import load_transformer
from jaxembed.encoders.modules import Pooling
from jaxembed.randomness import row_keys

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
TEXTS = ["a cat", "the cat sat on the mat with the dog", "a cat"]
TENSORS = load_file(TINY / "model.safetensors")
DISTILBERT = {"model_type": "distilbert", "dim": 32, "n_heads": 4, "n_layers": 3, "hidden_dim": 64}


@pytest.fixture(scope="module")
def encoder():
    return jaxembed.load(TINY)


@pytest.fixture(scope="module")
def layers_of(encoder):
    compiled = jax.jit(encoder.all_layers)
    return lambda tokens, key=None: compiled(encoder.params, tokens, key=key)


@pytest.fixture(params=["right", "left"])
def tokens(encoder, request):
    tokenizer = encoder.tokenizer.tokenizer
    tokenizer.padding_side = request.param
    yield encoder.tokenizer(TEXTS)
    tokenizer.padding_side = "right"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def without_dense(folder):
    modules = json.loads((folder / "modules.json").read_text())
    kept = [entry for entry in modules if not entry["type"].endswith("Dense")]
    (folder / "modules.json").write_text(json.dumps(kept))


def saved_again(encoder, target):
    again = jaxembed.load(encoder.save(target))
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))
    return load_file(target / "model.safetensors"), json.loads((target / "config.json").read_text())


@pytest.mark.parametrize("key", [None, jax.random.key(3)], ids=["no key", "key"])
def test_the_last_of_all_layers_is_apply_and_the_others_are_not(encoder, layers_of, tokens, key):
    layers = layers_of(tokens, key)
    expected = encoder.compiled(encoder.params, tokens, key=key)
    assert layers.shape == (3, 3, 24)  # two blocks
    np.testing.assert_allclose(layers[:, -1], expected, atol=1e-6)
    assert np.abs(layers[:, :-1] - expected[:, None]).max(axis=(0, 2)).min() > 1e-2


def test_layer_0_is_the_embedding_layer_through_the_modules(layers_of, tokens):
    ids = tokens["input_ids"]
    hidden = (
        TENSORS["embeddings.word_embeddings.weight"][ids]
        + TENSORS["embeddings.position_embeddings.weight"][: ids.shape[1]]
        + TENSORS["embeddings.token_type_embeddings.weight"][0]
    )
    hidden = hidden - hidden.mean(axis=-1, keepdims=True)
    hidden /= np.sqrt((hidden**2).mean(axis=-1, keepdims=True) + 1e-12)
    hidden *= TENSORS["embeddings.LayerNorm.weight"]
    hidden += TENSORS["embeddings.LayerNorm.bias"]
    dense = load_file(TINY / "2_Dense/model.safetensors")
    layers = layers_of(tokens)
    for row, real in enumerate(tokens["attention_mask"].astype(bool)):
        own = hidden[row][real]
        expected = np.tanh(
            dense["linear.weight"] @ np.concatenate([own.mean(axis=0), own[0]])
            + dense["linear.bias"]
        )
        expected /= np.linalg.norm(expected)
        np.testing.assert_allclose(layers[row, 0], expected, atol=2e-6)


def test_all_layers_draw_dropout_row_by_row(encoder, layers_of):
    tokens = encoder.tokenizer(TEXTS)
    whole = layers_of(tokens, jax.random.key(3))
    backwards = {name: array[::-1] for name, array in tokens.items()}
    swapped = layers_of(backwards, row_keys(jax.random.key(3), 3)[::-1])
    np.testing.assert_allclose(swapped[::-1], whole, atol=1e-6)
    assert np.abs(whole[0] - whole[2]).max(axis=-1).min() > 1e-3  # equal texts, in each layer


@pytest.mark.flax_transformers
def test_a_norm_behind_the_layers_belongs_to_the_last(folder):
    edit(folder / "config.json", model_type="roberta-prelayernorm", pad_token_id=1)
    transformer = load_transformer(folder, dtype=jnp.float32, initialize=0)
    scale = transformer.params["LayerNorm"]["scale"]
    params = {**transformer.params, "LayerNorm": {"scale": 3 * scale, "bias": scale}}
    tokens = {"input_ids": jnp.full((2, 5), 7), "attention_mask": jnp.ones((2, 5), int)}
    layers = transformer.all_layers(params, tokens)
    np.testing.assert_allclose(layers[:, -1], transformer.apply(params, tokens), atol=1e-6)
    np.testing.assert_allclose(layers[:, -1].mean(axis=-1), 1, atol=1e-5)
    assert np.abs(layers[:, -2].mean(axis=-1)).max() < 0.5


def test_the_first_layers_of_a_model_are_the_model_of_so_many_layers(encoder, layers_of, tmp_path):
    first = jaxembed.load(TINY, n_layers=1)
    tokens = encoder.tokenizer(TEXTS)
    embeddings = first.compiled(first.params, tokens)
    np.testing.assert_allclose(embeddings, layers_of(tokens)[:, 1], atol=1e-6)
    tensors, config = saved_again(first, tmp_path / "saved")
    assert set(tensors) == {name for name in TENSORS if ".layer.1." not in name}
    assert config == {**json.loads((TINY / "config.json").read_text()), "num_hidden_layers": 1}


def test_the_number_of_layers_under_another_name(folder, tmp_path):
    (folder / "config.json").write_text(json.dumps({**DISTILBERT, "vocab_size": 406}))
    whole = jaxembed.load(folder, initialize=0, max_seq_length=32)
    first = jaxembed.load(whole.save(tmp_path / "whole"), n_layers=2)
    assert {name for name in whole.params if name != "transformer"} == {"2_Dense"}
    tensors, config = saved_again(first, tmp_path / "saved")
    assert config["n_layers"] == 2
    assert "num_hidden_layers" not in config
    whole_tensors = load_file(tmp_path / "whole/model.safetensors")
    assert set(tensors) == {name for name in whole_tensors if ".layer.2." not in name}


@pytest.mark.parametrize("n_layers", [0, 3, -1])
def test_more_layers_than_there_are(n_layers):
    message = f"n_layers must lie between 1 and the model's 2; got {n_layers}"
    with pytest.raises(EncoderError, match=message):
        jaxembed.load(TINY, n_layers=n_layers)


@pytest.mark.parametrize("mode", ["max", "lasttoken"])
def test_another_pooling(folder, tmp_path, mode):
    without_dense(folder)
    pooled = jaxembed.load(folder, pooling=mode)
    edit(folder / "1_Pooling/config.json", pooling_mode=mode)
    np.testing.assert_array_equal(pooled.encode(TEXTS), jaxembed.load(folder).encode(TEXTS))
    assert pooled.modules[0][1] == Pooling((mode,), width=32)
    saved_again(pooled, tmp_path / "saved")


def test_an_unknown_pooling():
    with pytest.raises(EncoderError, match=r"pooling must be one of \['cls', .*; got 'median'"):
        jaxembed.load(TINY, pooling="median")


def test_one_pooling_for_a_dense_module_made_for_two():
    with pytest.raises(EncoderError, match="made for 2 pooling modes joined; 'cls' alone does not"):
        jaxembed.load(TINY, pooling="cls")


def test_a_pooling_for_a_model_that_does_not_pool(folder, tmp_path):
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:1]))
    pooled = jaxembed.load(folder, pooling="cls")
    assert pooled.modules == (("1_Pooling", Pooling(("cls",), width=32)),)
    saved_again(pooled, tmp_path / "saved")


def test_drawn_weights_need_no_file_and_keep_those_of_the_modules(encoder, folder):
    (folder / "model.safetensors").unlink()
    drawn = jaxembed.load(folder, initialize=1)
    shapes = jax.tree.map(jnp.shape, encoder.params)
    assert jax.tree.map(jnp.shape, drawn.params) == shapes
    jax.tree.map(np.testing.assert_array_equal, drawn.params["2_Dense"], encoder.params["2_Dense"])
    kernel = drawn.params["transformer"]["embeddings"]["tokens"]["embedding"]
    assert kernel.dtype == jnp.float32
    np.testing.assert_allclose(kernel.std(), 0.02, rtol=0.05)  # the config's initializer_range
    again, other = (jaxembed.load(folder, initialize=seed).encode(TEXTS) for seed in (1, 2))
    np.testing.assert_array_equal(drawn.encode(TEXTS), again)
    assert np.abs(other - again).max() > 1e-3


def test_all_options_together(folder, tmp_path):
    without_dense(folder)
    (folder / "model.safetensors").unlink()
    drawn = jaxembed.load(folder, n_layers=1, pooling="max", initialize=5, max_seq_length=16)
    moved = replace(drawn, params=jax.tree.map(lambda x: x * 1.01, drawn.params))
    tensors, config = saved_again(moved, tmp_path / "saved")
    assert set(tensors) == {  # the pooler is not drawn: nothing uses it
        name for name in TENSORS if ".layer.1." not in name and not name.startswith("pooler")
    }
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        name: TENSORS[name].shape for name in tensors
    }
    assert config["num_hidden_layers"] == 1


def test_a_checkpoint_of_xlm_roberta_with_a_head(folder, tmp_path):
    edit(folder / "config.json", model_type="xlm-roberta", pad_token_id=1)
    drawn = jaxembed.load(folder, initialize=0)
    tensors = drawn.tensors(jax.device_get(drawn.params)["transformer"])
    renamed = {f"roberta.{name}": np.ascontiguousarray(x) for name, x in tensors.items()}
    renamed["lm_head.bias"] = np.zeros(406, np.float32)
    save_file(renamed, folder / "model.safetensors")
    np.testing.assert_array_equal(jaxembed.load(folder).encode(TEXTS), drawn.encode(TEXTS))


@pytest.mark.flax_transformers
def test_electra_sees_first_texts_only(folder):
    edit(folder / "config.json", model_type="electra", embedding_size=32)
    drawn = jaxembed.load(folder, initialize=0, source="transformers")

    def with_types(first, second):
        params = jax.tree.map(lambda x: x, drawn.params)
        types = params["transformer"]["embeddings"]["token_type_embeddings"]
        types["embedding"] = jnp.array([first, second])
        return replace(drawn, params=params).encode(TEXTS)

    one, two = np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32)
    np.testing.assert_array_equal(with_types(one, two), with_types(one, one))
    assert np.abs(with_types(one, two) - with_types(two, two)).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": None}, "load: name must be a text; got null"),
        ({"name": 5}, "load: name must be a text; got 5"),
        ({"name": ["a", "b"]}, "load: name must be a text; got"),
        ({"max_seq_length": "8"}, 'load: max_seq_length must be a whole number or null; got "8"'),
        ({"n_layers": 1.5}, "load: n_layers must be a whole number or null; got 1.5"),
        ({"initialize": jax.random.key(0)}, "load: initialize must be a whole number or null"),
        ({"dropout": 0.1}, "load: dropout must be true or false; got 0.1"),
        ({"pooling": ["cls"]}, "load: pooling must be a text or null"),
        ({"source": None}, "load: source must be a text; got null"),
        ({"remat": True}, "load: remat must be a text or null; got true"),
        ({"dtype": ...}, "dtype must be one of floats, such as jnp.bfloat16; got Ellipsis"),
        ({"dtype": "int8"}, "dtype must be one of floats, .*; got 'int8'"),
        ({"dtype": None}, "dtype must be one of floats"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_arguments_of_other_types_are_refused_in_one_line(options, message):
    with pytest.raises(EncoderError, match=message) as caught:
        jaxembed.load(**{"name": TINY, **options})
    assert "\n" not in str(caught.value)


def test_scalars_of_numpy_are_numbers():
    numbers: dict[str, Any] = {"n_layers": np.int64(1), "max_seq_length": np.int32(8)}
    encoder = jaxembed.load(TINY, **numbers)
    assert (encoder.tokenizer.max_length, encoder.config["num_hidden_layers"]) == (8, 1)
