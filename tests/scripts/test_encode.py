"""The encoding script as users run it: to the end, killed and resumed, stopped, and fed rubbish."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

import jaxembed
from jaxembed.data import open_dataset
from jaxembed.encoders.inference import quantize_embeddings
from tests.scripts.many_hosts import environment

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/goldens/encoders/tiny"
ENVIRONMENT = environment(1)
TEXTS = [f"cat {number}" for number in range(50)]  # of one length: one program


@pytest.fixture(scope="module")
def tiny():
    return jaxembed.load(TINY)


@pytest.fixture(scope="module")
def expected(tiny):
    return tiny.encode(TEXTS)


@pytest.fixture
def lines(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(TEXTS) + "\n")
    return file


@pytest.fixture
def encode(monkeypatch, tmp_path, lines):
    """`scripts/encode.py` in this process: `encode(flag=value)` runs it with the tiny model."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from encode import Config, main

    usual = {"model": str(TINY), "data": (str(lines),), "output": tmp_path / "out", "cache": None}
    return lambda **flags: main(Config(**{**usual, "shard_size": 20, **flags}))


def read(output):
    return np.concatenate([np.load(file) for file in sorted(output.glob("embeddings-*.npy"))])


def assert_close(embeddings, expected):
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


# To the end --------------------------------------------------------------------------------------


def test_shards_hold_the_embeddings_in_order_and_the_output_says_how_to_load_them(
    encode, tmp_path, expected, capsys
):
    assert encode(batch_size=8) == 0
    shards = sorted((tmp_path / "out").glob("embeddings-*"))
    assert [file.name for file in shards] == [f"embeddings-0000{i}.npy" for i in range(3)]
    assert [len(np.load(file)) for file in shards] == [20, 20, 10]
    assert_close(read(tmp_path / "out"), expected)
    text = capsys.readouterr().out
    assert "50 texts in 3 shard(s), 0 texts are done" in text
    assert "embeddings-00002.npy  50/50" in text
    loaded: dict = {}
    exec(text[text.index("import glob") :], loaded)
    assert_close(loaded["embeddings"], expected)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["model"] == str(TINY)
    assert (manifest["rows"], manifest["dimension"], manifest["normalize"]) == (50, 24, False)
    assert list(manifest["files"]) == [file.name for file in shards]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_tables_hold_row_numbers_and_vectors_of_one_size(encode, tmp_path, expected, kind, capsys):
    assert encode(format=kind, normalize=True, truncate_dim=8) == 0
    if kind == "parquet":
        schema = parquet.read_schema(tmp_path / "out/embeddings-00000.parquet")
        assert str(schema.field("embedding").type) == "fixed_size_list<element: float>[8]"
    text = capsys.readouterr().out
    loaded: dict = {}
    exec(text[text.index("from jaxembed") :], loaded)
    rows = loaded["rows"][:]
    np.testing.assert_array_equal(rows["row"], np.arange(50))
    cut = expected[:, :8] / np.linalg.norm(expected[:, :8], axis=1, keepdims=True)
    assert_close(rows["embedding"], cut)


def test_a_column_of_a_table_with_a_prompt_in_bits(encode, tiny, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"id": 1, "question": text}) + "\n" for text in TEXTS))
    flags = {"column": "question", "prompt_name": "query", "precision": "ubinary"}
    assert encode(data=(str(file),), devices=1, **flags) == 0
    floats = tiny.encode(TEXTS, prompt="query: ")
    bits = np.unpackbits(read(tmp_path / "out"), axis=1)
    assert ((bits == (floats > 0)) | (np.abs(floats) < 1e-5)).all()


def test_bytes_have_the_same_ranges_in_all_shards(encode, tmp_path, expected):
    assert encode(precision="int8") == 0
    ranges = np.load(tmp_path / "out/ranges.npy")
    assert_close(ranges, [expected.min(axis=0), expected.max(axis=0)])
    off = read(tmp_path / "out").astype(int) - quantize_embeddings(expected, "int8", ranges)
    assert np.abs(off).max() <= 1  # a value at the edge of a bucket may round to either
    assert (off == 0).mean() > 0.99


def test_ranges_of_a_file_and_of_some_rows(encode, tmp_path, expected):
    wide = np.stack([expected.min(axis=0) - 1, expected.max(axis=0) + 1])
    np.save(tmp_path / "wide.npy", wide)
    assert encode(precision="uint8", ranges=tmp_path / "wide.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out/ranges.npy"), wide)
    assert encode(precision="uint8", calibration_rows=2, output=tmp_path / "two") == 0
    ends = expected[[0, -1]]
    assert_close(np.load(tmp_path / "two/ranges.npy"), [ends.min(axis=0), ends.max(axis=0)])


# Interrupted -------------------------------------------------------------------------------------


def cut_short(file):
    file.write_bytes(file.read_bytes()[:300])


def altered(file):
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [Path.unlink, cut_short, altered])
def test_only_shards_that_are_not_whole_are_made_again(encode, tmp_path, expected, damage, capsys):
    output = tmp_path / "out"
    encode()
    whole = {file.name: file.read_bytes() for file in output.iterdir()}
    times = {file.name: file.stat().st_mtime_ns for file in output.glob("embeddings-*")}
    damage(output / "embeddings-00002.npy")
    (output / "embeddings-00002.npy.partial").write_bytes(b"cut off")
    capsys.readouterr()
    assert encode() == 0
    assert "40 texts are done" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in output.iterdir()} == whole
    for name in ("embeddings-00000.npy", "embeddings-00001.npy"):
        assert (output / name).stat().st_mtime_ns == times[name]


def test_a_finished_run_has_nothing_to_do(encode, tmp_path, capsys):
    encode()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    assert encode(batch_size=3, devices=1) == 0  # what may differ
    assert "50 texts are done" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before


