"""The token cache: the very tokens of the tokenizer, whole files, many readers and writers."""

import json
import os
import pickle
import re
import tracemalloc
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tokenizers.normalizers import Lowercase

from jaxembed.encoders import EncoderError, TextTokenizer, token_cache
from jaxembed.encoders.finding import find
from jaxembed.encoders.token_cache import TokenCache, cache_tokens, fingerprint, lookup, text_hashes
from jaxembed.encoders.tokenizer import load_plain_tokenizer, load_tokenizer
from jaxembed.encoders.tokenizer_file import FileTokenizer, PlainTokenizer

GOLDENS = Path(__file__).parents[1] / "goldens/encoders"
TEXTS = [
    *json.loads((GOLDENS / "minilm_texts.json").read_text()),
    *("", " ", "\n\t", "Crème BRÛLÉE 机器学习 👩‍🚀", "cre\u0301me", "\ufeff\u200b", "\x00"),
    "[CLS] special [SEP] tokens [MASK] in [PAD] the text [UNK]",
    "over-long " * 120,
]
WORDS = ("a", "cat", "sat", "on", "the", "mat", "while", "東京", "was", "far", "away")


def random_texts(n, seed=0):
    random = np.random.default_rng(seed)
    words = random.choice(WORDS, (n, 12))
    return [f"{' '.join(row[: number % 13])} {seed} {number}" for number, row in enumerate(words)]


def tiny(**options):
    return load_tokenizer(GOLDENS / "tiny", vocabulary=None, n_positions=64, **options)


def minilm():
    return load_tokenizer(find("all-MiniLM-L6-v2"), vocabulary=None, n_positions=512)


def plain():
    return load_plain_tokenizer(GOLDENS / "tiny", vocabulary=None, max_length=20)


def of_transformers():
    from transformers import AutoTokenizer

    return TextTokenizer(AutoTokenizer.from_pretrained(GOLDENS / "tiny"), 32)


def without_file():  # in version 4, one that is written in Python
    from transformers import BertTokenizer

    return TextTokenizer(BertTokenizer.from_pretrained(find("all-MiniLM-L6-v2")), 32)


KINDS = (tiny, minilm, plain, of_transformers, without_file)


def assert_same(tokens, expected):
    assert tokens.keys() == expected.keys()
    for name, array in tokens.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.fixture
def asked(monkeypatch):
    """The texts that the tokenizers of files get, in the order of the calls."""
    texts, call = [], FileTokenizer.__call__

    def recorded(self, given, **options):
        texts.append(list(given))
        return call(self, given, **options)

    monkeypatch.setattr(FileTokenizer, "__call__", recorded)
    return texts


# The same tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_the_tokenizer_whether_cached_or_not(kind, side, tmp_path):
    tokenizer = kind()
    tokenizer.tokenizer.padding_side = side
    for prompt in ("", "query: "):
        cache_tokens(tokenizer, TEXTS[::2], tmp_path, prompt=prompt)
    cached = tokenizer.with_cache(tmp_path)
    assert len(TokenCache.open(tokenizer, tmp_path)) == 2 * len(set(TEXTS[::2]))
    changes: list[dict[str, Any]] = [{}, {"buckets": (4, 32)}]
    if kind is not plain:  # which knows no special tokens
        changes.append({"prompt_counts": False})
    for change in changes:
        for texts in (TEXTS, TEXTS[::-1], TEXTS[::2], TEXTS[1::2], TEXTS[:1] * 3):
            for prompt in ("", "query: ", "passage: "):
                expected = replace(tokenizer, **change)(texts, prompt)
                assert_same(replace(cached, **change)(texts, prompt), expected)


def test_what_is_cached_is_not_tokenized_again(tmp_path, asked):
    tokenizer = tiny()
    cache_tokens(tokenizer, ["a cat", "a mat"], tmp_path, prompt="query: ")
    cached = tokenizer.with_cache(tmp_path)
    asked.clear()
    cached(["a cat", "a mat", "a cat"], "query: ")
    assert asked == []
    cached(["a cat", "far", "a mat", "away"], "query: ")
    assert asked == [["query: far", "query: away"]]
    assert_same(cached([]), tokenizer([]))


def test_what_the_tokenizer_refuses_is_refused_in_the_same_way(tmp_path):
    tokenizer = tiny()
    cache_tokens(tokenizer, ["a cat"], tmp_path)
    for one in (tokenizer, tokenizer.with_cache(tmp_path)):
        with pytest.raises(TypeError, match="TextEncodeInput"):
            one(["a cat", "\ud800"])


# Of which tokenizer ------------------------------------------------------------------------------


