"""A column plays a role by its name or because there is no other; else the data is refused."""

import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from jaxembed.data import DataError, bind_columns, open_dataset
from jaxembed.objectives import REGISTRY
from jaxembed.typing import Roles

RANKED = Roles(("anchors", "positives"), negatives=True, ids=True)
SCORED = Roles(("left", "right"), {"scores": float})
CLASSIFIED = Roles(("left", "right"), {"labels": int})
PASSAGES = [{"docid": "d", "title": "Cat", "text": "an animal"}]
UNTITLED = [{"docid": "e", "title": "", "text": "a ship"}, {"docid": "f", "text": "a mill"}]
BESIDE = {"prompt": "Represent this", "type": "retrieval", "pos_scores": [0.5], "id": 7}


def bound(row, roles, columns=None, **options):
    return bind_columns(Dataset.from_list([row, row]), roles, columns, **options)


@pytest.mark.parametrize(
    ("row", "roles", "taken"),
    [
        ({"query": "a", "pos": ["b"], "neg": ["c"], **BESIDE}, RANKED,
         "anchors = query, positives = pos; not used: neg, prompt, type, pos_scores, id"),
        ({"query_id": "1", "query": "a", "positive_passages": PASSAGES, "negative_passages": []},
         RANKED, "anchors = query, positives = positive_passages; "
         "not used: query_id, negative_passages"),
        ({"question": "a", "answer": "b", "id": "x", "url": "y"}, RANKED,
         "anchors = question, positives = answer; not used: id, url"),
        ({"sentence_A": "a", "sentence_B": "b", "relatedness_score": 1.5, "pair_ID": 3}, SCORED,
         "left = sentence_A, right = sentence_B, scores = relatedness_score; not used: pair_ID"),
        ({"id": 3, "sentence1": "a", "sentence2": "b", "label": 2}, CLASSIFIED,
         "left = sentence1, right = sentence2, labels = label; not used: id"),
        ({"premise": "a", "hypothesis": "b", "label": 0.5, "idx": 4}, SCORED,
         "left = premise, right = hypothesis, scores = label; not used: idx"),
        ({"title": "a", "abstract": "b"}, RANKED, "anchors = title, positives = abstract"),
        ({"grade": 1.0, "en": "a", "fr": "b"}, SCORED, "left = en, right = fr, scores = grade"),
        ({"text": "a", "label": 1, "label_text": "up"}, REGISTRY["batch_all_triplet"].roles,
         "texts = text, labels = label; not used: label_text"),
        ({"Query": "a", "Answer": "b", "n": 2}, RANKED,
         "anchors = Query, positives = Answer; not used: n"),
    ],
)  # fmt: skip
def test_names_bind_and_the_others_are_named(row, roles, taken):
    assert bound(row, roles).taken == taken


@pytest.mark.parametrize(
    ("row", "roles", "message"),
    [
        # What is left over is no text, score or class of the loss
        ({"query_id": "q", "query": "a", "passages": [{"n": 1}]}, RANKED,
         "which column holds the positives? it could be query_id; name it with --columns posi"),
        ({"query": "a", "reply": ["b"], "type": "retrieval"}, RANKED, "could be reply, type;"),
        ({"id": "5f", "question": "a", "answers": {"text": ["b"], "start": [0]}}, RANKED,
         "which column holds the positives? it could be id;"),
        ({"question": "a", "id": "5f"}, RANKED, "holds the positives? it could be id;"),
        ({"sentence1": "a", "sentence2": "b", "idx": 7}, SCORED, "the scores? it could be idx;"),
        ({"sentence1": "a", "sentence2": "b", "year": 7, "grade": 2.0}, SCORED, "year, grade;"),
        ({"sentence1": "a", "sentence2": "b", "pairID": 7}, CLASSIFIED, "could be pairID;"),
        ({"text": "a", "url": "b", "lang": "en"}, RANKED, "holds the anchors? it could be text, u"),
        # Two could be meant
        ({"sentence_A": "a", "sentence_B": "b", "label": 0, "relatedness_score": 1.0}, SCORED,
         "which column holds the scores? it could be label, relatedness_score;"),
        ({"premise": "a", "hypothesis": "b", "label": 0, "rating": 1.5}, SCORED, "label, rating;"),
        ({"question": "a", "context": "b", "answer": "c"}, RANKED, "could be context, answer;"),
        ({"question": "a", "premise": "b", "positive": "c"}, RANKED, "be question, premise;"),
        ({"text": "a", "gold_label": 1, "class": 2}, Roles(("texts",), {"labels": int}),
         "which column holds the labels? it could be gold_label, class;"),
    ],
)  # fmt: skip
def test_what_no_name_decides_is_refused_with_the_columns_that_could_be_meant(row, roles, message):
    with pytest.raises(DataError) as error:
        bound(row, roles)
    assert message in str(error.value)
    assert "--columns" in str(error.value)


def test_the_role_s_own_name_comes_before_well_known_ones():
    rows = bound({"query": "a", "positive": "b", "pos": "noun", "answer": "c"}, RANKED)
    assert rows.taken == "anchors = query, positives = positive; not used: pos, answer"