def test_without_its_ranges_every_shard_is_made_again(encode, tmp_path, capsys):
    encode(precision="int8")
    (tmp_path / "out/ranges.npy").unlink()
    capsys.readouterr()
    assert encode(precision="int8") == 0
    assert "0 texts are done" in capsys.readouterr().out


def test_stopped_then_killed_then_resumed(encode, tiny, tmp_path):
    texts = [f"cat {number}" for number in range(10_000)]
    file, output = tmp_path / "many.txt", tmp_path / "many"
    file.write_text("\n".join(texts))
    command = [sys.executable, str(ROOT / "scripts/encode.py"), str(TINY), "--data", str(file)]
    command += ["--output", str(output), "--shard-size", "25", "--cache", str(tmp_path / "cache")]

    def interrupted(number, n_shards):
        process = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        while len(list(output.glob("embeddings-*.npy"))) < n_shards:
            assert process.poll() is None, "ended before it was interrupted"
            time.sleep(0.005)
        process.send_signal(number)
        _, errors = process.communicate()
        return process.returncode, errors

    status, errors = interrupted(signal.SIGINT, 3)
    assert (status, errors) == (130, "\nstopped; whole shards stay, the same command goes on\n")
    after_stop = {file: file.read_bytes() for file in output.glob("embeddings-*.npy")}
    status, _ = interrupted(signal.SIGKILL, len(after_stop) + 3)
    assert status == -signal.SIGKILL
    kept = sorted(output.glob("embeddings-*.npy"))
    assert len(kept) < 400
    times = {file: file.stat().st_mtime_ns for file in kept[:-1]}  # the last may lack its digest
    assert encode(data=(str(file),), output=output, shard_size=25) == 0
    assert all(file.read_bytes() == content for file, content in after_stop.items())
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())
    assert not list(output.glob("*.partial"))
    assert_close(read(output), tiny.encode(texts))


# Fed rubbish -------------------------------------------------------------------------------------

WRONG = [
    ({"model": "/no/such"}, "the model folder /no/such does not exist"),
    ({"data": ()}, "--data names no file"),
    ({"data": ("missing.txt",)}, "missing.txt"),
    ({"data": ("missing.parquet",)}, "missing.parquet"),
    ({"column": "body"}, "there is no column 'body'; the columns are text"),
    ({"prompt_name": "title"}, "no prompt 'title'; it has"),
    ({"prompt": "a", "prompt_name": "query"}, "give either --prompt or --prompt-name"),
    ({"truncate_dim": 25}, "truncate_dim must lie between 1 and 24; got 25"),
    ({"batch_size": 0}, "batch_size must be a whole number at least 1; got 0"),
    ({"shard_size": 0}, "shard_size must be a whole number at least 1; got 0"),
    ({"devices": 3}, "there are 2 devices; got devices 3"),
    ({"max_seq_length": 1000}, "max_seq_length must lie between 2 and 64; got 1000"),
    ({"ranges": Path("/no/ranges.npy"), "precision": "int8"}, "/no/ranges.npy: the ranges cannot"),
    ({"output": TINY / "config.json"}, "config.json is a file; choose another --output"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_input_is_refused_before_anything_is_written(encode, tmp_path, flags, message):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        encode(**flags)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_a_row_without_a_text_is_named(encode, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n{"text": null}\n')
    with pytest.raises(ValueError, match=r"column 'text' has nothing \(null\) in row 1"):
        encode(data=(str(file),))


def test_a_file_of_lines_without_any(encode, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match=r"empty\.txt|no rows"):
        encode(data=(str(tmp_path / "empty.txt"),))


OTHER = [
    ({"normalize": True}, "was begun with normalize False, this run has True; give the same"),
    ({"shard_size": 10}, "was begun with shard_size 20, this run has 10"),
    ({"format": "parquet"}, "was begun with format 'npy', this run has 'parquet'"),
    ({"prompt_name": "query"}, "was begun with prompt '', this run has 'query: '"),
    ({"data": ("wordnet-gloss",), "column": "text"}, "there is no column 'text'"),
    ({"data": ("wordnet-gloss",), "column": "query"}, "was begun with column 'text'"),
]


def test_other_options_in_the_same_folder_are_refused(encode, tmp_path):
    encode()
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    for flags, message in OTHER:
        with pytest.raises(ValueError, match=message) as refusal:
            encode(**flags)
        assert "\n" not in str(refusal.value)
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_other_texts_of_the_same_number_are_refused(encode, lines):
    encode()
    lines.write_text("\n".join(reversed(TEXTS)))
    with pytest.raises(ValueError, match="was begun with data_fingerprint"):
        encode()


def test_shards_of_no_manifest_and_a_damaged_manifest_are_refused(encode, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "embeddings-00000.npy").write_bytes(b"someone's")
    with pytest.raises(ValueError, match="is of no manifest; choose another --output"):
        encode()
    (output / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        encode()
    assert (output / "embeddings-00000.npy").read_bytes() == b"someone's"


def test_wrong_input_gives_one_line_and_status_2(lines, tmp_path):
    command = [sys.executable, str(ROOT / "scripts/encode.py"), str(TINY), "--data", str(lines)]
    command += ["--output", str(tmp_path / "out"), "--shard-size", "0"]
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 2
    assert result.stderr == "error: shard_size must be a whole number at least 1; got 0\n"


def test_a_hub_like_name_reads_the_embedded_set(encode, tiny, tmp_path):
    assert encode(data=("wordnet-gloss",), column="query", split="train[:5]") == 0
    texts = open_dataset("wordnet-gloss")[:5]["query"]
    assert_close(read(tmp_path / "out"), tiny.encode(texts))
