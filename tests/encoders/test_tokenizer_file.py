"""Tokenizers read from their files: the tokens of transformers, without its import."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxembed.encoders import EncoderError
from jaxembed.encoders.finding import find
from jaxembed.encoders.tokenizer import load_tokenizer
from jaxembed.encoders.tokenizer_file import read_tokenizer

GOLDENS = Path(__file__).parents[1] / "goldens/encoders"
TEXTS = [
    *json.loads((GOLDENS / "minilm_texts.json").read_text()),
    "[CLS] special [SEP] tokens [MASK] in [PAD] the text [UNK]",
    "Crème BRÛLÉE 机器学习 👩‍🚀",
]
FOLDERS = {"tiny": GOLDENS / "tiny", "minilm": find("all-MiniLM-L6-v2")}


@pytest.fixture(params=FOLDERS)
def folder(request):
    return FOLDERS[request.param]


def theirs(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("length", [8, 48])
def test_tokens_are_those_of_transformers(folder, length):
    ours, other = read_tokenizer(folder), theirs(folder)
    assert ours is not None
    expected = other(TEXTS, truncation=True, max_length=length)["input_ids"]
    assert ours(TEXTS, max_length=length)["input_ids"] == expected
    assert len(ours) == len(other)
    assert ours.pad_token_id == other.pad_token_id
    assert ours.padding_side == other.padding_side
    assert set(ours.all_special_ids) == set(other.all_special_ids)


def test_what_is_saved_is_read_by_transformers(folder, tmp_path):
    tokenizer = load_tokenizer(folder, vocabulary=None, n_positions=512, max_length=20).tokenizer
    expected = tokenizer(TEXTS, max_length=20)["input_ids"]
    tokenizer.save_pretrained(tmp_path)
    again = theirs(tmp_path)
    assert again.model_max_length == 20
    assert again(TEXTS, truncation=True)["input_ids"] == expected
    ours = read_tokenizer(tmp_path)
    assert ours is not None
    assert ours(TEXTS, max_length=20)["input_ids"] == expected


@pytest.mark.parametrize(
    "change",
    [{"do_lower_case": False}, {"tokenizer_class": "GemmaTokenizer"}, {"auto_map": {}}],
    ids=str,
)
def test_what_the_file_does_not_say_is_left_to_transformers(tmp_path, change):
    folder = Path(shutil.copytree(FOLDERS["tiny"], tmp_path / "model"))
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert read_tokenizer(folder) is None


def test_a_broken_file(tmp_path):
    folder = Path(shutil.copytree(FOLDERS["tiny"], tmp_path / "model"))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(folder, vocabulary=None, n_positions=512)


def test_our_own_models_need_neither_transformers_nor_torch():
    program = (
        "import sys, jaxembed; jaxembed.load('all-MiniLM-L6-v2', n_layers=1).encode('a');"
        "print([name for name in ('transformers', 'torch', 'datasets') if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stderr
