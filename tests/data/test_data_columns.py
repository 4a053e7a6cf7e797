"""Columns find their roles, and a value that its role cannot use is named with its row."""

import math
import pickle

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value, load_dataset

from jaxembed.data import DataError, bind_columns, open_dataset
from jaxembed.data.rows import CHUNK
from jaxembed.typing import Roles

RANKED = Roles(("anchors", "positives"), negatives=True, ids=True)
SCORED = Roles(("left", "right"), {"scores": float})
LABELED = Roles(("embeddings",), {"labels": int})
DISTILLED = Roles(("anchors", "positives"), {"scores": float}, negatives=True)


def data(**columns):
    return Dataset.from_dict(columns)


def texts(*names):
    return data(**{name: [f"{name} 0", f"{name} 1"] for name in names})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["query", "positive", "synset", "negative"], ("query", "positive")),
        (["positive", "id", "anchor"], ("anchor", "positive")),
        (["title", "premise", "hypothesis"], ("premise", "hypothesis")),
        (["left", "right"], ("left", "right")),  # by position: no name is known, no choice
        (["foo", "query"], ("query", "foo")),  # one by name, the other is what is left
        (["foo", "negative", "query"], ("query", "foo")),
        (["anchors", "query", "positives", "positive"], ("anchors", "positives")),  # own names
    ],
)
def test_texts_are_found_by_name_then_by_what_is_left(names, expected):
    rows = bind_columns(texts(*names), RANKED)
    assert rows.text_columns == expected
    assert rows.texts("anchors", np.array([1, 0])) == [f"{expected[0]} 1", f"{expected[0]} 0"]
    assert rows.texts("positives", range(1, 2)) == [f"{expected[1]} 1"]
    assert rows.max_negatives == 0
    assert len(rows) == 2


@pytest.mark.parametrize(
    "columns",
    [
        "b,a,d,c",
        "b, a, d, c",
        ["b", "a", "d", "c"],
        ["positives=a", "negatives=d", "negatives=c", "anchors=b"],
        {"anchors": "b", "positives": "a", "negatives": ["d", "c"]},
    ],
)
def test_columns_are_named_in_every_form(columns):
    rows = bind_columns(texts("a", "b", "c", "d", "e"), RANKED, columns)
    assert rows.text_columns == ("b", "a", "d", "c")
    assert rows.negatives(np.array([1])) == [["d 1", "c 1"]]


def test_labels_and_negatives_come_in_any_order_after_the_texts():
    dataset = data(a=["x"], b=["y"], c=["z"], n=[0.5])
    for columns in ("a,b,c,n", "a,b,n,c"):
        rows = bind_columns(dataset, DISTILLED, columns)
        assert rows.text_columns == ("a", "b", "c")
        assert rows.labels("scores", range(1)) == [0.5]


def test_what_is_not_named_is_found():
    dataset = data(query=["x"], reply=["y"], other=["z"], score=[1])
    rows = bind_columns(dataset, SCORED, "right=reply")
    assert rows.text_columns == ("query", "reply")


def test_one_column_may_have_two_roles():
    rows = bind_columns(texts("text", "other"), RANKED, "text,text")
    assert rows.text_columns == ("text", "text")


@pytest.mark.parametrize("name", ["scores", "score", "similarity", "label", "anything"])
def test_labels_are_found_by_name_or_as_the_only_column_without_text(name):
    rows = bind_columns(data(a=["x", "y"], b=["x", "y"], **{name: [1, 0.25]}), SCORED)
    labels = rows.labels("scores", np.array([1, 0, 1]))
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, [0.25, 1, 0.25])


def test_a_known_label_comes_before_others():
    dataset = data(text=["x"], year=[1999], label=[3])
    assert bind_columns(dataset, LABELED).labels("labels", range(1)) == [3]


def test_labels_are_int32_of_integers_booleans_and_class_labels():
    kinds = Features(text=Value("string"), label=ClassLabel(names=["no", "yes"]))
    classes = Dataset.from_dict({"text": ["x", "y"], "label": ["yes", "no"]}, features=kinds)
    for dataset in (classes, data(text=["x", "y"], label=[True, False])):
        labels = bind_columns(dataset, LABELED).labels("labels", range(2))
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, [1, 0])


def test_lists_of_numbers_are_labels_with_a_width():
    dataset = data(a=["x", "y"], b=["x", "y"], score=[[1.0, 2.0], [3.0, 4.0]])
    rows = bind_columns(dataset, SCORED)
    np.testing.assert_array_equal(rows.labels("scores", np.array([1])), [[3, 4]])


