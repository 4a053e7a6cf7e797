"""A stream's order is known before it is read: any host finds any step, in little memory."""

import gzip
import json
import pickle
import threading

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from jaxembed.data import DataError, Shards, bind_columns, make_batch, stream_files
from jaxembed.data.draws import WeightedRows, WeightedSteps, temperature_weights
from jaxembed.data.plans import BatchPlan, plain_plan, shuffled
from jaxembed.data.stream_files import find_files
from jaxembed.data.stream_rows import bind_stream
from jaxembed.data.streams import FILES, WINDOWS, Stream, StreamPlan
from jaxembed.typing import Roles

SIZES = (7, 0, 12, 1, 10)
KINDS = ("parquet", "file.arrow", "stream.arrow", "jsonl", "jsonl.gz")
PAIRS = Roles(("anchors", "positives"))


def write(path, rows, **schema):
    """Writes rows in the format that the name of the file asks for, a few in a group."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    table = pa.table({n: pa.array(v, schema.get(n)) for n, v in columns.items()})
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    match path.name.split(".", 1)[1]:
        case "parquet":
            pq.write_table(table, path, row_group_size=4)
        case "file.arrow":
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table, 4)
        case "stream.arrow":
            with pa.ipc.new_stream(path, table.schema) as file:
                file.write_table(table, 4)
        case "jsonl":
            path.write_bytes(lines)  # the last line without its end
        case "jsonl.gz":
            path.write_bytes(gzip.compress(lines + b"\n" if lines else b""))
    return path


def write_sizes(folder, kind, sizes=SIZES):
    """Writes files of so many rows, whose texts say the file and the row."""
    folder.mkdir(exist_ok=True)
    for number, n in enumerate(sizes):
        rows = [{"text": f"{number}-{row}", "number": row} for row in range(n)]
        write(folder / f"{number}.{kind}", rows or [], text=pa.string())
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("streams")
    return {kind: write_sizes(root / kind, kind) for kind in KINDS}


def texts(stream, positions):
    return stream.take(np.asarray(positions))["text"].to_pylist()


def in_order(sizes, window, seed, epochs):
    """The texts of an endless stream, found by loops."""
    found = []
    for epoch in range(epochs):
        rows = [
            f"{file}-{row}"
            for file in shuffled(len(sizes), seed, epoch, FILES)
            for row in range(sizes[file])
        ]
        for number, start in enumerate(range(0, len(rows), window)):
            part = rows[start : start + window]
            found += [part[i] for i in shuffled(len(part), seed, epoch, WINDOWS, number)]
    return found


@pytest.mark.parametrize("window", [1, 8, 15, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_has_each_row_once_shuffled_within_windows(folders, kind, window):
    expected = in_order(SIZES, window, 3, epochs=3)
    assert sorted(expected[30:60]) == sorted(
        f"{f}-{r}" for f, n in enumerate(SIZES) for r in range(n)
    )
    stream = Stream(folders[kind], window=window, seed=3)
    found = [text for start in range(0, 90, 9) for text in texts(stream, range(start, start + 9))]
    assert found == expected


def test_without_shuffling_files_and_rows_keep_their_order(folders):
    stream = Stream(folders["parquet"], window=4, shuffle=False)
    rows = [f"{file}-{row}" for file, n in enumerate(SIZES) for row in range(n)]
    assert texts(stream, range(75)) == (3 * rows)[:75]


def test_the_order_is_the_same_for_ever(folders):
    """Recorded values: a change here would make every saved run resume with other rows."""
    stream = Stream(folders["jsonl"], window=8, seed=7)
    assert " ".join(texts(stream, range(28, 36))) == "2-6 2-10 3-0 0-6 0-4 0-5 0-1 0-2"


def test_seed_and_epoch_change_the_order(folders):
    orders = [
        texts(Stream(folders["parquet"], window=8, seed=seed), range(30 * epoch, 30 * epoch + 30))
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len(set(map(tuple, orders))) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_any_step_comes_first(folders, kind):
    """In the middle of a window, a file and an epoch, and at their edges."""
    plan, expected = StreamPlan(5), in_order(SIZES, 8, 3, epochs=5)
    for step in (0, 1, 3, 5, 6, 7, 13, 29):
        found = texts(Stream(folders[kind], window=8, seed=3), plan.rows(step))
        assert found == expected[5 * step : 5 * step + 5]


def test_one_stream_goes_to_and_fro(folders):
    stream, expected = Stream(folders["jsonl"], window=8, seed=3), in_order(SIZES, 8, 3, epochs=4)
    for start in (100, 0, 64, 3, 29, 2, 100):
        assert texts(stream, range(start, start + 9)) == expected[start : start + 9]


def test_positions_come_in_any_order_and_more_than_a_window_at_once(folders):
    stream, expected = Stream(folders["parquet"], window=8, seed=3), in_order(SIZES, 8, 3, epochs=4)
    positions = np.random.default_rng(0).integers(0, 120, 50)
    assert texts(stream, positions) == [expected[position] for position in positions]
    assert stream.take(np.array([], int)).num_rows == 0


def test_hosts_that_read_their_slices_read_the_whole_batch(folders):
    plan, expected = StreamPlan(12), in_order(SIZES, 8, 3, epochs=4)
    hosts = [Shards(mine=mine, count=4) for mine in ((0, 2), (1, 3))]
    streams = [Stream(folders["parquet"], window=8, seed=3) for _ in hosts]
    for step in range(4, 9):
        batch = np.empty(12, object)
        for host, stream in zip(hosts, streams, strict=True):
            batch[host.rows(12)] = texts(stream, plan.rows(step)[host.rows(12)])
        assert batch.tolist() == expected[12 * step : 12 * step + 12]


def test_a_stream_travels_to_other_processes_and_threads(folders):
    stream, expected = Stream(folders["parquet"], window=8, seed=3), in_order(SIZES, 8, 3, epochs=4)
    texts(stream, range(50))
    other = pickle.loads(pickle.dumps(stream))
    found = {}

    def read(start):
        for step in range(start, 20, 3):
            found[step] = texts(other, StreamPlan(5).rows(step))

    threads = [threading.Thread(target=read, args=(start,)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {step: expected[5 * step : 5 * step + 5] for step in range(20)}


@pytest.mark.parametrize("kind", KINDS)
def test_files_elsewhere_are_read_as_those_here(folders, kind):
    memory = fsspec.filesystem("memory")
    for file in folders[kind].iterdir():
        memory.pipe(f"/data/{kind}/{file.name}", file.read_bytes())
    expected = in_order(SIZES, 8, 3, epochs=2)
    suffix = kind.split(".", 1)[-1]
    for source in (
        f"memory://data/{kind}",
        f"memory://data/{kind}/*.{suffix}",
        f"file://{folders[kind]}",
    ):
        stream = Stream(source, window=8, seed=3)
        assert stream.files.names[0].startswith(source[:9])
        assert texts(stream, range(40, 60)) == expected[40:60]
        assert texts(stream, range(10)) == expected[:10]


def test_a_folder_a_glob_and_a_list_name_the_same_files(tmp_path, monkeypatch):
    folder = write_sizes(tmp_path / "data", "jsonl", (2, 3))
    (folder / "README.md").write_text("no data")
    files = (str(folder / "0.jsonl"), str(folder / "1.jsonl"))
    monkeypatch.chdir(tmp_path)
    for source in (folder, str(folder), "data", "data/*.jsonl", f"{folder}/[01].jsonl", files):
        assert find_files(source) == files
    assert find_files([files[1], folder]) == (files[1], *files)


def test_little_is_in_memory(tmp_path):
    for number in range(2):
        table = pa.table({"text": [f"{number}{i:04}" * 200 for i in range(6000)]})
        pq.write_table(
            table, tmp_path / f"{number}.parquet", row_group_size=200, compression="none"
        )
    before = pa.total_allocated_bytes()
    stream = Stream(tmp_path, window=200, seed=0)  # a window has 200 kB, the files 12 MB
    most = 0
    for step in range(200):
        stream.take(StreamPlan(64).rows(step))
        most = max(most, pa.total_allocated_bytes() - before)
    assert 400_000 < most < 2_500_000  # the head, two windows, a batch, and what is decoded


def counting(monkeypatch):
    counted, count_rows = [], stream_files.count_rows
    monkeypatch.setattr(
        stream_files, "count_rows", lambda file: counted.append(file[-7:]) or count_rows(file)
    )
    return counted


def test_reading_on_counts_nothing_and_a_jump_only_the_files_before(tmp_path, monkeypatch):
    counted = counting(monkeypatch)
    folder = write_sizes(tmp_path / "data", "jsonl", (4, 4, 4, 4, 4))
    assert len(texts(Stream(folder, window=3), range(60))) == 60
    assert counted == []
    stream = Stream(folder, window=3, shuffle=False)
    assert texts(stream, [9, 11]) == ["2-1", "2-3"]
    assert counted == ["0.jsonl", "1.jsonl", "2.jsonl"]
    texts(stream, range(9, 60))
    assert len(counted) == 3


def test_an_index_spares_counting(tmp_path, monkeypatch):
    counted = counting(monkeypatch)
    folder, index = write_sizes(tmp_path / "data", "jsonl"), tmp_path / "index.json"
    expected = texts(Stream(folder, window=8, index=index), [75])
    assert len(counted) == len(json.loads(index.read_text())) == 5
    assert texts(Stream(folder, window=8, index=index), [75]) == expected
    assert len(counted) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["data", "index.json"]
    write(folder / "2.jsonl", [{"text": "new", "number": 0}])
    with pytest.raises(
        DataError,
        match=r"2.jsonl has 2. bytes and had .*restore it, or start a new run without .*index.json",
    ):
        texts(Stream(folder, window=8, index=index), range(30))


def test_what_lies_before_is_not_parsed(tmp_path):
    folder = write_sizes(tmp_path / "lines", "jsonl", (1, 9))
    lines = (folder / "1.jsonl").read_text().split("\n")
    (folder / "1.jsonl").write_text("\n".join(["{broken", *lines[1:]]))
    assert texts(Stream(folder, window=3, shuffle=False), [4]) == ["1-3"]
    folder = write_sizes(tmp_path / "groups", "parquet", (1, 9))
    destroy_group(folder / "1.parquet", 0)
    assert texts(Stream(folder, window=3, shuffle=False), [6, 7]) == ["1-5", "1-6"]
    with pytest.raises(DataError, match=r"1.parquet cannot be read from row 0 on"):
        texts(Stream(folder, window=3, shuffle=False), [1])


def destroy_group(path, group):
    file, metadata = bytearray(path.read_bytes()), pq.ParquetFile(path).metadata
    column = metadata.row_group(group).column(0)
    start = column.dictionary_page_offset
    file[start : start + column.total_compressed_size] = b"x" * column.total_compressed_size
    path.write_bytes(file)


def refused(match, source, positions=range(30), **options):
    with pytest.raises(DataError, match=match) as error:
        texts(Stream(source, **{"window": 8, "shuffle": False, **options}), positions)
    assert "\n" not in str(error.value)


def test_what_is_no_stream_is_refused(tmp_path):
    none = "there is no file to stream; known are .parquet .arrow .jsonl .ndjson .json .jsonl.gz"
    (tmp_path / "table.csv").write_text("text\na")
    refused(f"missing.jsonl: {none}", tmp_path / "missing.jsonl")
    refused(f"no.*: {none}", f"{tmp_path}/no*.parquet")
    refused(f"table.csv: {none}", tmp_path / "table.csv")
    refused(f"{tmp_path}: {none}", tmp_path)
    refused("nofs://x cannot be read .*nofs.*; see that it can be reached", "nofs://x")
    refused("a stream needs files; name one or more", [])
    refused("e.jsonl has no rows, and neither has another", write(tmp_path / "e.jsonl", []))
    refused("window must be 1 or more; got 0", write_sizes(tmp_path / "data", "jsonl"), window=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_short_is_named(tmp_path, kind):
    folder = write_sizes(tmp_path, kind, (9, 900))
    file = folder / f"1.{kind}"
    file.write_bytes(file.read_bytes()[:-60])
    match = r"line 89\d cannot be read" if kind == "jsonl" else "cannot be read"
    refused(rf"1.{kind}(:| )\s?{match}.*", folder, range(20, 909))


def test_a_file_that_changes_or_goes_is_named(tmp_path):
    folder = write_sizes(tmp_path, "jsonl", (9, 9))
    stream = Stream(folder, window=4, shuffle=False)
    texts(stream, range(18))
    file, line = folder / "1.jsonl", (folder / "1.jsonl").read_bytes()
    file.write_bytes(line + b"\n{}")
    with pytest.raises(
        DataError, match=r"1.jsonl has \d+ bytes and had \d+; .* must stay as they are"
    ):
        texts(stream, range(24, 40))
    file.write_bytes(json.dumps({"text": "x" * 45}).encode() + line[57:])
    with pytest.raises(DataError, match=r"1.jsonl has 8 rows and had 9; .* must stay as they are"):
        texts(stream, range(24, 40))
    file.unlink()
    with pytest.raises(DataError, match=r"1.jsonl cannot be read .*No such file"):
        texts(stream, range(24, 40))
    file.write_bytes(line)
    assert texts(stream, [27, 35]) == ["1-0", "1-8"]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"number": 1}], "1.parquet has no column 'text', which the first file .* it has number"),
        ([{"text": 5, "number": 1}], "column 'text' of int64 cannot be read as string"),
        ([{"text": "a", "number": "5"}], "column 'number' of string cannot be read as int64"),
        ([{"text": "a", "number": 0.5}], "column 'number' of double cannot be read as int64"),
        ([{"text": ["a"], "number": 1}], "column 'text' of list<.*> cannot be read as string"),
    ],
)
def test_files_that_are_unlike_the_first_are_named(tmp_path, rows, match):
    folder = write_sizes(tmp_path, "parquet", (9,))
    write(folder / "1.parquet", rows)
    refused(match, folder)


def test_files_may_hold_the_same_in_other_types(tmp_path):
    write(tmp_path / "0.parquet", [{"text": "a", "number": 1.5}])
    write(tmp_path / "1.parquet", [{"number": 2, "more": 0, "text": "b"}], text=pa.large_string())
    table = Stream(tmp_path, shuffle=False, window=2).take(np.arange(2))
    assert table.to_pylist() == [{"text": "a", "number": 1.5}, {"text": "b", "number": 2.0}]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("", r"line 3 cannot be read \(it is empty\); write one object a line"),
        ('{"text": 5}', r"line 3 cannot be read \(JSON parse error: .*to number\)"),
        ('["text"]', r"line 3 cannot be read \(JSON parse error"),
        ('{"text": "a"}{"text": "b"}', r"line 1 or a later one .*\(it has several objects\)"),
    ],
)
def test_lines_that_are_no_rows_are_named(tmp_path, line, match):
    rows = ['{"text": "a"}'] * 5
    (tmp_path / "0.jsonl").write_text("\n".join(rows))
    (tmp_path / "1.jsonl").write_text("\n".join([*rows[:2], line, *rows]))
    refused(match, tmp_path)


def test_what_cannot_be_read_cannot_be_read_when_tried_again(tmp_path):
    folder = write_sizes(tmp_path, "parquet", (1, 9))
    destroy_group(folder / "1.parquet", 1)
    stream = Stream(folder, window=4, shuffle=False)
    assert texts(stream, [3]) == ["1-2"]
    for _ in range(2):
        with pytest.raises(DataError, match=r"1.parquet cannot be read from row 4 on"):
            texts(stream, [4])


def test_the_next_window_is_read_ahead(tmp_path):
    folder = write_sizes(tmp_path / "data", "parquet", (4, 4))
    stream = Stream(folder, window=4, shuffle=False)
    texts(stream, [1])
    stream._windows[0, 1].result(timeout=60)
    (folder / "1.parquet").unlink()
    assert texts(stream, [6]) == ["1-2"]


def test_an_error_comes_where_its_rows_are_due(tmp_path):
    folder = write_sizes(tmp_path, "jsonl", (8, 8))
    (folder / "1.jsonl").write_text("{broken\n" * 8)
    stream = Stream(folder, window=8, shuffle=False)
    assert texts(stream, range(8))[-1] == "0-7"
    for _ in range(2):
        with pytest.raises(DataError, match=r"1.jsonl: line 1 cannot be read"):
            texts(stream, [8])
    with pytest.raises(DataError, match="positions of a stream begin with 0; got -1"):
        texts(stream, [-1])


def records(n):
    return [
        {
            "query": f"q{i}",
            "answer": f"a{i // 2}",
            "negatives": [f"n{i}", None, "m"][: i % 4] if i % 5 else None,
            "score": i if i < 20 else i / 8,
            "scores": [[0.5, i], [1, 2]],
            "class": i % 3,
        }
        for i in range(n)
    ]


ALL = Roles(
    ("anchors", "positives"),
    {"targets": float, "teacher": float, "labels": int},
    negatives=True,
    ids=True,
)
COLUMNS = "query,answer,targets=score,teacher=scores,labels=class,negatives=negatives"


def lengths(texts, role):
    return {"length": np.array([[len(text), len(role), hash(text)] for text in texts])}


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_those_of_the_same_rows_with_numbers(tmp_path, kind):
    rows, types = records(30), {"scores": pa.list_(pa.list_(pa.float32()))}
    write(tmp_path / f"0.{kind}", rows[:20], **types)
    write(tmp_path / f"1.{kind}", rows[20:], **types)
    kept = bind_columns(Dataset.from_list(rows), ALL, COLUMNS)
    stream = bind_stream(Stream(tmp_path, window=8, seed=1), ALL, COLUMNS)
    numbers = [int(text[1:]) for text in stream.texts("anchors", range(60))]
    for step in range(8):
        positions = StreamPlan(7).rows(step)
        indices = np.array([numbers[position] for position in positions])
        np.testing.assert_equal(
            make_batch(stream, ALL, positions, lengths), make_batch(kept, ALL, indices, lengths)
        )
    for name in ("text_roles", "label_types", "max_negatives", "text_columns", "column_names"):
        assert getattr(stream, name) == getattr(kept, name)
    assert len(stream.head) == 20


def test_columns_are_found_and_refused_as_ever(tmp_path):
    folder = write_sizes(tmp_path, "jsonl")
    roles = Roles(("embeddings",), {"labels": int})
    rows = bind_stream(Stream(folder, window=4), roles)
    assert rows.column_names == ("text", "number")
    assert rows.stream.files.schema.names == ["text", "number"]
    one = bind_stream(Stream(folder, window=4), Roles(("embeddings",)))
    assert one.stream.take(np.arange(2)).column_names == ["text"]
    with pytest.raises(
        DataError, match=r"0.jsonl: there is no column 'query'; the columns are text"
    ):
        bind_stream(Stream(folder), PAIRS, "query")
    with pytest.raises(DataError, match=r"0.jsonl: which column holds the anchors"):
        bind_stream(Stream(folder), PAIRS)


def test_rows_say_where_they_come_from(tmp_path):
    rows = bind_stream(Stream(write_sizes(tmp_path, "parquet"), window=8), Roles(("texts",)))
    for row in rows.describe(np.arange(25, 40)):
        number, file_row = row["texts"].split("-")
        assert row["origin"] == f"{tmp_path}/{number}.parquet, row {file_row}"
    assert row["row"] == 39


def test_a_batch_of_many_windows_is_read_once_for_all_its_roles(tmp_path, monkeypatch):
    rows = bind_stream(
        Stream(write_sizes(tmp_path, "jsonl"), window=4), Roles(("texts",), {"labels": int})
    )
    read, whole = [], rows.stream.files.read
    monkeypatch.setattr(
        rows.stream.files, "read", lambda *of: read.append(len(table := whole(*of))) or table
    )
    positions = np.arange(40)
    assert len(rows.texts("texts", positions)) == len(rows.labels("labels", positions)) == 40
    assert 40 <= sum(read) <= 50


def test_a_stream_has_no_length(tmp_path):
    rows = bind_stream(Stream(write_sizes(tmp_path, "jsonl")), Roles(("texts",)))
    with pytest.raises(DataError, match="column 'text' is of a stream, whose length nobody knows"):
        len(rows)
    with pytest.raises(DataError, match=r"2 epochs of a stream have no .* say how many steps"):
        StreamPlan(4).n_steps(2)
    with pytest.raises(DataError, match="batch_size must be 1 or more; got 0"):
        StreamPlan(0)


def test_bound_rows_travel_to_other_processes(tmp_path):
    rows = bind_stream(Stream(write_sizes(tmp_path, "jsonl"), window=4), Roles(("texts",)))
    expected = rows.texts("texts", range(20, 50))
    assert pickle.loads(pickle.dumps(rows)).texts("texts", range(20, 50)) == expected


BAD = {
    "query": (None, "column 'query' has nothing (null); 'left' needs a value"),
    "reply": (None, "column 'reply' has nothing (null); 'right' needs a value"),
    "score": (None, "column 'score' has nothing (null); 'scores' needs a value"),
    "nan": (float("nan"), "column 'score' has nan, which is not from 0 to 1, for 'scores'"),
    "high": (1.5, "column 'score' has 1.5, which is not from 0 to 1, for 'scores'"),
    "width": ([1.0], "column 'vector' has a list of 1 where others have 2 for 'vectors'"),
    "matrix": ([[1.0], [2.0, 3.0]], "column 'matrix' has a list of 2 where others have 1 for"),
    "inf": (
        [0.5, 1e300],
        "column 'vector' has 1e+300, which is not from -3.40282e+38 to 3.40282e+38",
    ),
    "hole": ([0.5, None], "column 'vector' has nan, which is not from"),
    "class": (2**40, "column 'class' has 1.09951e+12, which is not from -2.14748e+09"),
}


@pytest.mark.parametrize("case", BAD)
def test_the_row_of_a_bad_value_is_named(tmp_path, case):
    value, message = BAD[case]
    name = {"nan": "score", "high": "score", "class": "class"}.get(case, case)
    name = "vector" if case in ("width", "inf", "hole") else name
    row = {"query": "a", "reply": "b", "score": 0.5, "vector": [1.0, 2.0], "class": 1}
    row["matrix"] = [[1.0], [2.0]]
    write(tmp_path / "0.parquet", [row] * 5)
    write(tmp_path / "1.parquet", [*[row] * 6, {**row, name: value}, row, row])
    roles = Roles(
        ("left", "right"), {"scores": float, "vectors": float, "matrices": float, "classes": int}
    )
    columns = "query,reply,scores=score,vectors=vector,matrices=matrix,classes=class"
    stream = Stream(tmp_path, window=4, shuffle=False)
    rows = bind_stream(stream, roles, columns, bounds={"scores": (0, 1)})
    assert len(rows.texts("left", range(4))) == 4
    with pytest.raises(DataError) as error:
        rows.texts("left", range(14))
    assert str(error.value).startswith(f"{tmp_path}/1.parquet, row 6: {message}")


def test_texts_of_a_stream_that_look_like_dates_are_texts(tmp_path):
    lines = [json.dumps({"query": "when", "reply": f"2020-02-{day:02}"}) for day in range(1, 20)]
    (tmp_path / "0.jsonl").write_text("\n".join([*lines, '{"query": "how", "reply": "so"}']))
    rows = bind_stream(Stream(tmp_path, window=4, shuffle=False), Roles(("left", "right")))
    assert rows.texts("right", range(20))[-2:] == ["2020-02-19", "so"]


def test_a_text_that_is_no_utf8_is_named(tmp_path):
    row = '{"query": "a", "reply": "%s"}'
    lines = [row % "b"] * 1010 + [row % "café"]
    (tmp_path / "0.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    stream = Stream(tmp_path, window=2000, shuffle=False)
    rows = bind_stream(stream, Roles(("left", "right")), "query,reply")
    with pytest.raises(DataError, match=r"0.jsonl, row 1010: column 'reply' is no UTF-8 .*save"):
        rows.texts("right", range(2))


def test_more_negatives_than_the_first_rows_have(tmp_path):
    for number, negatives in enumerate([["x", "y"], None, ["x", "y", "z"]]):
        row = {"query": "a", "reply": "b", "negatives": negatives}
        write(tmp_path / f"{number}.parquet", [row] * 4, negatives=pa.list_(pa.string()))
    roles, columns = Roles(("anchors", "positives"), negatives=True), "query,reply,negatives"
    stream = Stream(tmp_path, window=4, shuffle=False)
    rows = bind_stream(stream, roles, columns)
    assert rows.negatives(range(3, 5)) == [["x", "y"], []]
    with pytest.raises(
        DataError, match=r"2.parquet, row 0: there are 3 negatives, and 2 at most in"
    ):
        rows.negatives(range(8, 9))
    assert bind_stream(stream, roles, columns, max_negatives=1).negatives(np.array([3, 8])) == [
        ["x"],
        ["x"],
    ]
    more = bind_stream(stream, roles, columns, max_negatives=4)
    assert more.negatives(np.array([4, 8])) == [[], ["x", "y", "z"]]
    assert more.max_negatives == 4
    assert bind_stream(stream, PAIRS, "query,reply", max_negatives=4).max_negatives == 0
    with pytest.raises(DataError, match="max_negatives must be 1 or more; got 0"):
        bind_stream(stream, roles, columns, max_negatives=0)


def test_a_column_of_lists_of_texts_is_refused(tmp_path):
    file = write(tmp_path / "0.parquet", [{"query": "a", "positive": ["b", "c"]}])
    with pytest.raises(
        DataError, match=r"0.parquet: column 'positive' has lists .* 'positives': write"
    ):
        bind_stream(Stream(file), PAIRS)


SHARES = {"web": 0.6, "books": 0.3, "code": 0.0999, "rare": 0.0001}


def test_of_256_steps_each_source_has_its_share():
    steps = WeightedSteps(list(SHARES), {name: 7 * share for name, share in SHARES.items()})
    found = [steps.locate(step)[0] for step in range(40 * 256)]
    for start in range(0, len(found), 256):
        for name, share in SHARES.items():
            assert abs(found[start : start + 256].count(name) - 256 * share) < 1
    for name, share in SHARES.items():
        assert abs(found.count(name) - len(found) * share) < 2
    assert found[:256] != sorted(found[:256])


def test_the_batches_of_each_source_come_one_after_the_other_in_any_order_of_asking():
    steps = WeightedSteps(list(SHARES), SHARES, seed=2)
    located = [steps.locate(step) for step in range(1500)]
    for name in SHARES:
        numbers = [number for source, number in located if source == name]
        assert numbers == list(range(len(numbers)))
    for step in (1499, 3, 700):
        assert WeightedSteps(list(SHARES), SHARES, seed=2).locate(step) == located[step]
    assert pickle.loads(pickle.dumps(steps)).locate(700) == located[700]
    assert [WeightedSteps(list(SHARES), SHARES).locate(step) for step in range(1500)] != located


def test_draws_go_on_without_an_end():
    steps = WeightedSteps(["a", "b"], {"a": 2, "b": 1})
    for step in (2**20 - 1, 2**20, 10**7, 10**12):
        before, (name, number) = steps.locate(step - 1), steps.locate(step)
        if before[0] == name:
            assert number == before[1] + 1
        assert abs(number - step * {"a": 2 / 3, "b": 1 / 3}[name]) < 100 + 1e-6 * step


def test_the_draws_are_the_same_for_ever():
    """Recorded values: a change here would make every saved run resume with other rows."""
    steps = WeightedSteps("abc", {"a": 3, "b": 2, "c": 1}, seed=5)
    assert "".join(steps.locate(step)[0] for step in range(300, 320)) == "cbacbaaccabaaaababab"
    rows = WeightedRows("abc", {"a": 3, "b": 2, "c": 1}, 10)
    assert [[len(span) for span in rows.locate(step).values()] for step in range(4)] == [
        [5, 4, 1],
        [5, 3, 2],
        [5, 4, 1],
        [5, 3, 2],
    ]


@pytest.mark.parametrize("batch_size", [1, 7, 10, 1024])
def test_a_mixed_batch_has_each_share_and_many_have_it_exactly(batch_size):
    rows = WeightedRows(list(SHARES), SHARES, batch_size)
    before = dict.fromkeys(SHARES, 0)
    for step in range(5000):
        spans = rows.locate(step)
        assert sum(map(len, spans.values())) == batch_size
        for name, span in spans.items():
            assert span.start == before[name]
            assert abs(len(span) - batch_size * SHARES[name]) < 1
            before[name] = span.stop
    for name, share in SHARES.items():
        assert abs(before[name] - 5000 * batch_size * share) < 8
    assert [len(span) for span in WeightedRows("ab", {"a": 1, "b": 4}, 10).locate(0).values()] == [
        2,
        8,
    ]


def test_plans_of_any_kind_are_drawn_from():
    kept = BatchPlan(lambda epoch: plain_plan(5, 2, seed=0, epoch=epoch))
    plans = {"kept": kept, "streamed": StreamPlan(2)}
    steps = WeightedSteps(list(plans), {"kept": 1, "streamed": 1})
    drawn = [(name, plans[name].rows(number)) for name, number in map(steps.locate, range(40))]
    streamed = np.concatenate([rows for name, rows in drawn if name == "streamed"])
    assert streamed.tolist() == list(range(len(streamed)))


def test_the_higher_the_temperature_the_more_alike_the_weights():
    sizes = {"web": 8_000_000, "books": 1000}
    assert temperature_weights(sizes, 1) == {"web": 1, "books": 1000 / 8_000_000}
    assert temperature_weights(sizes, 3) == {"web": 1, "books": pytest.approx(0.05)}
    with pytest.raises(DataError, match="temperature must be positive; got 0"):
        temperature_weights(sizes, 0)
    with pytest.raises(DataError, match="the size of 'web' must be positive; got 0"):
        temperature_weights({"web": 0}, 1)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf")])
def test_weights_that_say_nothing_are_refused(wrong):
    with pytest.raises(DataError, match=f"the weight of 'b' must be positive; got {wrong} .to do"):
        WeightedSteps(["a", "b"], {"a": 1, "b": wrong})


def test_weights_that_are_missing_are_refused():
    with pytest.raises(DataError, match="'b' has no weight; give all a weight, or none"):
        WeightedRows(["a", "b"], {"a": 1}, 4)
    with pytest.raises(DataError, match="there is a weight for 'c', which is none of a, b"):
        WeightedRows(["a", "b"], {"a": 1, "b": 1, "c": 1}, 4)
    with pytest.raises(DataError, match="there is nothing to draw from"):
        WeightedSteps([], {})
    with pytest.raises(DataError, match="batch_size must be 1 or more; got 0"):
        WeightedRows(["a"], {"a": 1}, 0)
