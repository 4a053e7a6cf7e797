"""Embeddings equal those of sentence-transformers (tests/goldens says how they were made)."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxembed
from jaxembed.encoders.families import load_family
from jaxembed.encoders.pooling import MODES, pool

GOLDENS = Path(__file__).parents[1] / "goldens"
TINY = GOLDENS / "encoders/tiny"


def golden(name):
    texts = json.loads((GOLDENS / f"encoders/{name}_texts.json").read_text())
    return texts, np.load(GOLDENS / f"encoders/{name}.npz")


@pytest.fixture(scope="module")
def minilm():
    return jaxembed.load("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def tiny():
    return jaxembed.load(TINY)


def test_minilm_gives_the_published_embeddings_of_short_long_and_empty_texts(minilm):
    texts, expected = golden("minilm")
    embeddings = minilm.encode(texts)
    cosines = np.sum(embeddings * expected["embeddings"], axis=1)
    assert cosines.min() >= 0.999999
    np.testing.assert_allclose(embeddings, expected["embeddings"], atol=2e-5)


def test_batch_size_and_order_do_not_matter(minilm):
    texts, _ = golden("minilm")
    together = minilm.encode(texts[:12])
    backwards = minilm.encode(texts[11::-1], batch_size=5)
    np.testing.assert_allclose(backwards[::-1], together, atol=2e-6)


def test_module_chain_prompts_and_truncation(tiny):
    texts, expected = golden("tiny")
    np.testing.assert_allclose(tiny.encode(texts), expected["plain"], atol=2e-5)
    np.testing.assert_allclose(
        tiny.encode(texts, prompt_name="query"), expected["query"], atol=2e-5
    )
    truncated = tiny.encode(texts, truncate_dim=8, normalize=True)
    np.testing.assert_allclose(truncated, expected["truncated"], atol=2e-5)


def hidden_states(encoder, texts, prompt="", side="right"):
    tokenizer = replace(encoder.tokenizer, may_pad_left=True)
    tokenizer.tokenizer.padding_side = side
    try:
        tokens = tokenizer(texts, prompt)
        width = tokens["attention_mask"].sum(axis=1).max()
        cut = slice(-width, None) if side == "left" else slice(width)
        tokens = {name: jnp.asarray(array[:, cut]) for name, array in tokens.items()}
    finally:
        encoder.tokenizer.tokenizer.padding_side = "right"
    transformer = load_family(TINY, dtype=jnp.float32)
    return transformer.apply(encoder.params["transformer"], tokens), tokens


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mode", MODES)
def test_each_pooling_mode(tiny, mode, side):
    texts, expected = golden("tiny")
    hidden, tokens = hidden_states(tiny, texts, side=side)
    pooled = pool(hidden, tokens["attention_mask"], modes=(mode,))
    name = f"pooling_{mode}" if side == "right" else f"left_{mode}"
    np.testing.assert_allclose(pooled, expected[name], atol=2e-5)


def test_all_pooling_modes_joined(tiny):
    texts, expected = golden("tiny")
    hidden, tokens = hidden_states(tiny, texts)
    pooled = pool(hidden, tokens["attention_mask"], modes=tuple(MODES))
    np.testing.assert_allclose(pooled, expected["pooling_all"], atol=2e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mode", MODES)
def test_pooling_without_the_prompt(tiny, mode, side):
    texts, expected = golden("tiny")
    without = replace(tiny, tokenizer=replace(tiny.tokenizer, prompt_counts=False))
    hidden, tokens = hidden_states(without, texts, prompt="query: ", side=side)
    pooled = pool(hidden, tokens["attention_mask"], tokens["pooling_mask"], modes=(mode,))
    expected = expected[f"{'' if side == 'right' else 'left_'}without_prompt_{mode}"]
    if mode == "mean_sqrt_len_tokens":  # as far from the hidden states as its root is great
        root = np.sqrt(tokens["pooling_mask"].sum(axis=1, keepdims=True))
        pooled, expected = pooled / root, expected / root
    np.testing.assert_allclose(pooled, expected, atol=2e-5)


def test_what_is_saved_gives_the_same_embeddings(tiny, tmp_path):
    texts, expected = golden("tiny")
    folder = tiny.save(tmp_path / "model", facts={"loss": "none"})
    again = jaxembed.load(folder)
    np.testing.assert_array_equal(again.encode(texts), tiny.encode(texts))
    queries = again.encode(texts, prompt_name="query")
    np.testing.assert_allclose(queries, expected["query"], atol=2e-5)
    assert "| loss | none |" in (folder / "README.md").read_text()
    assert not list(tmp_path.glob("*.partial"))


TORCH = os.environ.get("JAXEMBED_TORCH_PYTHON")


@pytest.mark.skipif(TORCH is None, reason="JAXEMBED_TORCH_PYTHON names no Python with torch")
@pytest.mark.parametrize("name", ["minilm", "tiny"])
def test_sentence_transformers_loads_what_is_saved(name, minilm, tiny, tmp_path):
    encoder = {"minilm": minilm, "tiny": tiny}[name]
    moved = jax.tree.map(lambda x: x * 1.01, encoder.params)  # not the weights it was loaded with
    encoder = replace(encoder, params=moved)
    folder = encoder.save(tmp_path / "model")
    texts, out = GOLDENS / f"encoders/{name}_texts.json", tmp_path / "out.npz"
    script = GOLDENS / "load_in_torch.py"
    subprocess.run([str(TORCH), str(script), str(folder), str(texts), str(out)], check=True)
    (embeddings,) = np.load(out).values()
    np.testing.assert_allclose(encoder.encode(json.loads(texts.read_text())), embeddings, atol=1e-5)
