"""BEIR's folders as evaluation and as training data, and every defect by file and line."""

import gzip
import json

import pytest
from datasets import Dataset

from jaxembed.data import DataError, open_dataset, read_beir, read_beir_folder

CORPUS = [
    {"_id": "d1", "title": "Cat", "text": "a small animal"},
    {"_id": "d2", "text": "a vehicle"},
    {"_id": "d3", "title": "", "text": "a fruit"},
]
QUERIES = [{"_id": "q1", "text": "pet"}, {"_id": "q2", "text": "car"}, {"_id": "q3", "text": "x"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td3\t0\nq2\td2\t1\nq2\td3\t1\n"


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(lines(CORPUS))
    (tmp_path / "queries.jsonl").write_text(lines(QUERIES))
    (tmp_path / "qrels/test.tsv").write_text(QRELS)
    (tmp_path / "qrels/train.tsv").write_text("q3\td3\t1\n")
    return tmp_path


def test_a_folder_as_published(folder):
    corpus, queries, qrels = read_beir_folder(folder)
    assert corpus == {"d1": "Cat a small animal", "d2": "a vehicle", "d3": "a fruit"}
    assert queries == {"q1": "pet", "q2": "car"}
    assert qrels == {"q1": {"d1": 2.0, "d3": 0.0}, "q2": {"d2": 1.0, "d3": 1.0}}
    assert read_beir_folder(folder, "train")[1] == {"q3": "x"}  # no header, as some have it


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("qrels/test.tsv", "q1\t0\td1\t2\nq2\t0\td2\t1\nq2\t0\td3\t-1\n"),
        ("qrels/test.txt", "q1 0 d1 2\n\nq2 Q0  d2 1\nq2 0 d3 -1"),
        ("qrels.trec", "\ufeffq1 0 d1\t2 \r\nq2 0 d2 1\r\nq2 0 d3 -1\r\n"),
    ],
)
def test_qrels_of_trec_have_four_columns(folder, name, content):
    for file in folder.glob("qrels/*"):
        file.unlink()
    if "/" not in name:
        (folder / "qrels").rmdir()
    (folder / name).write_text(content, encoding="utf-8")
    _, queries, qrels = read_beir_folder(folder)
    assert queries == {"q1": "pet", "q2": "car"}
    assert qrels == {"q1": {"d1": 2.0}, "q2": {"d2": 1.0, "d3": -1.0}}


def test_it_is_training_data_too(folder):
    rows = open_dataset(folder, split="test")
    assert rows["query"][:] == ["pet", "car", "car"]
    assert rows["positive"][:] == ["Cat a small animal", "a vehicle", "a fruit"]


