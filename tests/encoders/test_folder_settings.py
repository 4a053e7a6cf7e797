"""config_sentence_transformers.json: prompts, dimensions and similarity, read and saved again."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxembed
from jaxembed.encoders import EncoderError, encode_stream
from jaxembed.encoders.settings import read_settings, write_settings

GOLDENS = Path(__file__).parents[1] / "goldens/encoders"
TEXTS = json.loads((GOLDENS / "tiny_texts.json").read_text())
EXPECTED = np.load(GOLDENS / "tiny.npz")
SETTINGS = "config_sentence_transformers.json"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(GOLDENS / "tiny", tmp_path / "model"))


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_embeddings_have_the_dimensions_of_the_folder_and_training_has_all(folder, tmp_path):
    edit(folder / SETTINGS, truncate_dim=8)
    encoder = jaxembed.load(folder)
    truncated = encoder.encode(TEXTS, normalize=True)
    np.testing.assert_allclose(truncated, EXPECTED["truncated"], atol=2e-5)
    (streamed,) = encode_stream(encoder, TEXTS, normalize=True)
    np.testing.assert_array_equal(streamed, truncated)
    assert encoder.dimension == 8
    tokens = jax.tree.map(jnp.asarray, encoder.tokenizer(["a cat"]))
    assert encoder.apply(encoder.params, tokens).shape == (1, 24)
    asked = encoder.encode(TEXTS, truncate_dim=24)
    np.testing.assert_allclose(asked, EXPECTED["plain"], atol=2e-5)
    assert read_settings(encoder.save(tmp_path / "saved")).truncate_dim == 8


def test_more_dimensions_than_there_are_truncate_nothing(folder):
    edit(folder / SETTINGS, truncate_dim=100)
    encoder = jaxembed.load(folder)
    assert encoder.dimension == encoder.encode(["a cat"]).shape[1] == 24


def test_the_prompt_of_a_role_is_the_one_of_its_name(folder):
    prompts = {"query": "ask: ", "passage": "text: ", "title": "title: "}
    edit(folder / SETTINGS, prompts=prompts, default_prompt_name="title")
    encoder = jaxembed.load(folder)
    assert encoder.prompt(None) == "title: "
    # What encode_query and encode_document of sentence-transformers 6.2 put before a text
    assert [encoder.prompt_for(role) for role in ("query", "document")] == ["ask: ", ""]
    with pytest.raises(EncoderError, match="role must be one of query, document; got 'passage'"):
        encoder.prompt_for("passage")


@pytest.mark.parametrize("name", ["dot", "euclidean", "manhattan", "cosine"])
def test_every_similarity_is_read_and_written(folder, tmp_path, name):
    edit(folder / SETTINGS, similarity_fn_name=name)
    settings = read_settings(folder)
    assert settings.similarity == name
    write_settings(tmp_path / "saved", settings)
    assert read_settings(tmp_path / "saved") == settings


def test_a_prompt_that_is_null_or_default_is_empty(folder):
    edit(folder / SETTINGS, prompts={"query": "ask: ", "title": None}, default_prompt_name=None)
    assert jaxembed.load(folder).prompt("title") == ""
    edit(folder / SETTINGS, prompts={"query": "ask: "}, default_prompt_name="document")
    assert jaxembed.load(folder).prompt(None) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truncate_dim": 0}, "truncate_dim must be a whole number at least 1 or null; got 0"),
        ({"truncate_dim": "8"}, 'truncate_dim must be .*; got "8"'),
        ({"similarity_fn_name": "maxsim"}, 'must be one of "cosine", "dot", .*; got "maxsim"'),
        ({"similarity_fn_name": ["dot"]}, r'similarity_fn_name must be .*; got \["dot"\]'),
        ({"prompts": ["query: "]}, r'prompts must be an object or null; got \["query: "\]'),
        ({"prompts": {"query": 3}}, r"prompts.query must be a text or null; got 3"),
        ({"default_prompt_name": "title"}, "'title' is none of the prompts"),
        ({"default_prompt_name": 1}, "default_prompt_name must be a text or null; got 1"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_are_refused_by_file_and_key(folder, changes, message):
    edit(folder / SETTINGS, **changes)
    with pytest.raises(EncoderError, match=rf"{SETTINGS}: .*{message}"):
        read_settings(folder)


def test_a_setting_that_is_not_known_is_named_in_one_line(folder, caplog):
    edit(folder / SETTINGS, query_prefix="[Q] ", skiplist_words=None)
    read_settings(folder)
    (line,) = caplog.messages
    assert line.endswith(f"{SETTINGS}: not known and not used: 'query_prefix'")
