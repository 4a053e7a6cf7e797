"""Published weights, as packages carry them, through our own transformers."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxembed
from jaxembed.encoders.families import load_family
from tests.carriers import carried

GOLDENS = Path(__file__).parents[1] / "goldens/encoders"


@pytest.mark.parametrize("side", ["right", "left"])
def test_hidden_states_of_a_bert_with_old_names_and_no_pooler(side):
    golden = np.load(GOLDENS / "splade.npz")
    transformer = load_family(carried("cognition", "model"), dtype="float32")
    tokens = {name: golden[f"{side}/{name}"] for name in ("input_ids", "attention_mask")}
    states = jax.jit(transformer.all_layers)(transformer.params, tokens)  # [n l t d]
    real = tokens["attention_mask"][:, None, :, None] > 0
    np.testing.assert_allclose(states * real, golden[f"{side}/hidden"] * real, atol=2e-5)


def test_what_is_not_used_is_written_back():
    folder = carried("cognition", "model")
    published = load_file(folder / "model.safetensors")
    transformer = load_family(folder, dtype="float32")
    written = transformer.tensors(jax.device_get(transformer.params))
    renamed = {
        name.replace(".gamma", ".weight").replace(".beta", ".bias").removeprefix("bert."): tensor
        for name, tensor in published.items()
    }
    shared = written.keys() & renamed.keys()
    assert len(shared) >= len(jax.tree.leaves(transformer.params)) - 1
    for name in shared:
        np.testing.assert_array_equal(written[name], renamed[name])


def test_minilm_gives_the_published_embeddings_from_either_source():
    texts = json.loads((GOLDENS / "minilm_texts.json").read_text())
    expected = np.load(GOLDENS / "minilm.npz")["embeddings"]
    encoder = jaxembed.load("all-MiniLM-L6-v2")
    assert encoder.packs  # one of our own
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=2e-5)
    np.testing.assert_allclose(encoder.encode(texts, packing=True), expected, atol=2e-5)
