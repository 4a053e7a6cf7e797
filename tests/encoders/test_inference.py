"""Inference: any number of texts, in order, in few shapes, on several devices, in few bits."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxembed
from jaxembed.encoders import EncoderError
from jaxembed.encoders.inference import encode_stream, quantize_embeddings
from jaxembed.encoders.token_batches import token_batches

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
WORDS = ("a", "cat", "sat", "on", "the", "mat", "while", "東京", "was", "far", "away")
ATOL = 1e-5  # of float32 sums over other shapes


@pytest.fixture(scope="module")
def tiny():
    encoder = jaxembed.load(TINY)
    return replace(encoder, tokenizer=encoder.tokenizer.with_buckets((16, 64)))  # few programs


def random_texts(n, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(0, 40))) for _ in range(n)]


def one_by_one(encoder, texts, prompt=""):
    """The embeddings of single texts, all padded to the same length."""
    tokenizer = encoder.tokenizer.with_buckets((64,))
    rows = [encoder.compiled(encoder.params, tokenizer([text], prompt))[0] for text in texts]
    return np.array(rows, np.float32)


# Precisions --------------------------------------------------------------------------------------


def published(x, precision, ranges=None):
    """`quantize_embeddings` of sentence-transformers 6.2."""
    if precision == "float32":
        return x.astype(np.float32)
    if precision.endswith("int8"):
        if ranges is None:
            ranges = np.vstack((np.min(x, axis=0), np.max(x, axis=0)))
        ranges = ranges.astype(np.float32)
        starts, steps = ranges[0, :], (ranges[1, :] - ranges[0, :]) / 255
        levels = np.clip(np.floor((x - starts) / np.where(steps == 0, 1, steps)), 0, 255)
        return levels.astype(np.uint8) if precision == "uint8" else (levels - 128).astype(np.int8)
    bits = np.packbits(x > 0, axis=-1)
    return bits if precision == "ubinary" else (bits - 128).astype(np.int8)


@pytest.mark.parametrize("given", [False, True], ids=["own ranges", "ranges given"])
@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
def test_every_precision_is_the_published_one(precision, given):
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 21)).astype(np.float32)
    x[:, 3] = 0.25  # an empty range
    x[:5, 4] = 0.0  # no bit
    ranges = np.stack([x.min(axis=0) / 2, x.max(axis=0)]) if given else None
    if given and not precision.endswith("int8"):
        with pytest.raises(
            EncoderError, match=f"ranges belong to .* int8 and uint8, not to {precision}"
        ):
            quantize_embeddings(x, precision, ranges)
        return
    codes, expected = quantize_embeddings(x, precision, ranges), published(x, precision, ranges)
    assert codes.dtype == expected.dtype
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_encode_quantizes_what_is_truncated_and_normalized(tiny, precision):
    texts = random_texts(70)
    floats = tiny.encode(texts, truncate_dim=12, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(floats, axis=1), 1, atol=1e-6)
    codes = tiny.encode(texts, truncate_dim=12, normalize=True, precision=precision)
    np.testing.assert_array_equal(codes, published(floats, precision))


@pytest.mark.parametrize(
    ("precision", "dtype", "width"), [("int8", np.int8, 24), ("ubinary", np.uint8, 3)]
)
def test_no_text_has_the_shape_and_type_of_the_precision(tiny, precision, dtype, width):
    codes = tiny.encode([], precision=precision)
    assert (codes.shape, codes.dtype) == ((0, width), dtype)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_bytes_of_one_text_need_ranges(tiny, precision):
    with pytest.raises(EncoderError, match=rf"{precision} of one text needs ranges \[2 d\]"):
        tiny.encode("any text", precision=precision)
    ranges = np.array([[-1.0] * 24, [1.0] * 24])
    codes = tiny.encode("any text", precision=precision, ranges=ranges)
    assert len(np.unique(codes)) > 5


# Batches -----------------------------------------------------------------------------------------


def test_texts_of_random_lengths_keep_their_order(tiny):
    texts = random_texts(150)
    expected = one_by_one(tiny, texts[:20])
    for batch_size in (64, 7, 1):
        embeddings = tiny.encode(texts, batch_size=batch_size)
        np.testing.assert_allclose(embeddings[:20], expected, atol=ATOL)
    backwards = tiny.encode(texts[::-1])
    np.testing.assert_allclose(backwards[::-1], embeddings, atol=ATOL)


def test_one_string_is_one_row(tiny):
    np.testing.assert_array_equal(tiny.encode("a cat"), tiny.encode(["a cat"]))


def test_a_prompt_that_does_not_count_is_left_out_of_every_batch(tiny):
    without = replace(tiny, tokenizer=replace(tiny.tokenizer, prompt_counts=False))
    texts = random_texts(20)
    embeddings = without.encode(texts, prompt_name="query", batch_size=4)
    np.testing.assert_allclose(embeddings, one_by_one(without, texts, "query: "), atol=ATOL)
    assert np.abs(embeddings - tiny.encode(texts, prompt="query: ")).max() > 1e-3


def test_a_shape_is_compiled_once_whatever_the_number_of_texts():
    encoder = jaxembed.load(TINY)
    for n in (1, 5, 64, 200, 333):
        encoder.encode(random_texts(n, seed=n), batch_size=16)
    buckets = [size for size in encoder.tokenizer.buckets if size <= encoder.tokenizer.max_length]
    assert encoder.compiled._cache_size() <= len(buckets)  # pyright: ignore[reportFunctionMemberAccess]


@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_hold_the_tokens_of_their_texts_alone(tiny, side):
    texts, tokenizer = random_texts(100), replace(tiny.tokenizer, prompt_counts=False)
    tokenizer.tokenizer.padding_side = side
    try:
        batches = list(token_batches(tokenizer, texts, "query: ", batch_size=16))
        expected = [tokenizer([texts[row] for row in rows], "query: ") for rows, _ in batches]
    finally:
        tokenizer.tokenizer.padding_side = "right"
    assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(100))
    for (rows, tokens), own in zip(batches, expected, strict=True):
        assert tokens.keys() == own.keys() == {"input_ids", "attention_mask", "pooling_mask"}
        for name, array in tokens.items():
            np.testing.assert_array_equal(array[: len(rows)], own[name])
            assert array.shape == (16, own[name].shape[1])


def test_batches_are_sorted_by_tokens_not_by_characters(tiny):
    texts = ["x" * 200, "a a a a"] * 25  # an unknown word is one token, however long
    batches = list(token_batches(tiny.tokenizer, texts, batch_size=10))
    rows = np.concatenate([rows for rows, _ in batches])
    np.testing.assert_array_equal(rows, [*range(1, 50, 2), *range(0, 50, 2)])
    lengths = [tokens["attention_mask"].sum(axis=1) for _, tokens in batches]
    np.testing.assert_array_equal(np.concatenate(lengths), [6] * 25 + [3] * 25)


def test_two_devices_give_what_one_does(tiny):
    assert len(jax.devices()) == 2
    texts = random_texts(45)
    one = tiny.encode(texts, batch_size=7, devices=jax.devices()[:1])
    two = tiny.encode(texts, batch_size=7)
    other = tiny.encode(texts, batch_size=7, devices=jax.devices()[1:])
    np.testing.assert_allclose(two, one, atol=ATOL)
    np.testing.assert_array_equal(other, one)


def test_a_batch_is_split_over_the_devices(tiny):
    seen = []

    def compiled(params, tokens):
        seen.append(tokens["input_ids"].sharding.shard_shape(tokens["input_ids"].shape))
        return tiny.compiled(params, tokens)

    replace(tiny, compiled=compiled).encode(["a", "b", "c"], batch_size=5)
    assert seen == [(3, 16)]  # five texts are filled up to six


# Streams -----------------------------------------------------------------------------------------


class Counted:
    """Texts that are read one by one; knows how many were."""

    def __init__(self, texts):
        self.texts = texts
        self.read = 0

    def __iter__(self):
        for text in self.texts:
            self.read += 1
            yield text


def test_a_stream_never_holds_more_than_two_chunks(tiny):
    texts = random_texts(95)
    source, received, parts = Counted(texts), 0, []
    stream = encode_stream(tiny, source, chunk=20, batch_size=8)
    assert source.read == 0
    for part in stream:
        assert source.read - received <= 40
        received += len(part)
        parts.append(part)
    assert [len(part) for part in parts] == [20, 20, 20, 20, 15]
    np.testing.assert_allclose(np.concatenate(parts), tiny.encode(texts), atol=ATOL)


def test_a_stream_that_is_left_early_reads_no_further(tiny):
    source = Counted(random_texts(95))
    stream = encode_stream(tiny, source, chunk=20)
    next(stream)
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert source.read <= 40


@pytest.mark.parametrize("values", [(np.nan, 1), (0, np.inf), (1, 0)])
def test_ranges_that_are_none_are_named(tiny, values):
    ranges = np.stack([np.zeros(tiny.dimension), np.ones(tiny.dimension)])
    ranges[:, 3] = values
    with pytest.raises(EncoderError, match=r"ranges must be finite.*; feature 3 has"):
        tiny.encode(["a"], precision="int8", ranges=ranges)


def test_a_stream_in_bytes_needs_ranges_and_takes_them(tiny):
    texts = random_texts(50)
    floats = tiny.encode(texts)
    ranges = np.stack([floats.min(axis=0), floats.max(axis=0)])
    with pytest.raises(EncoderError, match="int8 embeddings of a stream need ranges"):
        encode_stream(tiny, texts, precision="int8")
    parts = encode_stream(tiny, texts, precision="int8", ranges=ranges, chunk=20)
    off = np.concatenate(list(parts)).astype(int) - published(floats, "int8", ranges)
    assert np.abs(off).max() <= 1  # a value at the edge of a bucket may round to either
    assert (off == 0).mean() > 0.99


def test_a_text_of_a_stream_that_is_no_string_is_named_by_its_row(tiny):
    stream = encode_stream(tiny, iter(["a", "b", "c", 4]), chunk=2)  # pyright: ignore[reportArgumentType]
    next(stream)
    with pytest.raises(EncoderError, match="text 3 must be a string; got int 4"):
        next(stream)


def test_what_the_source_raises_comes_through(tiny):
    def source():
        yield "a"
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        list(encode_stream(tiny, source()))


def test_an_empty_stream_yields_nothing(tiny):
    assert list(encode_stream(tiny, iter(()))) == []


# Texts -------------------------------------------------------------------------------------------

FAMILY = "👩\u200d🚀"  # pairs of surrogates in UTF-16, whole in Python
HALVES = ["half \ud83d emoji", "\udc80", "tail \ude00"]


@pytest.mark.parametrize(
    "texts",
    [
        ("a cat", FAMILY),
        iter(["a cat", FAMILY]),
        (text for text in ("a cat", FAMILY)),
        np.array(["a cat", FAMILY]),
        np.array(["a cat", FAMILY], object),
    ],
    ids=["tuple", "iterator", "generator", "array", "objects"],
)
def test_texts_of_any_ordered_iterable_are_taken(tiny, texts):
    expected = tiny.encode(["a cat", FAMILY])
    np.testing.assert_array_equal(tiny.encode(texts), expected)


class Frame:
    """As a data frame: it yields the names of its columns."""

    columns = ("text",)

    def __iter__(self):
        return iter(self.columns)


@pytest.mark.parametrize(
    "texts",
    [{"a": 1}, {"a", "b"}, frozenset("ab"), b"bytes", bytearray(b"a"), Frame(), None, 3, 1.5],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("encode", [jaxembed.encoders.Encoder.encode, encode_stream])
def test_what_is_no_sequence_of_texts_is_refused_by_its_type(tiny, texts, encode):
    with pytest.raises(EncoderError, match=rf"strings; got {type(texts).__name__}$"):
        encode(tiny, texts)


@pytest.mark.parametrize("text", [None, 3, b"a", ["a"], {"a": 1}, np.ones((40, 4))], ids=str)
def test_what_is_no_text_is_refused_by_its_row_in_one_line(tiny, text):
    message = f"^text 1 must be a string; got {type(text).__name__}"
    with pytest.raises(EncoderError, match=message) as caught:
        tiny.encode(["a", text])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", HALVES)
@pytest.mark.parametrize("packing", [False, True])
def test_half_of_a_surrogate_pair_is_refused_by_its_row(tiny, text, packing):
    with pytest.raises(EncoderError, match=r"^text 2 has '\\ud.*half of a pair; mend or omit it"):
        tiny.encode(["a much longer text than the others", "b", text], packing=packing)
    stream = encode_stream(tiny, ["a", "b", "c", text, "d"], chunk=2)
    next(stream)
    with pytest.raises(EncoderError, match=r"^text 3 has"):
        next(stream)


# Wrong options -----------------------------------------------------------------------------------

WRONG = [
    ({"truncate_dim": 25}, "truncate_dim must lie between 1 and 24; got 25"),
    ({"truncate_dim": 0}, "truncate_dim must lie between 1 and 24; got 0"),
    ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
    ({"precision": "int4"}, "precision must be one of float32, int8, uint8, binary, ubinary"),
    ({"precision": "int8", "ranges": np.zeros((2, 5))}, r"ranges must be \[2 d\], \(2, 24\); got"),
    ({"prompt_name": "title"}, "no prompt 'title'"),
    ({"devices": []}, "devices must be a list of devices, and not empty"),
    ({"devices": 2}, "devices must be a list of devices, and not empty"),
    ({"batch_size": "8"}, 'encode: batch_size must be a whole number; got "8"'),
    ({"batch_size": 2.5}, "encode: batch_size must be a whole number; got 2.5"),
    ({"truncate_dim": [8]}, r"encode: truncate_dim must be a whole number or null; got \[8\]"),
    ({"prompt": "half \ud83d: "}, r"the prompt has '\\ud83d' at character 5, half of a pair"),
    ({"prompt": 3}, "encode: prompt must be a text or null; got 3"),
    ({"prompt_name": ["query"]}, "encode: prompt_name must be a text or null; got"),
    ({"normalize": "yes"}, 'encode: normalize must be true or false; got "yes"'),
    ({"precision": None}, "encode: precision must be a text; got null"),
    ({"packing": 1}, "encode: packing must be true or false; got 1"),
    ({"precision": "int8", "ranges": [["a"] * 24] * 2}, "ranges must hold numbers; got list"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("encode", [jaxembed.encoders.Encoder.encode, encode_stream])
def test_wrong_options_are_refused_before_any_text_is_read(tiny, encode, options, message):
    source = Counted(["a"])
    with pytest.raises(EncoderError, match=message):
        encode(tiny, source if encode is encode_stream else ["a"], **options)
    assert source.read == 0
    with pytest.raises(EncoderError, match="chunk must be at least 1; got 0"):
        encode_stream(tiny, [], chunk=0)
