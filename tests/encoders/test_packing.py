"""Several texts in a row: the embeddings, gradients and losses of texts that stand alone."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import jaxembed
from jaxembed.data import Shards
from jaxembed.encoders import EncoderError, pack, pack_columns
from jaxembed.encoders.encoder import chain
from jaxembed.encoders.families import load_family
from jaxembed.encoders.modules import Pooling
from jaxembed.encoders.pooling import MODES
from jaxembed.objectives import as_sum
from jaxembed.tasks import Networks, open_task
from jaxembed.transforms import by_length, cached
from jaxembed.typing import PACKED

FAMILIES = Path(__file__).parents[1] / "goldens" / "families"
TEXTS = [
    "A cat sits on the mat, and a dog looks at it from the other side of the street.",
    "Stocks fell.",
    "Rain",
    "He reads a book about the history of bread.",
    "Who is it?",
    "The river rises in spring when the snow melts.",
]


@pytest.fixture(scope="module")
def encoder():
    return jaxembed.load("all-MiniLM-L6-v2", source="jaxembed", n_layers=2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 70), min_size=1, max_size=30), st.booleans(), st.integers(1, 3)
)  # fmt: skip
def test_every_token_is_placed_once(lengths, left, multiple):
    width = max(lengths)
    mask = np.arange(width) < np.array(lengths)[:, None]
    mask = mask[:, ::-1] if left else mask
    ids = np.cumsum(mask).reshape(mask.shape) * mask  # all different
    tokens = {"input_ids": ids, "attention_mask": mask.astype(np.int32)}
    packed = pack(tokens, multiple=multiple, left=left)
    (block,) = packed["blocks"]
    rows, columns = block["input_ids"].shape
    assert rows % multiple == 0
    assert columns == max(32, -(-width // 8) * 8)
    slots = block["texts"].shape[1]
    np.testing.assert_array_equal(block["texts"].ravel()[packed["places"]], range(len(lengths)))
    for text, place in enumerate(packed["places"]):
        row, slot = divmod(int(place), slots)
        mine = block["segment_ids"][row] == slot + 1
        np.testing.assert_array_equal(block["input_ids"][row, mine], ids[text][mask[text]])
        np.testing.assert_array_equal(block["positions"][row, mine], np.arange(lengths[text]))
    assert (block["attention_mask"] > 0).sum() == sum(lengths)
    np.testing.assert_array_equal(block["attention_mask"] > 0, block["segment_ids"] > 0)


@pytest.mark.parametrize("name", ["bert", "roberta", "mpnet", "modernbert", "qwen3", "gemma3"])
def test_every_pooling_of_packed_rows_is_that_of_texts_alone(name):
    transformer = load_family(FAMILIES / name, dtype="float32", dropout=False)
    modules = [("pooling", Pooling(tuple(MODES), include_prompt=False))]
    generator = np.random.default_rng(0)
    mask = (np.arange(20) < np.array([[20], [3], [7], [2], [11]])).astype(np.int32)
    left = name == "qwen3"
    mask = mask[:, ::-1] if left else mask
    ids = generator.integers(5, 30, mask.shape).astype(np.int32) * mask
    counts = mask * (np.cumsum(mask, axis=1) > 1)  # a prompt of one token
    tokens = {"input_ids": ids, "attention_mask": mask, "pooling_mask": counts}
    for function in (transformer.apply, transformer.all_layers):
        encode = by_length(chain(function, modules))
        params = {"transformer": transformer.params}
        together = jax.jit(encode)(params, pack(tokens, left=left))
        np.testing.assert_allclose(together, jax.jit(encode)(params, tokens), atol=1e-5)


def value_and_gradient(encode, params, tokens, key=None):
    def total(params):
        embeddings = encode(params, tokens, key=key)
        return jnp.sum(embeddings * jnp.cos(jnp.arange(embeddings.size).reshape(embeddings.shape)))

    return jax.jit(jax.value_and_grad(total))(params)


def test_gradients_of_packed_rows_are_those_of_texts_alone(encoder):
    tokens = encoder.tokenizer(TEXTS)
    packed = pack(tokens)
    assert packed["blocks"][0]["input_ids"].shape[0] < len(TEXTS)
    expected = value_and_gradient(encoder.apply, encoder.params, tokens)
    for encode in (encoder.apply, cached(encoder.apply, 1)):
        actual = value_and_gradient(by_length(encode), encoder.params, packed)
        jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, atol=2e-5), actual, expected)


def test_rows_of_texts_draw_different_dropout(encoder):
    key = jax.random.key(0)
    packed = pack(encoder.tokenizer([*TEXTS, *TEXTS]))
    embed = by_length(encoder.apply)
    drawn = embed(encoder.params, packed, key=key)
    np.testing.assert_allclose(drawn, embed(encoder.params, packed, key=key), atol=1e-6)
    assert jnp.abs(drawn[:6] - drawn[6:]).max() > 1e-2
    chunked = by_length(cached(encoder.apply, 2))(encoder.params, packed, key=key)
    np.testing.assert_allclose(chunked, drawn, atol=1e-5)


@pytest.mark.parametrize("batch_size", [4, 64])
def test_encode_packs(encoder, batch_size):
    texts = [f"{text} {number}" for number in range(10) for text in TEXTS]
    expected = encoder.encode(texts, batch_size=batch_size)
    shapes = set()

    def compiled(params, tokens):
        shapes.add(tokens["input_ids"].shape)
        return encoder.compiled(params, tokens)

    packing = replace(encoder, compiled=compiled)
    actual = packing.encode(texts, batch_size=batch_size, packing=True)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert len(shapes) == 1  # no text is long
    long = [" ".join(TEXTS), *texts[:9]]
    np.testing.assert_allclose(
        packing.encode(long, batch_size=batch_size, packing=True), encoder.encode(long), atol=1e-5
    )
    assert len(shapes) == 2
    assert encoder.encode([], packing=True).shape == (0, 384)


def test_tasks_pack_their_texts(encoder):
    from datasets import Dataset

    rows = Dataset.from_dict(
        {
            "anchor": TEXTS[:4],
            "positive": TEXTS[2:],
            "negative_1": TEXTS[1:5],
            "negative_2": TEXTS[:4],
        }
    )
    losses = []
    for packing in (False, True):
        networks = Networks(encoder, guide=encoder)
        objective = as_sum("gist_embed")
        task = open_task(
            networks,
            objective,
            rows,
            batch_size=4,
            use_negatives=True,
            packing=packing,
            shards=Shards.all(2),
        )
        batch = task.make(0)
        assert ("blocks" in batch["guide_anchors"]) is packing
        for name in ("anchors", "positives", "negatives"):
            assert (batch[name].keys() == {"places"}) is packing
        if packing:  # 16 texts, of 3 to 21 tokens; a row for each of two devices
            assert batch["packed"]["blocks"][0]["input_ids"].shape == (2, 64)
        objective = task.objective.build(encoder.apply, guide=encoder.apply)
        losses.append(
            objective(
                {"encoder": encoder.params}, batch, key=None, frozen={"guide": encoder.params}
            )[0]
        )
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.flax_transformers
def test_models_of_transformers_do_not_pack():
    encoder = jaxembed.load("all-MiniLM-L6-v2", source="transformers", n_layers=1)
    with pytest.raises(EncoderError, match="packing is for transformers of the source jaxembed"):
        encoder.encode(["a"], packing=True)


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_columns_share_rows(left):
    """Columns of other widths, one with two texts to a row, one whose prompt does not count."""
    generator = np.random.default_rng(0)

    def column(*shape, prompt=0):
        mask = np.arange(shape[-1]) < generator.integers(2, shape[-1] + 1, shape[:-1])[..., None]
        position = np.cumsum(mask, axis=-1)
        tokens = {"input_ids": generator.integers(5, 30, shape), "attention_mask": mask}
        if prompt:
            tokens["pooling_mask"] = mask & (position > prompt)
        order = slice(None, None, -1 if left else 1)
        return {name: x[..., order].astype(np.int32) for name, x in tokens.items()}

    columns = {"anchors": column(4, 9), "positives": column(4, 20, prompt=1)}
    columns["negatives"] = column(4, 2, 6)
    made = pack_columns(columns, multiple=3, left=left)
    (block,) = made[PACKED]["blocks"]
    assert len(block["input_ids"]) == 3
    width, slots = block["input_ids"].shape[1], block["texts"].shape[1]
    numbers = [[0, 4, 8, 12], [1, 5, 9, 13], [[2, 3], [6, 7], [10, 11], [14, 15]]]
    for (name, tokens), its in zip(columns.items(), numbers, strict=True):
        places = made[name]["places"]
        np.testing.assert_array_equal(block["texts"].reshape(-1)[places], its)
        for index in np.ndindex(places.shape):
            row, slot = divmod(int(places[index]), slots)
            mine, real = block["segment_ids"][row] == slot + 1, tokens["attention_mask"][index] > 0
            pooled = tokens.get("pooling_mask", tokens["attention_mask"])
            for entry, values in {**tokens, "pooling_mask": pooled}.items():
                np.testing.assert_array_equal(block[entry][row, mine], values[index][real])
    assert block["attention_mask"].sum() == sum(x["attention_mask"].sum() for x in columns.values())
    assert width == 32


@pytest.mark.parametrize("rows", [(4, 8), (0, 0)])
def test_columns_of_other_rows_are_not_packed_together(rows):
    columns = {str(n): {"attention_mask": np.ones((count, 3), int)} for n, count in enumerate(rows)}
    with pytest.raises(ValueError, match="columns to pack are of the same rows, one or more; got"):
        pack_columns(columns)
