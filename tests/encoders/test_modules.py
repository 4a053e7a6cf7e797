"""The modules behind the transformer: their values by hand, their files, and what is refused."""

import json
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxembed
from jaxembed.encoders import EncoderError
from jaxembed.encoders.encoder import chain
from jaxembed.encoders.modules import (
    ACTIVATIONS,
    ALL_LAYERS,
    MODULES,
    SENTENCE,
    TOKENS,
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    Pooling,
    WeightedLayerPooling,
)

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
BY_HAND = {
    "CELU": lambda x: max(0, x) + min(0, math.expm1(x)),
    "ELU": lambda x: x if x > 0 else math.expm1(x),
    "GELU": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "Hardshrink": lambda x: x if abs(x) > 0.5 else 0.0,
    "Hardsigmoid": lambda x: min(max(x / 6 + 0.5, 0), 1),
    "Hardswish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "Hardtanh": lambda x: min(max(x, -1), 1),
    "Identity": lambda x: x,
    "LeakyReLU": lambda x: x if x > 0 else 0.01 * x,
    "LogSigmoid": lambda x: -math.log1p(math.exp(-x)),
    "Mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
    "ReLU": lambda x: max(x, 0.0),
    "ReLU6": lambda x: min(max(x, 0.0), 6.0),
    "SELU": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x)),
    "SiLU": lambda x: x / (1 + math.exp(-x)),
    "Sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "Softplus": lambda x: math.log1p(math.exp(x)),
    "Softshrink": lambda x: math.copysign(max(abs(x) - 0.5, 0.0), x),
    "Softsign": lambda x: x / (1 + abs(x)),
    "Tanh": math.tanh,
    "Tanhshrink": lambda x: x - math.tanh(x),
}
GENERATOR = np.random.default_rng(3)
VECTORS = jnp.asarray(GENERATOR.normal(size=(5, 16)), jnp.float32)  # [n d]


@pytest.fixture
def folder(tmp_path):
    """Token vectors of 32 features, through Pooling (mean and cls), Dense to 24 and Normalize."""
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def edit(file, **changes):
    file.parent.mkdir(exist_ok=True)
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**before, **changes}))


def chained(folder, *modules):
    """Writes modules.json of paths and kinds."""
    entries = [{"path": path, "type": f"sentence_transformers.models.{kind}"}
               for path, kind in (("", "Transformer"), *modules)]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(entries))


def write_module(folder, config, **tensors):
    edit(folder / "config.json", **config)
    if tensors:
        save_file({name.replace("__", "."): x for name, x in tensors.items()},
                  folder / "model.safetensors")  # fmt: skip


def refused(folder, message, **options):
    with pytest.raises(EncoderError, match=message) as caught:
        jaxembed.load(folder, **options)
    assert "\n" not in str(caught.value)


# Values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "function"), BY_HAND.items())
def test_activations_are_those_of_pytorch(name, function):
    x = np.linspace(-8, 8, 65)
    np.testing.assert_allclose(
        ACTIVATIONS[name](jnp.asarray(x)), np.vectorize(function, otypes=[float])(x), atol=2e-6
    )


def test_every_activation_is_tested():
    assert ACTIVATIONS.keys() == BY_HAND.keys()


@pytest.mark.parametrize("width", [16, 12])
def test_a_residual_is_added_behind_the_activation(tmp_path, width):
    weight, residual = GENERATOR.normal(size=(2, width, 16)).astype(np.float32)
    own = {} if width == 16 else {"residual__weight": residual}
    write_module(tmp_path, {"in_features": 16, "out_features": width, "bias": False,
                            "use_residual": True}, linear__weight=weight, **own)  # fmt: skip
    dense, params = Dense.read(tmp_path)
    through = VECTORS if width == 16 else VECTORS @ residual.T
    np.testing.assert_allclose(
        dense(params, VECTORS, {}), np.tanh(VECTORS @ weight.T) + through, atol=1e-5
    )
    dense.write(tmp_path / "again", params)
    again, same = Dense.read(tmp_path / "again")
    assert again == dense
    jax.tree.map(np.testing.assert_array_equal, same, params)


def test_layer_norm_is_that_of_pytorch(tmp_path):
    scale, bias = GENERATOR.normal(size=(2, 16)).astype(np.float32)
    write_module(tmp_path, {"dimension": 16}, norm__weight=scale, norm__bias=bias)
    module, params = LayerNorm.read(tmp_path)
    x = np.asarray(VECTORS, np.float64)
    spread = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    expected = (x - x.mean(axis=1, keepdims=True)) / spread * scale + bias
    np.testing.assert_allclose(module(params, VECTORS, {}), expected, atol=1e-5)
    module.write(tmp_path / "again", params)
    assert LayerNorm.read(tmp_path / "again")[0] == module