def lower_case():
    tokenizer = tiny()
    tokenizer.tokenizer.backend.normalizer = Lowercase()
    return tokenizer


def with_token():
    tokenizer = tiny()
    tokenizer.tokenizer.backend.add_tokens(["mat"])
    return tokenizer


def shorter():
    return tiny(max_length=20)


OTHERS = (shorter, lower_case, with_token, plain, minilm, of_transformers)


@pytest.mark.parametrize("other", OTHERS)
def test_another_tokenizer_or_length_finds_nothing(other, tmp_path):
    cache_tokens(tiny(), TEXTS, tmp_path)
    assert len(TokenCache.open(other(), tmp_path)) == 0
    assert_same(other().with_cache(tmp_path)(TEXTS), other()(TEXTS))
    cache_tokens(other(), TEXTS, tmp_path)  # both in one folder
    for tokenizer in (other(), tiny()):
        assert_same(tokenizer.with_cache(tmp_path)(TEXTS), tokenizer(TEXTS))


def test_without_special_tokens_it_is_another_tokenizer():
    tokenizer = tiny()
    without = replace(tokenizer, tokenizer=PlainTokenizer(tokenizer.tokenizer.backend))
    assert fingerprint(without) != fingerprint(tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_again_it_is_the_same_tokenizer_whatever_it_did(kind, tmp_path):
    tokenizer, before = kind(), fingerprint(kind())
    tokenizer(TEXTS, "query: ")
    assert fingerprint(tokenizer) == before
    assert fingerprint(replace(tokenizer, prompt_counts=False, buckets=(16,))) == before


def test_a_saved_tokenizer_finds_the_tokens_of_the_one_it_was(tmp_path):
    cache_tokens(tiny(), TEXTS, tmp_path / "cache")
    (tmp_path / "model").mkdir()
    tiny().tokenizer.save_pretrained(tmp_path / "model")
    again = load_tokenizer(tmp_path / "model", vocabulary=None, n_positions=64)
    assert len(TokenCache.open(again, tmp_path / "cache")) == len(set(TEXTS))


def test_a_cache_of_another_length_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="is for max_length 48, the tokenizer has 20; open it"):
        replace(tiny().with_cache(tmp_path), max_length=20)


# Files -------------------------------------------------------------------------------------------


def files(folder):
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.rglob("*.arrow")}


def test_another_data_set_is_one_more_file_of_what_is_new(tmp_path, asked):
    tokenizer = tiny()
    assert len(cache_tokens(tokenizer, random_texts(50), tmp_path)) == 50
    before = files(tmp_path)
    asked.clear()
    cache = cache_tokens(tokenizer, [*random_texts(50), *random_texts(20, seed=1)] * 2, tmp_path)
    assert (len(cache), len(cache.parts)) == (70, 2)
    assert [sorted(texts) for texts in asked] == [sorted(random_texts(20, seed=1))]
    assert before.items() < files(tmp_path).items()
    cached = tokenizer.with_cache(tmp_path)
    mixed = [*random_texts(50), "new", *random_texts(20, seed=1)][::-1]
    assert_same(cached(mixed), tokenizer(mixed))
    after = files(tmp_path)
    cache_tokens(cached, mixed[:5], tmp_path)  # nothing is new
    assert files(tmp_path) == after


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-100])


def empty(file):
    file.write_bytes(b"")


def altered(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [cut_short, empty, altered])
def test_a_damaged_file_is_named_and_deleting_it_helps(damage, tmp_path):
    tokenizer = tiny()
    cache = cache_tokens(tokenizer, TEXTS, tmp_path)
    (file,) = cache.folder.iterdir()
    damage(file)
    message = f"{file} is damaged; delete it, its texts are tokenized again"
    with pytest.raises(EncoderError, match=re.escape(message)):
        tokenizer.with_cache(tmp_path)
    with pytest.raises(EncoderError, match=re.escape(message)):
        cache_tokens(tokenizer, TEXTS, tmp_path)
    file.unlink()
    assert len(cache_tokens(tokenizer, TEXTS, tmp_path)) == len(set(TEXTS))
    assert file.exists()  # the same content, the same name


def test_a_file_that_was_moved_from_another_tokenizer_is_refused(tmp_path):
    (moved,) = cache_tokens(tiny(), TEXTS, tmp_path).folder.iterdir()
    own = cache_tokens(plain(), TEXTS, tmp_path).folder
    moved.rename(own / moved.name)
    with pytest.raises(EncoderError, match="holds no tokens of the tokenizer of its folder; del"):
        plain().with_cache(tmp_path)


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def full_disk(number):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            cache_tokens(tiny(), TEXTS, tmp_path)
    (own,) = tmp_path.iterdir()
    assert list(own.iterdir()) == []
    (own / "0123.partial").write_bytes(b"of a writer that was killed")
    assert len(cache_tokens(tiny(), TEXTS, tmp_path)) == len(set(TEXTS))