def test_negatives_are_taken_only_when_asked_for():
    dataset = texts("query", "positive", "negative_1", "negative_2", "hard_negative")
    assert bind_columns(dataset, RANKED).max_negatives == 0
    assert bind_columns(dataset, RANKED, "query,positive,negative_2").max_negatives == 1
    rows = bind_columns(dataset, RANKED, use_negatives=True)
    assert rows.text_columns[2:] == ("negative_1", "negative_2", "hard_negative")
    assert rows.max_negatives == 3


def test_negatives_are_ragged_columns_or_lists_or_both():
    dataset = data(
        query=["q"] * 4,
        positive=["p"] * 4,
        negative=["a", None, "b", None],
        negatives=[["c", "d"], [], None, ["e", None, "f"]],
    )
    rows = bind_columns(dataset, RANKED, use_negatives=True)
    assert rows.max_negatives == 4
    assert rows.negatives(range(4)) == [["a", "c", "d"], [], ["b"], ["e", "f"]]
    assert rows.negatives(np.array([3, 2])) == [["e", "f"], ["b"]]


def test_rows_follow_a_shuffled_and_filtered_data_set():
    dataset = data(query=["a", "b", None, "d"], positive=["e", "f", "g", "h"])
    rows = bind_columns(dataset.select([3, 0]), RANKED)
    assert len(rows) == 2
    assert rows.texts("positives", np.array([0, 1, 0])) == ["h", "e", "h"]


def test_rows_travel_to_another_process(tmp_path):
    Dataset.from_dict({"query": ["a" * 1000] * 1000, "positive": ["b"] * 1000}).to_parquet(
        tmp_path / "rows.parquet"
    )
    dataset = load_dataset(
        "parquet",
        data_files=str(tmp_path / "rows.parquet"),
        split="train",
        cache_dir=str(tmp_path),
    )
    pickled = pickle.dumps(bind_columns(dataset, RANKED))
    assert len(pickled) < 10_000  # the path, not the texts
    assert pickle.loads(pickled).texts("positives", range(1)) == ["b"]


