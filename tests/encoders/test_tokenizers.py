"""Tokenizers of model folders: their settings, limits and sides, and tokens without a vector."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

import jaxembed
from jaxembed.encoders import EncoderError, encode_stream
from jaxembed.encoders.limits import FILES
from jaxembed.encoders.token_cache import TokenCache, cache_tokens
from jaxembed.encoders.tokenizer import load_tokenizer
from jaxembed.encoders.tokenizer_file import read_tokenizer
from jaxembed.encoders.tokenizer_settings import KEYS

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
TEXT = "a cat sat on the mat while the dog was far away"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def edit(file, **changes):
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**before, **changes}))


def refused(folder, message):
    with pytest.raises(EncoderError, match=message) as caught:
        jaxembed.load(folder)
    assert "\n" not in str(caught.value)


def tokens_of(folder, text, **options):
    return jaxembed.load(folder, **options).tokenizer.ids([text])[0].tolist()


def theirs(folder, text, length):
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer([text], truncation=True, max_length=length)["input_ids"][0]


# Tokens without a vector -------------------------------------------------------------------------


def add(folder, *tokens):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(list(tokens))
    tokenizer.save(str(folder / "tokenizer.json"))


def test_more_tokens_than_vectors_are_loaded_and_refused_in_a_text(folder, tmp_path):
    expected = jaxembed.load(folder).encode([TEXT, "a cat"])
    add(folder, "<image>", "<audio>")
    encoder = jaxembed.load(folder)
    np.testing.assert_array_equal(encoder.encode([TEXT, "a cat"]), expected)
    message = r"^text 2 has the token '<audio>', number 407; the model embeds only 406: remove it"
    texts = ["a cat", TEXT, "a <audio> file", "the dog"]
    cached = replace(encoder, tokenizer=encoder.tokenizer.with_cache(tmp_path / "cache"))
    for packing in (False, True):
        with pytest.raises(EncoderError, match=message):
            cached.encode(texts, packing=packing)
        with pytest.raises(EncoderError, match=message):
            list(encode_stream(encoder, texts, chunk=2, packing=packing))
    saved = encoder.save(tmp_path / "saved")
    with pytest.raises(EncoderError, match=message):
        jaxembed.load(saved).encode(texts)


def test_a_padding_token_without_a_vector_pads_all_the_same(folder):
    expected = jaxembed.load(folder).encode([TEXT, "a"])
    add(folder, "<pad>")
    edit(folder / "tokenizer_config.json", pad_token="<pad>")
    np.testing.assert_array_equal(jaxembed.load(folder).encode([TEXT, "a"]), expected)


def test_a_smaller_table_is_a_matter_of_the_texts(folder):
    edit(folder / "config.json", vocab_size=200)
    tensors = load_file(folder / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    save_file({**tensors, name: tensors[name][:200].copy()}, folder / "model.safetensors")
    encoder = jaxembed.load(folder)
    vocabulary = encoder.tokenizer.tokenizer.backend.get_vocab().items()
    word, number = next(entry for entry in vocabulary if entry[1] >= 200 and entry[0].isascii()
                        and entry[0].isalpha())  # fmt: skip
    with pytest.raises(EncoderError, match=f"text 0 has the token '{word}', number {number}"):
        encoder.encode([word])


# Sides, limits and case --------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["tokenizer_config.json", "tokenizer.json", "of transformers"])
def test_the_beginning_of_a_long_text_is_truncated_where_the_folder_says_so(
    folder, tmp_path, where
):
    plain = jaxembed.load(folder)
    if where == "tokenizer.json":
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(40, direction="left")
        tokenizer.save(str(folder / "tokenizer.json"))
    else:
        edit(folder / "tokenizer_config.json", truncation_side="left")
    if where == "of transformers":
        edit(folder / "tokenizer_config.json", some_other_key=1)
    encoder = jaxembed.load(folder, max_seq_length=6)
    whole = plain.tokenizer.ids([TEXT])[0].tolist()
    cut = [whole[0], *whole[-5:]]
    assert encoder.tokenizer.ids([TEXT])[0].tolist() == cut == theirs(folder, TEXT, 6)
    saved = encoder.save(tmp_path / "saved")
    assert theirs(saved, TEXT, 6) == cut == tokens_of(saved, TEXT)


def test_embeddings_and_cached_tokens_are_those_of_the_end_of_a_long_text(folder, tmp_path):
    edit(folder / "tokenizer_config.json", truncation_side="left")
    encoder = jaxembed.load(folder, max_seq_length=6)
    expected = encoder.encode(["dog was far away"])
    np.testing.assert_allclose(encoder.encode([TEXT]), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.encode([TEXT], packing=True), expected, atol=1e-6)
    cache = cache_tokens(encoder.tokenizer, [TEXT], tmp_path / "c")
    right = jaxembed.load(TINY, max_seq_length=6).tokenizer
    assert cache.folder != TokenCache.open(right, tmp_path / "c").folder
    cached = encoder.tokenizer.with_cache(tmp_path / "c").ids([TEXT])
    np.testing.assert_array_equal(cached[0], encoder.tokenizer.ids([TEXT])[0])


@pytest.mark.parametrize("where", ["tokenizer_config.json", "tokenizer.json"])
def test_padding_on_the_left_is_kept(folder, tmp_path, where):
    if where == "tokenizer.json":
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_padding(direction="left")
        tokenizer.save(str(folder / "tokenizer.json"))
    else:
        edit(folder / "tokenizer_config.json", padding_side="left")
    encoder = jaxembed.load(folder)
    tokenizer = replace(encoder.tokenizer, may_pad_left=True)
    assert tokenizer(["a cat", TEXT])["attention_mask"][0, 0] == 0
    again = jaxembed.load(encoder.save(tmp_path / "saved"))
    assert again.tokenizer.tokenizer.padding_side == "left"


def test_padding_before_a_text_does_not_move_it(folder):
    """A BERT counts positions from the left end of a row, padding included."""
    edit(folder / "tokenizer_config.json", padding_side="left")
    encoder, right = jaxembed.load(folder), jaxembed.load(TINY)
    texts = ["a cat", TEXT, "", "the sun on a tree"]
    together = encoder.encode(texts)
    np.testing.assert_allclose(together, right.encode(texts), atol=1e-6)
    alone = [encoder.encode(text)[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_the_limits_of_every_name_are_read(folder, name):
    (folder / "sentence_bert_config.json").unlink(missing_ok=True)
    edit(folder / name, max_seq_length=7, do_lower_case=False)
    assert jaxembed.load(folder).tokenizer.max_length == 7


def test_the_first_file_that_says_something_counts(folder):
    (folder / "sentence_bert_config.json").write_text("{}")
    edit(folder / "sentence_roberta_config.json", max_seq_length=9)
    edit(folder / "sentence_xlnet_config.json", max_seq_length=11)
    assert jaxembed.load(folder).tokenizer.max_length == 9


def test_lower_case_is_asked_for_by_either_file(folder, tmp_path):
    whole = json.loads((folder / "tokenizer.json").read_text())
    whole["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    edit(folder / "tokenizer_config.json", do_lower_case=False)
    lower = tokens_of(folder, "the cat")
    assert tokens_of(folder, "THE CAT") != lower
    edit(folder / "sentence_albert_config.json", do_lower_case=True)
    (folder / "sentence_bert_config.json").unlink(missing_ok=True)
    encoder = jaxembed.load(folder)
    assert encoder.tokenizer.ids(["THE CAT"])[0].tolist() == lower
    assert tokens_of(encoder.save(tmp_path / "saved"), "THE CAT") == lower


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_seq_length": "8"}, 'max_seq_length must be a whole number .* got "8"'),
        ({"max_seq_length": 0}, "max_seq_length must be .* got 0"),
        ({"do_lower_case": "no"}, 'do_lower_case must be true or false or null; got "no"'),
        ({"transformer_task": "fill-mask"}, 'transformer_task = "fill-mask" is not supported'),
        ({"query_length": 32}, "query_length = 32 is not supported; only null"),
        ({"tokenizer_name_or_path": "x/y"}, 'tokenizer_name_or_path = "x/y" is not supported'),
        ({"processing_kwargs": {"text": {}}}, "processing_kwargs = .* is not supported"),
        ({"tokenizer_args": {"use_fast": False}}, "tokenizer_args sets 'use_fast', which is not"),
        ({"model_args": 3}, "model_args must be an object or null; got 3"),
        ({"something": 1}, r"the key 'something' \(1\) is not known"),
        (
            {"modality_config": {"text": {"method": "forward", "method_output_name": "logits"}}},
            "modality_config.text must be the last_hidden_state of forward",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_limits_are_refused_by_file_and_key(folder, changes, message):
    edit(folder / "sentence_bert_config.json", **changes)
    refused(folder, rf"sentence_bert_config\.json: .*{message}")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ],
)
def test_a_limit_that_leaves_nothing_of_a_text_is_refused(folder, name, key):
    (folder / "sentence_bert_config.json").unlink(missing_ok=True)
    edit(folder / name, **{key: 1})
    refused(folder, "a limit of 1 token leaves none of a text; raise it")


# Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["TokenizersBackend", "PreTrainedTokenizerFast"])
def test_a_tokenizer_of_either_transformers_is_read_from_its_file(folder, tmp_path, backend):
    expected = tokens_of(folder, TEXT)
    extra = {"extra_special_tokens": ["<extra>"], "backend": "tokenizers", "is_local": True}
    edit(folder / "tokenizer_config.json", tokenizer_class=backend, **extra)
    encoder = jaxembed.load(folder)
    assert encoder.tokenizer.ids([TEXT])[0].tolist() == expected
    with pytest.raises(EncoderError, match="text 0 has the token '<extra>'"):
        encoder.encode(["an <extra> word"])
    assert tokens_of(encoder.save(tmp_path / "saved"), TEXT) == expected


@pytest.mark.parametrize("change", [{"trim_offsets": True}, {"tokenizer_class": None}], ids=str)
def test_a_list_of_extra_tokens_is_read_by_transformers_4_too(folder, change):
    expected = tokens_of(folder, TEXT)
    edit(folder / "tokenizer_config.json", extra_special_tokens=["<extra>"], **change)
    assert read_tokenizer(folder) is None
    assert tokens_of(folder, TEXT) == expected


def test_special_tokens_that_the_file_lacks_are_found_in_texts(folder):
    whole = json.loads((folder / "tokenizer.json").read_text())
    whole["added_tokens"] = []
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    text = "a [SEP] cat [MASK] sat"
    ours = read_tokenizer(folder)
    assert ours is not None
    (ids,) = ours([text], max_length=40)["input_ids"]
    assert ids == theirs(folder, text, 40)
    assert ids == tokens_of(TINY, text)


def test_special_tokens_may_be_split(folder):
    edit(folder / "tokenizer_config.json", split_special_tokens=True)
    text = "a [SEP] cat"
    assert tokens_of(folder, text) == theirs(folder, text, 40) != tokens_of(TINY, text)


@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",)])
def test_a_folder_without_a_tokenizer_says_so(folder, kept):
    for name in {"tokenizer.json", "tokenizer_config.json"} - set(kept):
        (folder / name).unlink()
    refused(folder, r"has no tokenizer files, such as tokenizer\.json; save the model's tokenizer")


def test_a_static_embedding_without_a_tokenizer_says_so(folder):
    (folder / "tokenizer.json").unlink()
    kind = "sentence_transformers.models.StaticEmbedding"
    (folder / "modules.json").write_text(json.dumps([{"path": "", "type": kind}]))
    save_file({"embedding.weight": np.ones((406, 4), np.float32)}, folder / "model.safetensors")
    refused(folder, r"has no tokenizer\.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_max_length": -1}, "model_max_length must be .* above 0 or null; got -1"),
        ({"model_max_length": "512"}, 'model_max_length must be .* got "512"'),
        ({"truncation_side": "middle"}, 'truncation_side must be .* got "middle"'),
        ({"padding_side": 1}, "padding_side must be .* got 1"),
        ({"tokenizer_class": ["BertTokenizer"]}, "tokenizer_class must be a text or null"),
        ({"pad_token": 0}, "pad_token must be .* got 0"),
        ({"added_tokens_decoder": {"x": {"content": "a"}}}, "added_tokens_decoder: no number 'x'"),
        ({"added_tokens_decoder": {"0": "[PAD]"}}, "added_tokens_decoder.0 must be an object"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_are_refused_by_file_and_key(folder, changes, message):
    edit(folder / "tokenizer_config.json", **changes)
    refused(folder, rf"tokenizer_config\.json: .*{message}")


@pytest.mark.parametrize("text", ["[]", "null", "5", '"a"', "{", "\ufeff"])
@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
             "sentence_bert_config.json"],
)  # fmt: skip
def test_a_file_of_another_form_is_refused_in_one_line(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(EncoderError, match=name) as caught:
        load_tokenizer(folder, vocabulary=None, n_positions=64)
    assert "\n" not in str(caught.value)


def test_files_beside_are_kept_byte_by_byte(folder, tmp_path):
    (folder / "vocab.txt").write_bytes(b"\xff\xfe no UTF-8")
    (folder / "merges.txt").mkdir()
    saved = jaxembed.load(folder).save(tmp_path / "saved")
    assert (saved / "vocab.txt").read_bytes() == b"\xff\xfe no UTF-8"


def test_no_key_is_both_used_and_harmless():
    used = {key.removesuffix("?") for key in KEYS.used}
    assert not used & set(KEYS.harmless)
