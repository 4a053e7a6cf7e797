"""Rows with lists of positives, rows that lack something, and what is said of the data."""

import numpy as np
import pytest
from datasets import Dataset

from jaxembed.data import DataError, bind_columns, make_batch, row_hashes
from jaxembed.data.facts import data_facts
from jaxembed.typing import Roles

ROLES = Roles(("anchors", "positives"), negatives=True, ids=True)
SCORED = Roles(("left", "right"), {"scores": float})


def lengths(texts, role):
    return {"length": np.array([[len(text)] for text in texts])}


def test_each_of_several_positives_makes_a_row_with_the_negatives_of_its_query():
    data = Dataset.from_dict(
        {
            "query": ["q0", "q1", "q2"],
            "positive": [["a", "bb"], [], ["c"]],
            "negative": [["x"], ["y"], ["z", "zz"]],
        }
    )
    rows = bind_columns(data, ROLES, use_negatives=True)
    everything = range(len(rows))
    assert rows.texts("anchors", everything) == ["q0", "q0", "q2"]
    assert rows.texts("positives", everything) == ["a", "bb", "c"]
    assert rows.negatives(everything) == [["x"], ["x"], ["z", "zz"]]
    assert rows.dropped == {"with no text in positive": 1}
    batch = make_batch(rows, ROLES, np.array([1, 2, -1]), lengths)
    assert batch["positives"]["length"].T.tolist() == [[2, 1, 2]]
    assert (batch["anchor_ids"][0] != batch["anchor_ids"][1]).any()


def test_two_columns_of_lists_are_refused():
    data = Dataset.from_dict({"query": [["a"]], "positive": [["b"]]})
    with pytest.raises(DataError, match="only one column of texts may have lists; query and pos"):
        bind_columns(data, ROLES)


def test_a_null_in_a_list_of_positives_is_named():
    data = Dataset.from_dict({"query": ["a", "b"], "positive": [["x"], ["y", None]]})
    with pytest.raises(DataError, match=r"'positive' has nothing \(null\) in the list of row 1;"):
        bind_columns(data, ROLES)


@pytest.fixture
def gaps():
    return Dataset.from_dict(
        {
            "left": ["a", None, "c", " \t", "e"],
            "right": ["f", "g", "", "i", "j"],
            "score": [0.5, 0.5, 0.5, 0.5, None],
        }
    )


def test_incomplete_rows_are_refused_or_dropped_and_counted(gaps):
    with pytest.raises(DataError, match=r"column 'left' has nothing \(null\) in row 1"):
        bind_columns(gaps, SCORED)
    rows = bind_columns(gaps, SCORED, drop_incomplete=True)
    assert rows.texts("left", range(len(rows))) == ["a"]
    assert rows.labels("scores", range(1)).tolist() == [0.5]
    assert rows.dropped == {"without a text or label that it needs": 4}


def test_complete_rows_all_stay(gaps):
    whole = gaps.select([0])
    rows = bind_columns(whole, SCORED, drop_incomplete=True)
    assert len(rows) == 1
    assert not rows.dropped


def test_no_complete_row_is_an_error(gaps):
    with pytest.raises(DataError, match="every row is without a text or label"):
        bind_columns(gaps.select([1, 2]), SCORED, drop_incomplete=True)


def test_what_is_said_of_the_data():
    data = Dataset.from_dict(
        {"left": ["one two", "", "one two", "x " * 9], "right": ["a", "b", "a", "c"]}
    )
    rows = bind_columns(data, Roles(("left", "right")))
    facts = data_facts(
        rows,
        row_hashes(rows),
        lambda texts, role: [min(len(text.split()), 8) for text in texts],
        {"left": 8, "right": 8},
    )
    assert facts.empty["left"] == (1, "row 1: ''")
    assert facts.duplicates == (1, "row 2: 'one two' | 'a'")
    assert facts.over_long["left"][0] == 0.25
    assert facts.tokens["left"] == {"mean": 3.0, "p95": pytest.approx(7.1), "longest": 8.0}
    said = "\n".join(facts.lines())
    assert said.startswith("4 rows\n")
    for line in (
        "1 of left are empty (row 1: '')",
        "1 rows repeat another one (row 2: 'one two' | 'a')",
        "25.0% of left reach 8 tokens and are cut (row 3: 'x x",
    ):
        assert line in said
