"""A saved model takes the place of a model and of nothing else."""

import re

import pytest

import jaxembed
from jaxembed.encoders import EncoderError
from tests.encoders.test_folder import TINY


@pytest.fixture(scope="module")
def encoder():
    return jaxembed.load(TINY)


def content(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_model_takes_the_place_of_one(encoder, tmp_path):
    first = encoder.save(tmp_path / "model")
    (first / "vocab.txt").write_text("of another tokenizer")
    expected = content(encoder.save(tmp_path / "other"))
    assert content(encoder.save(tmp_path / "model")) == expected


@pytest.mark.parametrize("name", ["notes.txt", "train.jsonl", ".git/HEAD", "pytorch_model.bin"])
def test_what_lies_beside_a_model_is_not_deleted(encoder, tmp_path, name):
    folder = encoder.save(tmp_path / "model")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    before = content(folder)
    message = f"holds {name.split('/')[0]}, which saving a model there would delete"
    with pytest.raises(EncoderError, match=re.escape(message)):
        encoder.save(folder)
    assert content(folder) == before
    assert not list(tmp_path.glob("*.partial"))


def test_the_working_folder_is_not_replaced(encoder, tmp_path, monkeypatch):
    folder = encoder.save(tmp_path / "model")
    monkeypatch.chdir(folder / "1_Pooling")
    for name in (".", "..", folder):
        with pytest.raises(EncoderError, match="is the folder you are in; save the model in anoth"):
            encoder.save(name)


def test_a_file_or_a_link_is_no_folder_for_a_model(encoder, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("file", "link"):
        with pytest.raises(EncoderError, match=f"is a {name}; save the model in another folder"):
            encoder.save(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert (encoder.save(tmp_path / "empty") / "config.json").exists()