def test_lists_of_texts_and_passages_give_their_texts():
    rows = bound({"query": "a", "pos": ["b", "c"], "neg": ["d"], **BESIDE}, RANKED,
                 use_negatives=True)  # fmt: skip
    assert rows.texts("positives", range(4)) == ["b", "c", "b", "c"]
    assert rows.negatives(range(1)) == [["d"]]
    rows = bound(
        {"query": "a", "positive_passages": PASSAGES, "negative_passages": UNTITLED},
        RANKED,
        use_negatives=True,
    )
    assert rows.texts("positives", range(1)) == ["Cat an animal"]
    assert rows.negatives(range(2)) == [["a ship", "a mill"]] * 2


def test_hard_negatives_that_are_not_used_are_known():
    row = {"query": "a", "positive": "b", "negative": "c", "neg_2": "d", "page": "e"}
    assert bound(row, RANKED).spare == ("negative", "neg_2")
    assert bound(row, RANKED, use_negatives=True).spare == ()
    assert bound({**row, "score": 1.0}, SCORED, "query,positive,score").spare == ()


@pytest.mark.parametrize("values", [[True, False], [1.0, 0.0], [1, 0], ["1", "0"], ["True", "no"]])
@pytest.mark.parametrize("kind", [int, float])
def test_whole_labels_are_labels_whatever_their_type(values, kind):
    roles = Roles(("left", "right"), {"labels": kind})
    data = Dataset.from_dict({"left": ["a", "b"], "right": ["c", "d"], "label": values})
    if values[1] == "no" and kind is float:
        with pytest.raises(DataError, match=r"float is needed for 'labels'.*'no' \(row 1\)"):
            bind_columns(data, roles)
        return
    rows = bind_columns(data, roles)
    expected = [0, 1] if values[1] == "no" else [1, 0]
    assert rows.labels("labels", range(2)).tolist() == expected
    assert rows.labels("labels", range(2)).dtype == (np.int32 if kind is int else np.float32)


def test_words_are_classes_in_their_order():
    data = {"left": ["a"] * 4, "right": ["b"] * 4, "gold_label": ["up", "down", "up", "level"]}
    rows = bind_columns(Dataset.from_dict(data), CLASSIFIED)
    assert rows.words == {"labels": ("down", "level", "up")}
    assert rows.labels("labels", np.array([0, 1, 3])).tolist() == [2, 0, 1]
    kinds = Features(text=Value("string"), label=ClassLabel(names=["up", "down"]))
    named = Dataset.from_dict({"text": ["a"], "label": ["up"]}, features=kinds)
    assert bind_columns(named, Roles(("texts",), {"labels": int})).words["labels"] == ("up", "down")


@pytest.mark.parametrize(
    ("labels", "drop", "left", "words"),
    [
        ([0, -1, 2, -1], ["-1"], [0, 2], {}),
        ([0.0, -1.0, 2.0, 1.0], ["-1", "2"], [0, 1], {}),
        (["yes", "-", "no", "-"], ["-"], [1, 0], {"labels": ("no", "yes")}),
    ],
)
def test_rows_of_a_label_are_dropped_and_counted(labels, drop, left, words):
    data = Dataset.from_dict({"left": list("abcd"), "right": list("abcd"), "label": labels})
    rows = bind_columns(data, CLASSIFIED, drop_labels=drop)
    assert rows.labels("labels", range(2)).tolist() == left
    assert rows.dropped == {f"with the label {' or '.join(drop)}": 2}
    assert rows.words == words
    assert bind_columns(data, CLASSIFIED, drop_labels=["9"]).dropped == {"with the label 9": 0}
    with pytest.raises(DataError, match="every row has one of the labels"):
        bind_columns(data, CLASSIFIED, drop_labels=sorted({str(label) for label in labels}))
    with pytest.raises(DataError, match="no labels of which"):
        bind_columns(data, RANKED, "left,right", drop_labels=["9"])


@pytest.mark.parametrize("empty", [[], None])
def test_negatives_that_no_row_has_are_told(tmp_path, empty):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"query": "a", "pos": ["b"], "neg": empty}) + "\n")
    roles = Roles(("anchors", "positives"), negatives=True)
    assert bind_columns(open_dataset(file), roles).max_negatives == 0
    with pytest.raises(DataError, match="neg has no negatives in any row; leave the negatives"):
        bind_columns(open_dataset(file), roles, "query,pos,neg")


def test_a_null_among_the_texts_of_a_row_is_named_by_that_row():
    rows = {"query": ["a", "b", "c"], "pos": [["d", "e"], ["f", "g"], ["h", None]]}
    with pytest.raises(DataError, match=r"column 'pos' has nothing \(null\) in the list of row 2;"):
        bind_columns(Dataset.from_dict(rows), Roles(("anchors", "positives")), "query,pos")
    kept = bind_columns(
        Dataset.from_dict(rows),
        Roles(("anchors", "positives")),
        "query,pos",
        drop_incomplete=True,
    )
    assert kept.texts("positives", range(len(kept))) == ["d", "e", "f", "g", "h"]