def test_layers_are_weighted_from_the_first_one_on(tmp_path):
    layers = jnp.asarray(GENERATOR.normal(size=(3, 4, 5, 16)), jnp.float32)  # [n l t d]
    weights = np.array([2.0, 0.5, -1.0], np.float32)
    config = {"word_embedding_dimension": 16, "layer_start": 1, "num_hidden_layers": 3}
    write_module(tmp_path, config, layer_weights=weights)
    module, params = WeightedLayerPooling.read(tmp_path)
    expected = sum(w * layers[:, 1 + i] for i, w in enumerate(weights)) / 1.5
    np.testing.assert_allclose(module(params, layers, {}), expected, atol=1e-5)
    module.write(tmp_path / "again", params)
    assert WeightedLayerPooling.read(tmp_path / "again")[0] == module


def test_dropout_of_vectors_is_drawn_row_by_row_and_in_training_only(tmp_path):
    write_module(tmp_path, {"dropout": 0.25})
    dropout = Dropout.read(tmp_path)[0]
    modules = [("1", Pooling()), ("2", dropout)]
    hidden = jnp.ones((64, 3, 200))
    tokens = {"input_ids": np.ones((64, 3), int), "attention_mask": np.ones((64, 3), int)}
    transformer = lambda params, tokens, key=None: hidden  # noqa: E731
    encode = chain(transformer, modules)
    params = {"transformer": {}}
    np.testing.assert_array_equal(encode(params, tokens), hidden[:, 0])
    drawn = np.asarray(encode(params, tokens, key=jax.random.key(0)))
    assert set(np.unique(drawn.round(4))) == {0, np.float32(1.3333)}
    np.testing.assert_allclose((drawn == 0).mean(), 0.25, atol=0.02)
    assert np.abs(drawn[0] - drawn[1]).max() > 1
    off = chain(transformer, modules, dropout=False)
    np.testing.assert_array_equal(off(params, tokens, key=jax.random.key(0)), hidden[:, 0])


def test_a_dense_before_the_pooling_reads_tokens_and_is_saved_so(folder, tmp_path):
    weight = GENERATOR.normal(size=(12, 32)).astype(np.float32)
    names = dict.fromkeys(("module_input_name", "module_output_name"), TOKENS)
    config = {"in_features": 32, "out_features": 12, "bias": False, **names,
              "activation_function": "torch.nn.modules.linear.Identity"}  # fmt: skip
    plain = [("1_Pooling", "Pooling")]
    edit(folder / "1_Pooling/config.json", pooling_mode="mean")
    chained(folder, *plain)
    expected = jaxembed.load(folder).encode(["a cat sat"]) @ weight.T
    write_module(folder / "1_Dense", config, linear__weight=weight)
    chained(folder, ("1_Dense", "Dense"), *plain)
    encoder = jaxembed.load(folder)
    np.testing.assert_allclose(encoder.encode(["a cat sat"]), expected, atol=1e-4)
    encoder.save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved/1_Dense/config.json").read_text())
    assert names.items() <= saved.items()
    again = jaxembed.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.encode(["a cat"]), encoder.encode(["a cat"]))


def test_tokens_are_normalized_before_the_pooling(folder):
    edit(folder / "1_Pooling/config.json", pooling_mode="cls")
    chained(folder, ("1_Normalize", "Normalize"), ("1_Pooling", "Pooling"))
    edit(folder / "1_Normalize/config.json", module_input_name=TOKENS)
    embeddings = jaxembed.load(folder).encode(["a cat sat", "mat"])
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_a_chain_with_all_further_modules_is_read_and_saved(folder, tmp_path):
    edit(folder / "config.json", output_hidden_states=True)
    write_module(
        folder / "1_WeightedLayerPooling",
        {"embedding_dimension": 32, "layer_start": 0, "num_hidden_layers": 2},
        layer_weights=np.array([1.0, 2.0, 3.0], np.float32),
    )
    write_module(folder / "4_Dropout", {"dropout": 0.5})
    write_module(folder / "5_LayerNorm", {"dimension": 24},
                 norm__weight=np.full(24, 2, np.float32),
                 norm__bias=np.ones(24, np.float32))  # fmt: skip
    chained(
        folder,
        *(("1_WeightedLayerPooling", "WeightedLayerPooling"), ("1_Pooling", "Pooling")),
        *(("2_Dense", "Dense"), ("4_Dropout", "Dropout"), ("5_LayerNorm", "LayerNorm")),
    )
    encoder = jaxembed.load(folder)
    embeddings = encoder.encode(["a cat sat", "mat"])
    np.testing.assert_allclose(embeddings.mean(axis=1), 1, atol=1e-5)
    again = jaxembed.load(encoder.save(tmp_path / "saved"))
    np.testing.assert_array_equal(again.encode(["a cat sat", "mat"]), embeddings)
    kinds = [[type(module) for _, module in one.modules] for one in (encoder, again)]
    assert kinds[0] == kinds[1]
    packed = encoder.encode(["a cat sat", "mat"], packing=True)
    np.testing.assert_allclose(packed, embeddings, atol=1e-5)
    tokens = encoder.tokenizer(["a cat sat"])
    with pytest.raises(EncoderError, match="WeightedLayerPooling has one embedding, none of each"):
        encoder.all_layers(encoder.params, jax.tree.map(jnp.asarray, tokens))


