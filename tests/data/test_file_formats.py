"""Files of every writer give the rows that were written, or are refused by name and row."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxembed.data import DataError, Stream, bind_columns, bind_stream, open_dataset
from jaxembed.typing import Roles

# datasets leaves the closing of CSV files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*FileIO:pytest.PytestUnraisableExceptionWarning"),
]
RANKED = Roles(("anchors", "positives"), negatives=True)
SCORED = Roles(("left", "right"), {"scores": float})
QUESTIONS, ANSWERS = ["who", "how", "where"], ["a sailor", "of flour", "behind"]
LISTS = [[answer, f"{answer} too"] for answer in ANSWERS]


def written(path, **columns):
    """Writes Arrow columns as Parquet, or as an Arrow file."""
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    return path


TEXTS = [pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
OF_TEXTS = [
    pa.large_list(pa.large_string()),
    pa.list_(pa.string(), 2),
    pa.list_view(pa.string()),
    pa.large_list_view(pa.string_view()),
    pa.list_(pa.string_view()),
]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_texts_of_every_arrow_type_are_read(tmp_path, suffix, kind):
    columns = {"query": pa.array(QUESTIONS).cast(kind), "answer": pa.array(ANSWERS).cast(kind)}
    path = written(tmp_path / f"rows{suffix}", **columns)
    rows = bind_columns(open_dataset(path), RANKED)
    assert rows.texts("positives", range(3)) == ANSWERS
    streamed = bind_stream(Stream(path, shuffle=False), RANKED)
    assert streamed.texts("positives", range(3)) == ANSWERS


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", OF_TEXTS, ids=str)
def test_lists_of_every_arrow_type_are_read(tmp_path, suffix, kind):
    columns = {"query": QUESTIONS, "pos": pa.array(LISTS, kind), "neg": pa.array(LISTS, kind)}
    path = written(tmp_path / f"rows{suffix}", **columns)
    rows = bind_columns(open_dataset(path), RANKED, use_negatives=True)
    assert rows.texts("positives", range(6)) == [text for texts in LISTS for text in texts]
    assert rows.negatives(range(0, 6, 2)) == LISTS
    named = {"anchors": "query", "positives": "query", "negatives": "neg"}
    streamed = bind_stream(Stream(path, shuffle=False), RANKED, named)
    assert streamed.negatives(range(3)) == LISTS


@pytest.mark.parametrize("kind", [pa.bool_(), pa.int8(), pa.uint64(), pa.float16(), pa.float32(),
                                  pa.decimal128(20, 2)], ids=str)  # fmt: skip
@pytest.mark.parametrize("expected", [int, float])
def test_labels_of_every_arrow_type_are_read(tmp_path, kind, expected):
    label = pa.array([1.0, 0.0, 1.0]).cast(kind) if kind != pa.bool_() else [True, False, True]
    path = written(tmp_path / "rows.parquet", a=QUESTIONS, b=ANSWERS, label=label)
    roles = Roles(("left", "right"), {"labels": expected})
    for rows in (bind_columns(open_dataset(path), roles, "a,b,label"),
                 bind_stream(Stream(path, shuffle=False), roles, "a,b,label")):  # fmt: skip
        assert rows.labels("labels", range(3)).tolist() == [1, 0, 1]


def test_a_column_of_csv_is_what_its_role_reads(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("query,answer,score\nbridge 0,0012,1\nbridge 1,1891,2\nbridge 2,,0.5\n")
    data = open_dataset(path)
    rows = bind_columns(data, RANKED, drop_incomplete=True)
    assert rows.texts("positives", range(2)) == ["0012", "1891"]
    assert bind_columns(data, Roles(("left",), {"scores": float}), "query,score").labels(
        "scores", range(3)
    ).tolist() == [1, 2, 0.5]
    path.write_text("a,b,c\nx,y,1\nx,y,2.5\n")
    assert bind_columns(open_dataset(path), SCORED).labels("scores", range(2)).tolist() == [1, 2.5]
    path.write_text("a,b,score\nx,y,1\nx,y,high\n")
    with pytest.raises(
        DataError, match=r"column 'score' is none: it holds str such as 'high' \(ro"
    ):
        bind_columns(open_dataset(path), SCORED)


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        # No quotation: the marks are part of the texts
        (['"No entry" is on the door\tof the mill', "two\tthree"],
         [('"No entry" is on the door', "of the mill"), ("two", "three")]),
        (['"The tide is out\tquay"', '"go\ton'], [('"The tide is out', 'quay"'), ('"go', "on")]),
        (['"Hamlet"\twhose play', "Macbeth\tanother"],
         [('"Hamlet"', "whose play"), ("Macbeth", "another")]),
        # Visibly quoted: all fields, a doubled mark, or lines that else have too few fields
        (['"one"\t"two"', '"three"\t"four"'], [("one", "two"), ("three", "four")]),
        (['"he said ""no"""\tand left', "two\tthree"],
         [('he said "no"', "and left"), ("two", "three")]),
        (['"a\ttab"\tb', "two\tthree"], [("a\ttab", "b"), ("two", "three")]),
        (['"a', 'line"\tb', "two\tthree"], [("a\nline", "b"), ("two", "three")]),
    ],
)  # fmt: skip
def test_quotation_marks_of_a_tsv_stay_unless_it_is_visibly_quoted(tmp_path, lines, texts):
    path = tmp_path / "rows.tsv"
    path.write_text("\n".join(["query\tanswer", *lines, ""]))
    rows = bind_columns(open_dataset(path), RANKED)
    columns = (rows.texts(role, range(len(rows))) for role in rows.text_roles)
    assert list(zip(*columns, strict=True)) == texts