def test_wrong_input_is_one_line(tmp_path):
    with pytest.raises(EncoderError, match="text 1 must be a string; got NoneType None"):
        cache_tokens(tiny(), cast(Any, ["a", None]), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(EncoderError, match="file is a file; give the token cache a folder"):
        tiny().with_cache(tmp_path / "file")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


# Any number of texts -----------------------------------------------------------------------------


def test_texts_are_tokenized_some_at_a_time_and_written_before_the_end(
    tmp_path, monkeypatch, asked
):
    monkeypatch.setattr(token_cache, "TEXTS", 8)
    monkeypatch.setattr(token_cache, "CHARACTERS", 200)
    monkeypatch.setattr(token_cache, "TOKENS_PER_FILE", 200)
    texts = [*random_texts(80), "long " * 100, *random_texts(5, seed=1)]

    def interrupted():
        yield from texts
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_tokens(tiny(), interrupted(), tmp_path)
    assert max(map(len, asked)) == 8
    sizes = [sum(map(len, part)) for part in asked]
    *others, longest = sorted(sizes)
    assert others[-1] < 300  # the limit, and the text that reaches it
    assert 500 <= longest < 700
    kept = TokenCache.open(tiny(), tmp_path)
    assert len(kept.parts) > 2
    assert 40 < len(kept) < len(texts)
    asked.clear()
    assert len(cache_tokens(tiny(), iter(texts), tmp_path)) == len(texts)
    assert sum(map(len, asked)) == len(texts) - len(kept)
    assert_same(tiny().with_cache(tmp_path)(texts), tiny()(texts))


def test_memory_does_not_grow_with_the_number_of_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "TEXTS", 128)
    monkeypatch.setattr(token_cache, "TOKENS_PER_FILE", 8_000)
    tokenizer = tiny()

    def peak(n):
        texts = (f"a cat {number} sat on the mat" for number in range(n))
        tracemalloc.start()
        try:
            assert len(cache_tokens(tokenizer, texts, tmp_path / str(n))) == n
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # imports
    assert peak(6_000) < 1.3 * peak(2_000)


# Many readers and writers ------------------------------------------------------------------------


def tokens_of(tokenizer, texts):
    return tokenizer(texts, "query: ")


def test_it_is_read_from_any_number_of_threads_and_from_other_processes(tmp_path):
    texts = random_texts(300)
    batches = [texts[start : start + 40] for start in range(0, 300, 7)]
    tokenizer = tiny()
    for part in (texts[:100], texts[100:]):
        cache_tokens(tokenizer, part, tmp_path, prompt="query: ")
    expected = [tokenizer(batch, "query: ") for batch in batches]
    cached = tokenizer.with_cache(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        read = pool.map(tokens_of, [cached] * len(batches), batches)
        for tokens, wanted in zip(read, expected, strict=True):
            assert_same(tokens, wanted)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert_same(pool.submit(tokens_of, cached, batches[1]).result(), expected[1])


def test_it_travels_as_a_path_and_maps_its_files(tmp_path):
    cache = cache_tokens(tiny(), random_texts(500), tmp_path)
    assert len(pickle.dumps(cache)) < 2_000
    again = pickle.loads(pickle.dumps(cache))
    for one in (cache, again):
        arrays = (one.parts[0].hashes, one.parts[0].starts, one.parts[0].ids)
        assert not any(array.flags.owndata or array.flags.writeable for array in arrays)
    np.testing.assert_array_equal(again.parts[0].ids, cache.parts[0].ids)


def test_writers_at_once_leave_what_both_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "TEXTS", 16)
    monkeypatch.setattr(token_cache, "TOKENS_PER_FILE", 400)
    shared = random_texts(100)

    def write(number):
        return cache_tokens(tiny(), [*shared, *random_texts(50, seed=number)], tmp_path)

    with ThreadPoolExecutor(4) as pool:
        for cache in pool.map(write, range(1, 5)):
            assert len(cache) >= 150
    tokenizer = tiny()
    cache = TokenCache.open(tokenizer, tmp_path)
    assert not list(cache.folder.glob("*.partial"))
    everything = [*shared, *(text for number in range(1, 5) for text in random_texts(50, number))]
    found, _, _ = lookup(cache.parts, text_hashes(everything))
    assert found.all()
    assert_same(tokenizer.with_cache(tmp_path)(everything), tokenizer(everything))