# Refusals ----------------------------------------------------------------------------------------

WRONG_FILES = [
    ("1_Pooling", {"pooling_mode": "median"}, "pooling mode 'median' is none of"),
    ("1_Pooling", {"pooling_mode": []}, "pooling_mode is empty"),
    ("1_Pooling", {"pooling_mode": 3}, "pooling_mode must be a text or a list"),
    ("1_Pooling", {"include_prompt": "yes"}, 'include_prompt must be true or false; got "yes"'),
    ("1_Pooling", {"embedding_dimension": "32"}, "embedding_dimension must be a whole number"),
    ("1_Pooling", {"top_k": 3}, r"config\.json: the key 'top_k' \(3\) is not known"),
    ("2_Dense", {"in_features": "64"}, 'in_features must be a whole number at least 1; got "64"'),
    ("2_Dense", {"in_features": 32}, r"must hold linear.weight \(24, 32\); got \(24, 64\)"),
    ("2_Dense", {"activation_function": None}, "activation_function must be a text; got null"),
    *(
        ("2_Dense", {"activation_function": name}, f"activation {name} is none of CELU, ELU")
        for name in ("torch.nn.modules.activation.PReLU", "torch.nn.modules.activation.Softmax",
                     "torch.nn.modules.activation.RReLU", "mine.Tanh", "Tanh", "torch.tanh")
    ),
    ("2_Dense", {"use_residual": 1}, "use_residual must be true or false; got 1"),
    ("2_Dense", {"use_residual": True}, r"must hold residual.weight \(24, 64\)"),
    ("2_Dense", {"bias": False}, "holds linear.bias, which nothing uses"),
    ("2_Dense", {"module_input_name": "cls_embedding"}, "Dense reads 'cls_embedding', which no"),
    ("2_Dense", {"module_input_name": TOKENS}, "in_features is 64, token_embeddings has 32"),
    ("3_Normalize", {"module_input_name": "other"}, "Normalize reads 'other', which no module"),
    ("3_Normalize", {"p": 1}, r"the key 'p' \(1\) is not known"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "changes", "message"), WRONG_FILES, ids=lambda v: str(v)[:40])
def test_a_modules_configuration_is_refused_by_file_and_key(folder, module, changes, message):
    edit(folder / module / "config.json", **changes)
    refused(folder, message)


@pytest.mark.parametrize("module", ["1_Pooling", "2_Dense"])
@pytest.mark.parametrize("text", ["[]", "null", '"text"', "5", "{"])
def test_a_configuration_that_is_no_object_is_refused(folder, module, text):
    (folder / module / "config.json").write_text(text)
    refused(folder, rf"{module}/config\.json")


def test_a_configuration_that_is_missing_is_refused(folder):
    (folder / "1_Pooling/config.json").unlink()
    refused(folder, r"1_Pooling/config\.json is missing")


def test_a_key_that_is_missing_is_named(folder):
    (folder / "2_Dense/config.json").write_text('{"in_features": 64}')
    refused(folder, r"2_Dense/config\.json: it lacks 'out_features'")


def test_a_module_of_weights_in_another_format_only(folder):
    (folder / "2_Dense/model.safetensors").rename(folder / "2_Dense/pytorch_model.bin")
    refused(folder, r"2_Dense/model\.safetensors is missing: there is only pytorch_model\.bin")


def test_layers_that_sentence_transformers_passes_over(folder):
    config = {"embedding_dimension": 32, "layer_start": 1, "num_hidden_layers": 2}
    write_module(folder / "1_Layers", config, layer_weights=np.ones(2, np.float32))
    chained(folder, ("1_Layers", "WeightedLayerPooling"), ("1_Pooling", "Pooling"))
    refused(folder, "WeightedLayerPooling needs output_hidden_states = true in config.json")


def test_every_module_says_what_it_reads_and_writes():
    made = {Pooling: (), Dense: (4, 4), Normalize: (), LayerNorm: (4,), Dropout: (),
            WeightedLayerPooling: (4,)}  # fmt: skip
    assert set(made) == set(MODULES.values())
    names = {TOKENS, SENTENCE, ALL_LAYERS}
    assert all({(m := kind(*sizes)).reads, m.writes} <= names for kind, sizes in made.items())


def test_the_tensors_of_a_saved_dense_have_their_published_names(folder, tmp_path):
    before = load_file(folder / "2_Dense/model.safetensors")
    saved = jaxembed.load(folder).save(tmp_path / "saved")
    after = load_file(saved / "2_Dense/model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, after, before)
