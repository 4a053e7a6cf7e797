"""Every source gives the same rows, and what cannot be read is named."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from jaxembed.data import DataError, open_dataset, wordnet_gloss_retrieval
from jaxembed.data.encodings import encoding_of

# datasets leaves the closing of CSV files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*FileIO:pytest.PytestUnraisableExceptionWarning"),
]

ROWS = [
    {"query": "bank, of a river", "positive": "sloping land", "score": 0.5},
    {"query": "null", "positive": 'a "quoted"\nword', "score": 1.0},
    {"query": "Übergrößé 水", "positive": "NA", "score": 0.0},
]
TEXTS = [row | {"score": str(row["score"])} for row in ROWS]  # all that CSV says
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


def write(path):
    """Writes ROWS in the format that the name of the file asks for."""
    data = Dataset.from_list(ROWS)
    match path.suffix:
        case ".parquet":
            data.to_parquet(path)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        case ".json":
            path.write_text(json.dumps(ROWS))
        case ".csv":
            data.to_csv(path)
        case ".tsv":
            data.to_csv(path, sep="\t")
        case ".arrow":
            table = pa.Table.from_pylist(ROWS)
            with pa.ipc.new_stream(str(path), table.schema) as stream:
                stream.write_table(table)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json", ".csv", ".tsv", ".arrow"])
def test_every_format_gives_the_rows_that_were_written(tmp_path, suffix):
    path = write(tmp_path / f"rows{suffix}")
    rows = TEXTS if suffix in (".csv", ".tsv") else ROWS
    assert open_dataset(path).to_list() == rows
    assert open_dataset(str(path), split="validation").to_list() == rows
    assert open_dataset(path, split="train[1:]").to_list() == rows[1:]


@pytest.mark.parametrize("source", [ROWS, COLUMNS, Dataset.from_list(ROWS)])
def test_rows_in_memory_are_a_source(source):
    assert open_dataset(source).to_list() == ROWS


def test_a_missing_key_of_a_row_is_null():
    assert open_dataset([{"a": "x"}, {"b": "y"}])[:] == {"a": ["x", None], "b": [None, "y"]}


def test_globs_and_lists_join_files_in_order(tmp_path):
    paths = [write(tmp_path / f"part{number}.jsonl") for number in range(2)]
    paths[1].write_text(json.dumps({"query": "q", "positive": "p", "score": 0.25}))
    expected = [*ROWS, {"query": "q", "positive": "p", "score": 0.25}]
    assert open_dataset(str(tmp_path / "part*.jsonl")).to_list() == expected
    assert open_dataset([str(path) for path in paths]).to_list() == expected
    assert open_dataset(paths[::-1]).to_list() == expected[3:] + expected[:3]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
def test_a_folder_of_files_has_the_splits_of_their_names(tmp_path, suffix):
    write(tmp_path / f"train{suffix}")
    write(tmp_path / f"test-00000-of-00001{suffix}")
    (tmp_path / "LICENSE").write_text("free")
    rows = TEXTS if suffix in (".csv", ".tsv") else ROWS
    assert open_dataset(tmp_path).to_list() == rows
    assert open_dataset(tmp_path, split="test[:1]").to_list() == rows[:1]
    with pytest.raises(DataError, match=r"validation"):
        open_dataset(tmp_path, split="validation")


def test_no_file_of_a_folder_is_left_out(tmp_path):
    """Where the names of some files say a split, those of the others were read past."""
    write(tmp_path / "cars_train.jsonl")
    write(tmp_path / "boats.jsonl")
    with pytest.raises(DataError, match=r"which split is boats.jsonl of\? cars_train.jsonl is of"):
        open_dataset(tmp_path)
    (tmp_path / "cars_train.jsonl").rename(tmp_path / "cars.jsonl")
    assert len(open_dataset(tmp_path)) == 2 * len(ROWS)
    write(tmp_path / "more.csv")
    with pytest.raises(DataError, match=r"must be of one kind; got .csv, .jsonl"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["set [v1]", "my-test-data", "a*b", "50% ?", "x#1"])
def test_any_name_of_a_folder_or_file_is_taken_as_it_is(tmp_path, name):
    (tmp_path / name).mkdir()
    path = write(tmp_path / name / f"{name}.jsonl".replace("test", "rows"))
    assert open_dataset(tmp_path / name).to_list() == ROWS
    assert open_dataset(path).to_list() == ROWS


def test_hidden_files_and_descriptions_are_no_data(tmp_path):
    write(tmp_path / "rows.json")
    for name in ("config.json", ".rows.json", ".cache/rows.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert open_dataset(tmp_path).to_list() == ROWS


def test_a_readme_says_the_configurations_of_a_folder(tmp_path):
    for name in ("pair", "triplet"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "rows.jsonl")
    lists = "".join(
        f"- config_name: {name}\n  data_files: {name}/*.jsonl\n" for name in ("pair", "triplet")
    )
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\nconfigs:\n{lists}---\nText.\n")
    assert open_dataset(tmp_path, config="pair").to_list() == ROWS
    with pytest.raises(DataError, match="Config name is missing"):
        open_dataset(tmp_path)


def test_folders_of_save_to_disk_are_a_source(tmp_path):
    data = Dataset.from_list(ROWS)
    data.save_to_disk(tmp_path / "one")
    DatasetDict({"train": data, "dev": data.select([2])}).save_to_disk(tmp_path / "two")
    assert open_dataset(tmp_path / "one").to_list() == ROWS
    assert open_dataset(tmp_path / "two", split="dev").to_list() == ROWS[2:]
    with pytest.raises(DataError, match="has the splits train, dev; got 'test'"):
        open_dataset(tmp_path / "two", split="test")


def test_the_embedded_set_has_its_rows():
    train, test = open_dataset("wordnet-gloss"), open_dataset("wordnet-gloss", split="test")
    assert (len(train), len(test)) == (34_032, 4_225)
    assert train.column_names == ["query", "positive", "synset", "lemma", "pos", "negative"]
    assert len(open_dataset("wordnet-gloss", split="train[:100]")) == 100
    with pytest.raises(DataError, match="wordnet-gloss has the splits train, test; got 'dev'"):
        open_dataset("wordnet-gloss", split="dev")


def test_the_embedded_retrieval_task_is_whole():
    corpus, queries, qrels = wordnet_gloss_retrieval()
    assert (len(corpus), len(queries), len(qrels)) == (4_433, 4_225, 4_225)
    assert set(qrels) == set(queries)
    assert {document for found in qrels.values() for document in found} <= set(corpus)
    test = open_dataset("wordnet-gloss", split="test")
    document = next(iter(qrels["q0"]))
    assert (queries["q0"], corpus[document]) == (test[0]["query"], test[0]["positive"])


def test_fewer_queries_keep_the_whole_corpus():
    corpus, queries, qrels = wordnet_gloss_retrieval(limit_queries=10)
    assert (len(corpus), list(queries), list(qrels)) == (4_433, list(qrels), list(queries))
    assert len(queries) == 10


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jsonl", "nowhere.jsonl: there is no such file"),
        ("a/b/c", "a/b/c: there is no such file"),
        ("part*.parquet", r"part\*.parquet: there is no such file"),
        ([], "the data set has no rows"),
        ({"a": []}, "the data set has no rows"),
        (3, "rows must be a list of dicts or a dict of lists; got 3"),
        ([{"a": "x"}, ["y"]], r"row 1 must be a dict; it is \['y'\]"),
        ({"a": ["x"], "b": []}, r"the same length; they have \{'a': 1, 'b': 0\}"),
        (
            {"n": [1, 2, 3], "text": [None, "x", 5]},
            r"column 'text' mixes types: 5 is int \(row 2\), 'x' is str \(row 1\)",
        ),
        (
            [{"text": ["x"]}, {"text": "y"}],
            r"column 'text' mixes types: 'y' is str \(row 1\), \['x'\] is list \(row 0\)",
        ),
        (
            "sentence-transformers/no-such-set",
            "'sentence-transformers/no-such-set' is no file or folder here, and as a data set of "
            "the Hub it cannot be opened: .*no-such-set",
        ),
    ],
)
def test_a_bad_source_is_named(source, message):
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(source)
    assert "\n" not in str(caught.value)


def test_numbers_of_two_kinds_are_no_mixture():
    assert open_dataset({"score": [1, 0.5, None]})["score"][:] == [1.0, 0.5, None]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "rows.json", "rows.arrow"])
def test_a_cut_file_is_named_alone_and_among_others(tmp_path, name):
    whole = write(tmp_path / f"whole-{name}")
    cut = tmp_path / f"cut-{name}"
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    message = f"cut-{name}: cannot be read \\(.+\\)"
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(cut)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=message):
        open_dataset([whole, cut])
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json", ".csv", ".tsv", ".arrow"])
def test_a_file_of_no_bytes_is_named(tmp_path, suffix):
    path = tmp_path / f"empty{suffix}"
    path.touch()
    with pytest.raises(DataError, match=f"empty{suffix}: "):
        open_dataset(path)


def test_a_file_without_rows_is_named(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    (tmp_path / "none.csv").write_text("query,positive\n")
    for name in ("none.parquet", "none.csv"):
        with pytest.raises(DataError, match=f"{name}: .*no rows"):
            open_dataset(tmp_path / name)


def test_a_part_without_rows_is_no_error(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "part0.parquet")
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "part1.parquet")
    assert open_dataset(str(tmp_path / "part*.parquet"))["text"][:] == ["x"]


def test_an_unknown_kind_of_file_is_refused(tmp_path):
    (tmp_path / "rows.txt").write_text("a text")
    with pytest.raises(DataError, match=r"rows.txt: unknown kind of file; known are .parquet"):
        open_dataset(tmp_path / "rows.txt")
    with pytest.raises(DataError, match=r"the folder has no data; known are .parquet"):
        open_dataset(tmp_path)


def test_a_name_that_chains_file_systems_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a::b.jsonl: a name with '::' cannot be opened; rename"):
        open_dataset(write(tmp_path / "a::b.jsonl"))


def test_files_of_two_kinds_are_refused(tmp_path):
    paths = [write(tmp_path / name) for name in ("a.csv", "b.tsv")]
    with pytest.raises(DataError, match=r"must be of one kind; got .csv, .tsv"):
        open_dataset(paths)


def test_files_that_do_not_fit_are_named(tmp_path):
    for name, column in (("a.jsonl", "query"), ("b.jsonl", "question")):
        (tmp_path / name).write_text(json.dumps({column: "x"}))
    with pytest.raises(DataError, match=r"b.jsonl differ: column 'query' is string in a.jsonl"):
        open_dataset([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


def test_a_streamed_data_set_is_refused():
    with pytest.raises(DataError, match="load it without streaming=True"):
        open_dataset(Dataset.from_list(ROWS).to_iterable_dataset())


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize(
    ("encoding", "message"),
    [("utf-16", "it is UTF-16; save"), ("latin-1", r"line 3 is no UTF-8, at b'Caf.*'; save")],
)
def test_a_file_in_another_encoding_is_named(tmp_path, suffix, encoding, message):
    path = tmp_path / f"rows{suffix}"
    between = {".csv": "{},{}\n", ".tsv": "{}\t{}\n", ".jsonl": '{{"query": "{}", "b": "{}"}}\n'}
    lines = [between[suffix].format(*row) for row in (("query", "b"), ("x", "y"), ("Café", "z"))]
    path.write_bytes("".join(lines).encode(encoding))
    if (suffix, encoding) == (".jsonl", "latin-1"):  # which its reader does not see
        assert encoding_of(path) == "line 3 is no UTF-8, at b'Caf\\xe9'; save the file as UTF-8"
        return
    with pytest.raises(
        DataError, match=rf"rows{suffix}: cannot be read \({message} the file as UTF"
    ):
        open_dataset(path)


def test_files_with_other_columns_are_told_apart(tmp_path):
    rows = {"query": ["a"], "positive": ["b"]}
    pq.write_table(pa.table(rows), tmp_path / "0.parquet")
    pq.write_table(pa.table({**rows, "note": ["c"]}), tmp_path / "1.parquet")
    with pytest.raises(DataError, match=r"'note' is missing in 0.parquet and string in 1.parquet;"):
        open_dataset(tmp_path)
    pq.write_table(pa.table({**rows, "note": pa.nulls(1)}), tmp_path / "0.parquet")
    with pytest.raises(DataError, match=r"'note' is null in 0.parquet and string in 1.parquet; wr"):
        open_dataset(tmp_path)


def test_texts_that_look_like_dates_are_texts(tmp_path):
    rows = [
        {"query": "when", "positive": "2020-02-02", "other": ["2020-02-02 10:00:00"], "n": 1},
        {"query": "when", "positive": "2020-02-03", "other": ["2021-02-02"], "n": 2},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert open_dataset(path).to_list() == rows
    path.write_text("".join(json.dumps({"date": row["positive"]}) + "\n" for row in rows))
    assert open_dataset(path)["date"][:] == ["2020-02-02", "2020-02-03"]


def test_columns_between_semicolons_are_told(tmp_path):
    (tmp_path / "rows.csv").write_text("query;positive\na;b\n")
    with pytest.raises(DataError, match=r"its columns are separated by ';'; separate them by ','"):
        open_dataset(tmp_path / "rows.csv")


def test_an_object_around_the_rows_is_told(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": "1.1", "data": ROWS}))
    with pytest.raises(DataError, match=r"rows.json is one object, with rows in 'data'; write the"):
        open_dataset(path)
    path.write_text(json.dumps([{"query": "a", "passages": [{"text": "b"}]}]))
    assert len(open_dataset(path)) == 1