ROWS = [dict(zip(("query", "answer"), row, strict=True)) for row in zip(QUESTIONS, ANSWERS)]  # noqa: B905
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
SEPARATED = [f"{row['query']},{row['answer']}" for row in ROWS]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.jsonl", LINES),
        ("rows.ndjson", LINES),
        ("rows.json", LINES),
        ("ROWS.JSON", json.dumps(ROWS, indent=1)),
        ("rows.csv", "\n".join(["query,answer", *SEPARATED])),
        ("rows.tsv", "\n".join(["query,answer", *SEPARATED]).replace(",", "\t")),
    ],
)
def test_files_are_read_with_gz_and_without(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    for path in (tmp_path / name, tmp_path / f"{name}.gz"):
        assert open_dataset(path).to_list() == ROWS
    if text == LINES:
        for path in (tmp_path / name, tmp_path / f"{name}.gz"):
            assert Stream(path, shuffle=False).take(np.arange(3))["answer"].to_pylist() == ANSWERS


def test_json_lines_whose_types_grow_are_read_and_mixed_ones_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"a": "x" * 1000, "b": "y", "score": 1, "list": []} for _ in range(11_000)]
    rows += [{"a": "x", "b": "y", "score": 0.5, "list": ["z"]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert bind_columns(open_dataset(path), SCORED, "a,b,score").labels(
        "scores", range(10_999, 11_001)
    ).tolist() == [1, 0.5]
    rows[-1] |= {"b": 7}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:10_500] + rows[-1:] * 500))
    with pytest.raises(
        DataError, match=r"(column|Column\(/)'?b'? ?.*(changed|has both string and)"
    ):
        open_dataset(path)
    rows[-1] |= {"b": "y", "score": "high"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        DataError, match=r"line 11001 cannot be read .*/score\) changed from number to"
    ):
        open_dataset(path)


def test_a_file_that_is_no_table_of_a_few_columns_is_refused(tmp_path):
    wide = ",".join(f"c{place}" for place in range(10_000))
    (tmp_path / "wide.csv").write_text(f"{wide}\n{wide}\n")
    (tmp_path / "wide.jsonl").write_text(json.dumps(dict.fromkeys(wide.split(","), 1)))
    for name in ("wide.csv", "wide.jsonl"):
        with pytest.raises(DataError, match=rf"{name} has 10,000 columns; write those that are"):
            open_dataset(tmp_path / name)
    (tmp_path / "twice.csv").write_text("query,query\na,b\n")
    with pytest.raises(DataError, match="two columns have the name 'query'"):
        open_dataset(tmp_path / "twice.csv")
    (tmp_path / "more.csv").write_text("query,answer\na,b, and c\n")
    with pytest.raises(DataError, match="the first row has 3 fields for 2 columns"):
        open_dataset(tmp_path / "more.csv")
