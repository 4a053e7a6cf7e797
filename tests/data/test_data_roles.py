"""Roles beyond pairs: optional labels, tied and further texts, noise, tokens of other networks."""

import numpy as np
import pytest
from datasets import Dataset

from jaxembed.data import DataError, bind_columns, make_batch
from jaxembed.typing import Roles

TENSION = Roles(("first", "second"), ids=True, same_as={"second": "first"})
DENOISING = Roles(
    ("damaged", "original"), same_as={"damaged": "original"}, noisy=frozenset({"damaged"})
)
DISTILLED = Roles(
    ("texts",), {"teacher": float}, optional=frozenset({"teacher"}), several=True, ids=True
)
MARGINS = Roles(
    ("queries", "positives"),
    {"margins": float, "scores": float},
    negatives=True,
    needs_negatives=True,
    optional=frozenset({"margins", "scores"}),
)


def data(**columns):
    return Dataset.from_dict(columns)


def tokenize(texts, role):
    return {"input_ids": np.array([[len(role), len(text)] for text in texts])}


def lengths(tokens):
    return tokens["input_ids"][..., 1].tolist()


def test_optional_labels_are_taken_by_their_own_names_alone():
    texts = {"query": ["x"], "positive": ["y"], "negative": ["z"]}
    assert bind_columns(data(**texts, label=[0.5]), MARGINS).label_types == {}
    assert bind_columns(data(**texts, margin=[0.5]), MARGINS).label_types == {"margins": float}
    both = data(**texts, margin=[0.5], other=[[1.0, 2.0]])
    rows = bind_columns(both, MARGINS, "queries=query,positive,negative,scores=other")
    assert rows.label_types == {"scores": float}  # the one that is named, no other by its name
    assert bind_columns(both, MARGINS, find_optional=False).label_types == {}


def test_needed_negatives_are_found_or_asked_for():
    rows = bind_columns(data(query=["x"], positive=["y"], negative=["z"]), MARGINS)
    assert rows.negatives(range(1)) == [["z"]]
    with pytest.raises(DataError, match=r"no negatives to use: .*; say which they are with"):
        bind_columns(data(query=["x"], positive=["y"], third=["z"]), MARGINS, "query,positive")


def test_a_tied_role_reads_the_other_roles_column_where_it_has_none():
    rows = bind_columns(data(sentence=["x", "y"]), TENSION)
    assert rows.text_columns == ("sentence", "sentence")
    own = bind_columns(data(sentence=["x"], second=["y"]), TENSION)
    assert own.text_columns == ("sentence", "second")
    named = bind_columns(data(a=["x"], b=["y"], c=["z"]), TENSION, "second=b,first=a")
    assert named.text_columns == ("a", "b")


def test_pairs_of_rows_read_each_text_from_its_own_row():
    rows = bind_columns(data(text=["a", "bb", "ccc"]), TENSION)
    batch = make_batch(rows, TENSION, np.array([[2, 2], [0, 1], [-1, -1]]), tokenize)
    assert lengths(batch["first"]) == [3, 1, 3]
    assert lengths(batch["second"]) == [3, 2, 3]
    assert batch["where"].tolist() == [True, True, False]
    same = (batch["ids"] == batch["anchor_ids"]).all(axis=1)
    assert same.tolist() == [True, False, True]


def test_noise_damages_the_copy_and_leaves_the_original():
    rows = bind_columns(data(text=["aaaa", "bb", "c"]), DENOISING)
    damage = lambda texts, rows: [text + "!" * row for text, row in zip(texts, rows, strict=True)]  # noqa: E731
    batch = make_batch(rows, DENOISING, np.array([2, 0]), tokenize, damage=damage)
    assert lengths(batch["damaged"]) == [1 + 2, 4]
    assert lengths(batch["original"]) == [1, 4]


def test_a_damaged_column_of_the_data_is_taken_as_it_is():
    rows = bind_columns(data(damaged=["a", "b"], text=["aaaa", "bb"]), DENOISING)
    assert rows.noisy == frozenset()
    wrong = lambda texts, rows: pytest.fail("damaged twice")  # noqa: E731
    batch = make_batch(rows, DENOISING, np.array([0, 1]), tokenize, damage=wrong)
    assert lengths(batch["damaged"]) == [1, 1]


def test_several_texts_are_numbered():
    rows = bind_columns(data(en=["x"], de=["yy"], fr=["zzz"], v=[[1.0, 2.0]]), DISTILLED,
                        "en,de,fr,teacher=v")  # fmt: skip
    assert rows.text_roles == ("texts", "texts_2", "texts_3")
    batch = make_batch(rows, DISTILLED, np.array([0]), tokenize)
    assert [lengths(batch[role]) for role in rows.text_roles] == [[1], [2], [3]]
    np.testing.assert_array_equal(batch["teacher"], [[1, 2]])


def test_lists_of_lists_are_labels_of_three_axes():
    roles = Roles(("texts",), {"vectors": float})
    vectors = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]
    rows = bind_columns(data(text=["x", "y"], vectors=vectors), roles)
    np.testing.assert_array_equal(rows.labels("vectors", np.array([1])), [vectors[1]])
    ragged = data(text=["x", "y"], vectors=[[[1.0], [2.0]], [[3.0]]])
    with pytest.raises(DataError, match=r"lists of one length; it has \[1, 2\]"):
        bind_columns(ragged, roles)
    with pytest.raises(DataError, match="'vectors' must hold texts for 'texts'"):
        bind_columns(data(vectors=vectors), Roles(("texts",)), "vectors")


def test_other_networks_have_tokens_of_their_own():
    rows = bind_columns(data(query=["x"], positive=["yy"], negative=["zzz"]), MARGINS)
    networks = {"teacher": ("queries", "negatives")}
    batch = make_batch(rows, MARGINS, np.array([0]), tokenize, networks=networks)
    assert {name for name in batch if name.startswith("teacher")} == {
        "teacher_queries",
        "teacher_negatives",
    }
    assert batch["teacher_queries"]["input_ids"].tolist() == [[len("teacher_queries"), 1]]
    assert batch["teacher_negatives"]["input_ids"].tolist() == [[[len("teacher_negatives"), 3]]]
