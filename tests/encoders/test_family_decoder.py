"""The decoder of our own transformers: that of transformers, which needs no queries and keys."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxembed
from jaxembed.encoders import EncoderError, load_decoder, tied_decoder
from jaxembed.encoders.parameters import flatten, unflatten

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
FAMILIES = Path(__file__).parents[1] / "goldens/families"


@pytest.fixture(scope="module")
def encoder():
    return jaxembed.load(TINY, source="jaxembed")


@pytest.fixture(scope="module")
def decoder(encoder):
    return tied_decoder(encoder)


@pytest.fixture(scope="module")
def batch():
    ids = np.random.default_rng(0).integers(3, 406, (3, 7))
    ids[1, 4:] = 0  # padding
    return ids, np.random.default_rng(1).normal(size=(3, 32)).astype(np.float32)


def of_transformers(own):
    """Our parameters by the paths of transformers' Flax decoder, of which it needs no others."""
    paths: dict[tuple[str, ...], tuple[str, ...]] = {
        ("head", "bias"): ("cls", "predictions", "bias")
    }
    for name, last in (("dense", "kernel"), ("dense", "bias"), ("norm", "scale"), ("norm", "bias")):
        theirs = {"dense": "dense", "norm": "LayerNorm"}[name]
        paths["head", name, last] = ("cls", "predictions", "transform", theirs, last)
    flat = flatten(own)
    found: dict[tuple[str, ...], Any] = {theirs: flat[ours] for ours, theirs in paths.items()}
    for name, theirs in (
        ("value", "self/value"),
        ("out", "output/dense"),
        ("norm", "output/LayerNorm"),
    ):
        for last in ("kernel", "bias") if name != "norm" else ("scale", "bias"):
            for number, leaf in enumerate(flat["readers", name, last]):
                path = ("bert", "encoder", "layer", str(number), "crossattention")
                found[(*path, *theirs.split("/"), last)] = leaf
    return found


@pytest.mark.flax_transformers
def test_logits_are_those_of_transformers(encoder, decoder, batch):
    leaves, tree = jax.tree.flatten(decoder.params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    own = jax.tree.unflatten(
        tree, [0.4 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    )
    found = jax.jit(decoder.apply)(decoder.merged(own, encoder.params), *batch)
    flax_encoder = jaxembed.load(TINY, source="transformers")
    flax = tied_decoder(flax_encoder)
    theirs = unflatten({**flatten(flax.params), **of_transformers(own)})
    expected = jax.jit(flax.apply)(flax.merged(theirs, flax_encoder.params), *batch)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)


def test_a_later_token_changes_nothing_before_it_and_the_vector_everything(encoder, decoder, batch):
    params = decoder.merged(decoder.params, encoder.params)
    ids, vectors = batch
    apply = jax.jit(decoder.apply)
    logits = apply(params, ids, vectors)
    later = ids.copy()
    later[:, 4] = 17
    np.testing.assert_allclose(apply(params, later, vectors)[:, :4], logits[:, :4], atol=1e-5)
    assert np.abs(apply(params, later, vectors)[:, 4:] - logits[:, 4:]).max() > 1e-3
    assert (np.abs(apply(params, ids, vectors + 1) - logits).max(axis=-1) > 1e-4).all()


def test_the_transformer_is_that_of_the_encoder(encoder, decoder, batch):
    assert decoder.params.keys() == {"readers", "head"}
    ids, vectors = batch

    def loss(encoder_params):
        logits = decoder.apply(decoder.merged(decoder.params, encoder_params), ids, vectors)
        return jnp.sum(jnp.square(logits))

    gradient = jax.jit(jax.grad(loss))(encoder.params)
    assert np.abs(gradient["transformer"]["embeddings"]["tokens"]["embedding"]).max() > 0


@pytest.mark.parametrize("name", ["mpnet", "electra", "albert", "modernbert", "qwen3", "gemma3"])
def test_every_family_has_a_decoder(name):
    from jaxembed.encoders.families import FAMILIES as KNOWN, load_family
    from jaxembed.encoders.families.decoding import build_decoder

    folder = FAMILIES / name
    transformer = load_family(folder, dtype=jnp.float32)
    a = KNOWN[transformer_type(folder)].architecture(transformer.settings)
    run, own = build_decoder(a, jnp.float32, 0)
    ids = np.random.default_rng(0).integers(3, 60, (2, 5))
    vectors = np.ones((2, a.width), np.float32)
    logits = jax.jit(run)({**own, "transformer": transformer.params}, (ids, vectors))
    assert logits.shape == (2, 5, a.vocab_size)
    assert np.isfinite(logits).all()


def transformer_type(folder):
    import json

    return json.loads((folder / "config.json").read_text())["model_type"]


def test_an_untied_decoder_has_a_transformer_of_its_own(encoder, batch):
    decoder = load_decoder(TINY, source="jaxembed")
    assert decoder.params.keys() == {"readers", "head", "transformer"}
    assert decoder.name == str(TINY)
    params = decoder.merged(decoder.params, {})
    tied = tied_decoder(encoder)
    expected = jax.jit(tied.apply)(tied.merged(tied.params, encoder.params), *batch)
    np.testing.assert_allclose(jax.jit(decoder.apply)(params, *batch), expected, atol=1e-5)


def test_vectors_of_another_width_are_refused(encoder, decoder, batch):
    with pytest.raises(EncoderError, match="needs vectors of 32 features; got 24"):
        decoder.apply(decoder.merged(decoder.params, encoder.params), batch[0], batch[1][:, :24])