@pytest.mark.parametrize(
    ("columns", "roles", "asked", "message"),
    [
        (
            {"a": ["x"], "b": ["y"]},
            RANKED,
            "a,c",
            "there is no column 'c'; the columns are a, b",
        ),
        (
            {"a": ["x"], "b": ["y"], "c": ["z"]},
            RANKED,
            None,
            r"holds the anchors\? it could be a, b, c; name it with --columns anchors=…; the",
        ),
        (
            {"query": ["x"]},
            RANKED,
            None,
            "which column holds the positives\\?",
        ),
        (
            {"a": ["x"], "b": ["y"], "c": ["z"], "score": [1]},
            SCORED,
            "a,b,score,c",
            "no place for column 'c'; the places are left, right, scores",
        ),
        (
            {"a": ["x"], "b": ["y"]},
            RANKED,
            "question=a,b",
            "no place for column 'a'; the places are anchors, positives, negatives",
        ),
        (
            {"a": ["x"], "b": ["y"]},
            RANKED,
            "anchors=a,anchors=b",
            "no place for column 'b'; the places are anchors, positives, negatives",
        ),
        (
            {"a": ["x"], "b": ["y"]},
            SCORED,
            None,
            r"holds the scores\? none could be by its type; name it with --columns scores=…",
        ),
        (
            {"a": ["x"], "b": ["y"], "year": [1], "page": [2]},
            SCORED,
            None,
            "which column holds the scores\\?",
        ),
        (
            {"a": ["x"], "b": ["y"], "label": ["yes"]},
            SCORED,
            None,
            r"a column of float is needed for 'scores'; column 'label' is none: "
            r"it holds str such as 'yes' \(row 0\)",
        ),
        (
            {"text": ["x"], "label": [0.5]},
            LABELED,
            None,
            r"a column of int is needed for 'labels'; column 'label' is none: "
            r"it holds float such as 0.5 \(row 0\)",
        ),
        (
            {"query": ["x", "y"], "positive": [3, 4]},
            RANKED,
            None,
            r"column 'positive' must hold texts for 'positives'; it holds int such as 3 \(row 0\)",
        ),
        (
            {"query": ["x", "y"], "positive": [[["a"]], [["b"]]]},
            RANKED,
            None,
            r"column 'positive' must hold texts for 'positives'; it holds list such as \[\['a'\]\]",
        ),
        (
            {"query": ["x", "y"], "positive": [None, None]},
            RANKED,
            None,
            r"it holds NoneType such as None \(row 0\)",
        ),
        (
            {"query": ["x", "y", None], "positive": ["a", "b", "c"]},
            RANKED,
            None,
            r"column 'query' has nothing \(null\) in row 2; 'anchors' needs a value",
        ),
        (
            {"a": ["x", "y"], "b": ["x", "y"], "score": [1.0, None]},
            SCORED,
            None,
            r"column 'score' has nothing \(null\) in row 1; 'scores' needs a value",
        ),
        (
            {"a": ["x", "y"], "b": ["x", "y"], "score": [1.0, math.nan]},
            SCORED,
            None,
            "column 'score' has nan in row 1; 'scores' must be finite and fit into 32 bits",
        ),
        (
            {"a": ["x", "y"], "b": ["x", "y"], "score": [1e300, 0.0]},
            SCORED,
            None,
            r"column 'score' has 1e\+300 in row 0",
        ),
        (
            {"a": ["x", "y"], "b": ["x", "y"], "score": [[1.0, 2.0], [3.0, -math.inf]]},
            SCORED,
            None,
            "column 'score' has -inf in row 1",
        ),
        (
            {"a": ["x", "y"], "b": ["x", "y"], "score": [[1.0, 2.0], [3.0, None]]},
            SCORED,
            None,
            "column 'score' has nan in row 1",
        ),
        (
            {"a": ["x", "y"], "b": ["x", "y"], "score": [[1.0, 2.0], [3.0]]},
            SCORED,
            None,
            r"column 'score' must have lists of one length; it has \[1, 2\]",
        ),
        (
            {"text": ["x", "y"], "label": [0, 2**31]},
            LABELED,
            None,
            "column 'label' has 2147483648 in row 1",
        ),
        (
            {"query": ["x"], "positive": ["y"], "c": [3]},
            RANKED,
            "query,positive,c",
            r"column 'c' must hold texts for 'negatives'; it holds int such as 3 \(row 0\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(columns, roles, asked, message):
    with pytest.raises(DataError, match=message) as caught:
        bind_columns(data(**columns), roles, asked)
    assert "\n" not in str(caught.value)


def test_negatives_that_are_not_there_or_not_wanted_are_refused():
    with pytest.raises(DataError, match="no negatives to use: the columns are query, positive"):
        bind_columns(texts("query", "positive"), RANKED, use_negatives=True)
    scored = texts("query", "positive", "negative").add_column("score", [1.0, 0.0])  # pyright: ignore[reportCallIssue]
    with pytest.raises(DataError, match="no negatives to use: the objective takes none"):
        bind_columns(scored, SCORED, use_negatives=True)


def test_a_bad_value_far_down_is_found_at_its_row():
    n = CHUNK + 7
    columns = {"a": ["x"] * n, "b": ["y"] * n, "score": [0.5] * n}
    columns["b"][n - 2] = None
    with pytest.raises(DataError, match=rf"column 'b' has nothing \(null\) in row {n - 2};"):
        bind_columns(data(**columns), SCORED)
    columns["b"][n - 2], columns["score"][n - 3] = "y", math.inf
    with pytest.raises(DataError, match=rf"column 'score' has inf in row {n - 3};"):
        bind_columns(data(**columns), SCORED)


def test_mixed_types_of_a_json_file_are_found_at_their_row(tmp_path):
    path = tmp_path / "mixed.jsonl"
    path.write_text('{"query": "x", "positive": "y"}\n{"query": "x", "positive": 7}\n')
    dataset = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path))
    with pytest.raises(DataError, match=r"column 'positive' .* it holds int such as 7 \(row 1\)"):
        bind_columns(dataset, RANKED)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ('{"anchor": "%s", "positive": "b", "negative": "c"}', "anchor"),
        ('{"anchor": "a", "positive": "b", "negative": "%s"}', "negative"),
        ('{"anchor": "a", "positive": "b", "negative": ["c", "%s"]}', "negative"),
    ],
)
def test_texts_that_are_no_utf8_are_refused_by_row(tmp_path, row, name):
    """JSON lines of another encoding are read, and ended a run in the step that met them."""
    file = tmp_path / "latin.jsonl"
    file.write_bytes((row % "d").encode() + b"\n" + (row % "café").encode("latin-1"))
    with pytest.raises(DataError, match=f"column '{name}', row 1, is no UTF-8 .*as UTF-8"):
        bind_columns(open_dataset(file), RANKED, use_negatives=True)