def test_parquet_gzip_and_flat_names(tmp_path):
    Dataset.from_list([{"title": None, **row} for row in CORPUS]).to_parquet(
        tmp_path / "eval_corpus.parquet"
    )
    with gzip.open(tmp_path / "eval_queries.jsonl.gz", "wt") as stream:
        stream.write(lines(QUERIES))
    (tmp_path / "eval_qrels.tsv").write_text("query-id\tcorpus-id\nq1\td1\n")
    corpus, queries, qrels = read_beir_folder(tmp_path)
    assert len(corpus) == 3
    assert queries == {"q1": "pet"}
    assert qrels == {"q1": {"d1": 1.0}}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("corpus.jsonl", '{"_id": "d1", "text": "a"}\n{"_id": "d2", "te', "line 2 of .*no JSON"),
        ("corpus.jsonl", '{"_id": "d1"}\n', "line 1 of .*corpus.jsonl has no 'text'"),
        ("corpus.jsonl", "[1]\n", "line 1 of .*is no JSON object"),
        ("corpus.jsonl", '{"_id": "d1", "text": 5}\n', "line 1 of .*must have a text, not 5"),
        ("corpus.jsonl", lines([CORPUS[0], CORPUS[0]]), "line 2 of .*_id 'd1' of an earlier one"),
        ("corpus.jsonl", "", "corpus.jsonl has no rows"),
        ("qrels/test.tsv", "q1\td1\n", "line 1 of .*test.tsv has 2 columns, where query-id, cor"),
        ("qrels/test.tsv", QRELS + "q1\td2\tgood\n", "line 6 of .*a number as score, not 'good'"),
        ("qrels/test.tsv", QRELS + "q1\td9\t1\n", "line 6 of .*document 'd9', which is not in"),
        ("qrels/test.tsv", QRELS + "q9\td1\t1\n", "line 6 of .*query 'q9', which is not in"),
        ("qrels/test.tsv", "q1\td1\t0\n", "score no document above 0"),
        ("qrels/test.tsv", "", "test.tsv has no rows"),
        ("qrels/test.tsv", "q1\td1\tnan\n", "line 1 of .*a number as score, not 'nan'"),
        ("qrels/test.tsv", QRELS + "q1\td1\t1\n", "line 6 of .*judges 'q1' and 'd1' again"),
        ("qrels/test.tsv", "q8\td1\t1\nq9\td1\t1\n", "line 1 of .*; there are 2 such lines"),
        ("qrels/test.tsv", "q1 d1 1\n", "line 1 of .*test.tsv has 1 columns, where query-id"),
        ("qrels/test.tsv", "q1 0 d1 1\nq2 d2 1\n", "line 2 of .*has 3 columns, where query-id, it"),
        ("qrels/test.tsv", "q1 0 d1 high\n", "line 1 of .*a number as score, not 'high'"),
        ("qrels/test.tsv", "q1 d1 0 1\n", "line 1 of .*document '0', which is not in corpus"),
        ("qrels/test.tsv", "q1 Q0 d1 1 0.9 run\n", "line 1 of .*has 1 columns, where query-id"),
        ("corpus.jsonl", '{"_id": null, "text": "a"}\n', "line 1 of .*has no _id: drop it"),
    ],
)
def test_a_defect_is_named_by_file_and_line(folder, file, content, message):
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=message) as refusal:
        read_beir_folder(folder)
    assert "\n" not in str(refusal.value)


def test_blank_lines_a_byte_order_mark_and_tables_without_titles_are_fine(folder):
    (folder / "queries.jsonl").write_text("\ufeff" + lines(QUERIES) + "\n")
    assert read_beir_folder(folder)[1] == {"q1": "pet", "q2": "car"}
    tables = (
        Dataset.from_dict({"_id": ["d1"], "text": ["a"]}),
        Dataset.from_dict({"_id": ["q1"], "text": ["b"]}),
        Dataset.from_dict({"query-id": ["q1"], "corpus-id": ["d1"]}),
    )
    assert read_beir(*tables) == ({"d1": "a"}, {"q1": "b"}, {"q1": {"d1": 1.0}})


def test_a_parquet_file_cut_short(folder):
    (folder / "corpus.jsonl").unlink()
    file = folder / "corpus.parquet"
    Dataset.from_list([{"title": None, **row} for row in CORPUS]).to_parquet(file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"corpus.parquet: cannot be read"):
        read_beir_folder(folder)


def test_a_gzip_file_cut_short(folder):
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(lines(CORPUS).encode())[:-9])
    with pytest.raises(DataError, match=r"corpus.jsonl.gz: cannot be read"):
        read_beir_folder(folder)


def test_files_that_are_missing_or_double(folder):
    with pytest.raises(DataError, match="has the splits test, train; got 'dev'"):
        read_beir_folder(folder, "dev")
    (folder / "old_corpus.jsonl").write_text("")
    with pytest.raises(DataError, match="has 2 files for corpus; one is needed"):
        read_beir_folder(folder)
    (folder / "queries.jsonl").unlink()
    (folder / "old_corpus.jsonl").unlink()
    with pytest.raises(DataError, match=r"has no file for queries; one is needed"):
        read_beir_folder(folder)
