"""Transformers' Flax decoder against loops in NumPy, and where its parameters come from."""

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
from jaxembed.encoders import EncoderError, load_decoder, tied_decoder
from jaxembed.encoders.parameters import flatten
from jaxembed.randomness import row_keys

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
TENSORS = load_file(TINY / "model.safetensors")
HEADS, LAYERS = 4, 2
FLAX = "transformers"
pytestmark = pytest.mark.flax_transformers


@pytest.fixture(scope="module")
def encoder():
    return jaxembed.load(TINY, source=FLAX)


@pytest.fixture(scope="module")
def decoder(encoder):
    return tied_decoder(encoder)


@pytest.fixture(scope="module")
def own(decoder):
    """Parameters of its own that are far from those that are drawn, which nearly say nothing."""
    leaves, tree = jax.tree.flatten(decoder.params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    drawn = [0.4 * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn)


@pytest.fixture(scope="module")
def params(decoder, own, encoder):
    return decoder.merged(own, encoder.params)


@pytest.fixture(scope="module")
def batch():
    ids = np.random.default_rng(0).integers(3, 406, (2, 6))
    ids[1, 4:] = 0  # padding
    return ids, np.random.default_rng(1).normal(size=(2, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def logits_of(decoder, params):
    compiled = jax.jit(decoder.apply)
    return lambda ids, vectors, key=None: compiled(params, ids, vectors, key=key)


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def published(tree):
    """Names and layouts as PyTorch has them."""
    last = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    return {
        ".".join((*path[:-1], last[path[-1]])): np.asarray(x).T if path[-1] == "kernel" else x
        for path, x in flatten(tree).items()
    }


class Reference:
    """A small BERT decoder, one row at a time, from tensors by their published names."""

    def __init__(self, own):
        self.tensors = {f"bert.{name}": tensor for name, tensor in TENSORS.items()}
        self.tensors |= {name: np.asarray(tensor) for name, tensor in published(own).items()}

    def linear(self, name, x):
        return self.tensors[f"{name}.weight"] @ x + self.tensors[f"{name}.bias"]

    def norm(self, name, x):
        x = (x - x.mean()) / math.sqrt(x.var() + 1e-12)
        return x * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def gelu(self, x):
        return np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])

    def attention(self, name, x, memory):
        """Returns the new vector of one token that sees the memory."""
        query = self.linear(f"{name}.self.query", x)
        keys = [self.linear(f"{name}.self.key", m) for m in memory]
        values = [self.linear(f"{name}.self.value", m) for m in memory]
        size, joined = len(x) // HEADS, []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = [math.exp(query[part] @ key[part] / math.sqrt(size)) for key in keys]
            joined.append(
                sum(s / sum(scores) * value[part] for s, value in zip(scores, values, strict=True))
            )
        out = self.linear(f"{name}.output.dense", np.concatenate(joined))
        return self.norm(f"{name}.output.LayerNorm", out + x)

    def __call__(self, ids, vector):
        table = lambda name: self.tensors[f"bert.embeddings.{name}_embeddings.weight"]  # noqa: E731
        hidden = [
            self.norm(
                "bert.embeddings.LayerNorm",
                table("word")[i] + table("position")[t] + table("token_type")[0],
            )
            for t, i in enumerate(ids)
        ]
        for layer in range(LAYERS):
            name, new = f"bert.encoder.layer.{layer}", []
            for t, x in enumerate(hidden):
                x = self.attention(f"{name}.attention", x, hidden[: t + 1])
                x = self.attention(f"{name}.crossattention", x, [vector])
                inner = self.gelu(self.linear(f"{name}.intermediate.dense", x))
                x = self.norm(
                    f"{name}.output.LayerNorm", self.linear(f"{name}.output.dense", inner) + x
                )
                new.append(x)
            hidden = new
        head = "cls.predictions.transform"
        hidden = [
            self.norm(f"{head}.LayerNorm", self.gelu(self.linear(f"{head}.dense", x)))
            for x in hidden
        ]
        return np.stack([table("word") @ x + self.tensors["cls.predictions.bias"] for x in hidden])


def test_logits_are_those_of_loops(logits_of, own, batch):
    ids, vectors = batch
    logits = logits_of(ids, vectors)
    assert logits.dtype == jnp.float32
    reference = Reference(own)
    expected = np.stack([reference(*row) for row in zip(ids, vectors, strict=True)])
    np.testing.assert_allclose(logits, expected, atol=2e-4, rtol=2e-4)


def test_a_later_token_does_not_change_earlier_logits(logits_of, batch):
    ids, vectors = batch
    changed = ids.copy()
    changed[:, 3] = 9
    difference = np.abs(logits_of(changed, vectors) - logits_of(ids, vectors)).max(axis=(0, 2))
    assert difference[:3].max() < 1e-5
    assert difference[3:].min() > 1e-2


def test_each_row_sees_its_own_vector(logits_of, batch):
    ids, vectors = batch
    changed = logits_of(ids, vectors * np.array([[1.0], [-1.0]], np.float32))
    difference = np.abs(changed - logits_of(ids, vectors)).max(axis=(1, 2))
    assert difference[0] < 1e-5
    assert difference[1] > 1e-2


def test_dropout_comes_row_by_row(encoder, params, logits_of, batch):
    ids, vectors = batch
    key = row_keys(jax.random.key(0), 2)
    dropped = logits_of(ids, vectors, key)
    swapped = logits_of(ids[::-1], vectors[::-1], key[::-1])
    np.testing.assert_allclose(swapped[::-1], dropped, atol=1e-4)
    twice = logits_of(ids[[0, 0]], vectors[[0, 0]], key)
    assert np.abs(twice[0] - twice[1]).max() > 1e-2
    plain = logits_of(ids, vectors)
    assert np.abs(dropped - plain).max() > 1e-2
    without = jax.jit(tied_decoder(encoder, dropout=False).apply)(params, ids, vectors, key=key)
    np.testing.assert_allclose(without, plain, atol=1e-4)


def test_own_parameters_are_what_the_encoder_lacks(encoder, decoder):
    paths = flatten(decoder.params)
    shared = {("bert", *path) for path in flatten(encoder.params["transformer"])}
    assert not shared & set(paths)
    assert all("crossattention" in path or path[0] == "cls" for path in paths)
    assert {path[-1] for path in paths} == {"kernel", "bias", "scale"}
    merged = flatten(decoder.merged(decoder.params, encoder.params))
    assert set(merged) == shared | set(paths)
    words = ("embeddings", "word_embeddings", "embedding")
    assert merged["bert", *words] is flatten(encoder.params["transformer"])[words]


def test_gradients_of_the_decoder_reach_the_encoder(encoder, decoder, own, batch):
    ids, vectors = batch

    @jax.jit
    @jax.grad
    def gradient(encoder_params):
        logits = decoder.apply(decoder.merged(own, encoder_params), ids, vectors)
        return jax.nn.log_softmax(logits)[..., 5].mean()

    gradients = gradient(encoder.params)
    words = gradients["transformer"]["embeddings"]["word_embeddings"]["embedding"]
    assert np.abs(words).max(axis=1).min() > 0  # of each word, as a logit or as an input
    assert np.abs(jax.tree.leaves(gradients["2_Dense"])[0]).max() == 0


def test_a_decoder_of_its_own_is_read_with_the_head_that_is_stored(folder, own, params):
    head = {name: x for name, x in published(own).items() if name.startswith("cls")}
    tensors = {f"bert.{name}": x for name, x in TENSORS.items()} | head
    arrays = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    save_file(arrays, folder / "model.safetensors")
    decoder = load_decoder(folder, seed=3, max_seq_length=16, source=FLAX)
    assert (decoder.pad_id, decoder.dimension, decoder.tokenizer.max_length) == (0, 32, 16)
    assert decoder.merged(decoder.params, {}) is decoder.params
    assert jax.tree.map(jnp.shape, decoder.params) == jax.tree.map(jnp.shape, params)
    read, expected = flatten(decoder.params), flatten(params)
    for path in read:
        if "crossattention" not in path:
            np.testing.assert_array_equal(read[path], expected[path])


def test_what_is_not_stored_is_drawn_with_the_seed(decoder):
    one, other = (flatten(load_decoder(TINY, seed=seed, source=FLAX).params) for seed in (0, 1))
    differing = {path for path in one if not np.array_equal(one[path], other[path])}
    kernels = {path for path in flatten(decoder.params) if path[-1] == "kernel"}
    assert differing == kernels
    for path, leaf in flatten(decoder.params).items():
        np.testing.assert_array_equal(one[path], leaf)


def test_the_number_of_layers_is_the_encoders():
    decoder = tied_decoder(jaxembed.load(TINY, n_layers=1, source=FLAX))
    assert set(decoder.params["bert"]["encoder"]["layer"]) == {"0"}


@pytest.mark.parametrize(
    ("model_type", "base"),
    [("roberta", "roberta"), ("xlm-roberta", "roberta"), ("electra", "electra")],
)
def test_other_types(folder, tmp_path, batch, model_type, base):
    own = {"embedding_size": 32} if model_type == "electra" else {}
    edit(folder / "config.json", model_type=model_type, pad_token_id=1, **own)
    encoder = jaxembed.load(folder, initialize=0, source=FLAX)
    tied, own = tied_decoder(encoder), load_decoder(encoder.save(tmp_path / "saved"), source=FLAX)
    params = tied.merged(tied.params, encoder.params)
    assert base in params
    jax.tree.map(np.testing.assert_array_equal, params, own.params)
    assert jax.eval_shape(tied.apply, params, *batch).shape == (2, 6, 406)


def test_bfloat16_gives_float32_logits(encoder, params, logits_of, batch):
    logits = jax.jit(tied_decoder(encoder, dtype=jnp.bfloat16).apply)(params, *batch)
    assert logits.dtype == jnp.float32
    assert np.corrcoef(logits.ravel(), logits_of(*batch).ravel())[0, 1] > 0.999


def test_a_real_model():
    encoder = jaxembed.load("all-MiniLM-L6-v2", source=FLAX)
    decoder = tied_decoder(encoder)
    ids = decoder.tokenizer(["A cat sits.", "Stocks fell."])["input_ids"]
    params = decoder.merged(decoder.params, encoder.params)
    logits = jax.eval_shape(decoder.apply, params, ids, jnp.ones((2, 384)))
    assert logits.shape == (2, 8, 30522)
    assert decoder.dimension == 384


@pytest.mark.parametrize("model_type", ["distilbert", "albert", "gpt_neo"])
def test_a_type_without_a_decoder(folder, model_type):
    from transformers import AutoConfig

    AutoConfig.for_model(model_type).save_pretrained(folder)
    message = f"{model_type!r} has no Flax decoder with cross-attention; use one of the type bert,"
    with pytest.raises(EncoderError, match=message):
        load_decoder(folder, source=FLAX)


def test_an_encoder_and_decoder_in_one_is_no_decoder(folder):
    from transformers import AutoConfig

    AutoConfig.for_model("t5").save_pretrained(folder)
    with pytest.raises(EncoderError, match="is_encoder_decoder = true is not supported"):
        load_decoder(folder, source=FLAX)


def test_an_encoder_of_a_type_without_a_decoder(folder):
    edit(folder / "config.json", model_type="albert")
    with pytest.raises(EncoderError, match="'albert' has no Flax decoder with cross-attention"):
        tied_decoder(jaxembed.load(folder, initialize=0, source=FLAX))


def test_vectors_of_another_size(decoder, params, batch):
    with pytest.raises(EncoderError, match="needs vectors of 32 features; got 24"):
        decoder.apply(params, batch[0], batch[1][:, :24])


def test_a_tokenizer_without_padding(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    config["tokenizer_class"] = "PreTrainedTokenizerFast"  # that of BERT has one of its own
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="a decoder needs a tokenizer with a pad token"):
        load_decoder(folder, source=FLAX)
