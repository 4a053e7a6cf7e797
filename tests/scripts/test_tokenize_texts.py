"""The script that fills the token cache: what it tokenizes, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import jaxembed
from jaxembed.data import open_dataset
from jaxembed.encoders.token_cache import TokenCache, lookup, text_hashes
from tests.scripts.many_hosts import environment

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/goldens/encoders/tiny"
ROWS = [
    {"score": 1, "query": f"a {n % 4}", "answer": f"b {n}", "negatives": [f"c {n}", None, "c"]}
    for n in range(10)
]


@pytest.fixture
def tokenize(monkeypatch, tmp_path):
    """`scripts/tokenize_texts.py` in this process: `tokenize(flag=value)`."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from tokenize_texts import Config, main

    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    usual = {"model": str(TINY), "data": (str(file),), "cache": tmp_path / "tokens"}
    return lambda **flags: main(Config(**{**usual, **flags}))


def cached(folder, texts, **options):
    cache = TokenCache.open(jaxembed.load(TINY, **options).tokenizer, folder)
    found, _, _ = lookup(cache.parts, text_hashes(texts))
    return found.tolist()


def test_every_column_of_texts_is_tokenized_once(tokenize, tmp_path, capsys):
    assert tokenize() == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "query: 10 rows, 4 new texts",
        "answer: 10 rows, 10 new texts",
        "negatives: 10 rows, 11 new texts",
    ]
    texts = ["a 0", "b 9", "c 9", "c", "1"]
    assert cached(tmp_path / "tokens", texts) == [True, True, True, True, False]
    assert tokenize() == 0
    assert "negatives: 10 rows, 0 new texts" in capsys.readouterr().out


def test_columns_with_prompts_of_a_length(tokenize, tmp_path):
    flags = {"columns": ("query", "answer"), "prompts": ("query=query: ",), "max_seq_length": 9}
    assert tokenize(**flags) == 0
    texts = ["query: a 0", "a 0", "b 0", "c 0"]
    assert cached(tmp_path / "tokens", texts, max_seq_length=9) == [True, False, True, False]
    assert cached(tmp_path / "tokens", texts) == [False] * 4


WRONG = [
    ({"model": "/no/such"}, "the model folder /no/such does not exist"),
    ({"data": ("missing.parquet",)}, "missing.parquet"),
    ({"columns": ("score",)}, "there is no column 'score' of texts; there are query, answer, neg"),
    ({"prompts": ("title=a",)}, "--prompts takes column=prompt, of query, answer, negatives: 'ti"),
    ({"prompts": ("query",)}, "--prompts takes column=prompt"),
    ({"max_seq_length": 1000}, "max_seq_length must lie between 2 and 64; got 1000"),
    ({"cache": TINY / "config.json"}, "config.json is a file; give the token cache a folder"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_input_is_refused_before_anything_is_written(tokenize, tmp_path, flags, message):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        tokenize(**flags)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "tokens").exists()


def test_data_without_a_column_of_texts_is_refused(tokenize, tmp_path):
    (tmp_path / "numbers.jsonl").write_text('{"a": 1, "b": [0.5]}\n')
    with pytest.raises(ValueError, match="no column holds texts; the columns are a, b"):
        tokenize(data=(str(tmp_path / "numbers.jsonl"),))
    assert not (tmp_path / "tokens").exists()


def test_a_damaged_cache_is_one_line(tokenize, tmp_path):
    tokenize()
    file = next(tmp_path.glob("tokens/*/*.arrow"))
    file.write_bytes(file.read_bytes()[:-1])
    command = [sys.executable, str(ROOT / "scripts/tokenize_texts.py"), str(TINY)]
    command += ["--data", str(tmp_path / "rows.jsonl"), "--cache", str(tmp_path / "tokens")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment(1))
    assert (result.returncode, result.stderr) == (
        2,
        f"error: {file} is damaged; delete it, its texts are tokenized again\n",
    )


def test_the_embedded_set(tokenize, tmp_path):
    tokenize(data=("wordnet-gloss",), split="test[:50]", columns=("query",))
    texts = open_dataset("wordnet-gloss", split="test[:50]")["query"][:]
    assert all(cached(tmp_path / "tokens", texts))
