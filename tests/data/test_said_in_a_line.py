"""What a run says of its data before the first step, and what classes it refuses."""

from pathlib import Path

import pytest

import jaxembed
from jaxembed.data import DataError, bind_columns, data_facts, open_dataset, row_hashes
from jaxembed.objectives import as_sum
from jaxembed.tasks import Networks, open_task

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
WORDS = ("who", "how", "where", "when", "why", "which")


@pytest.fixture(scope="module")
def networks():
    return Networks(jaxembed.load(TINY))


def task(networks, loss, columns, **options):
    options = {"batch_size": 4, **options}
    return open_task(networks, as_sum(loss), open_dataset(columns), **options)


def lines(networks, loss, columns, **options):
    return task(networks, loss, columns, **options).facts().lines()


def test_the_columns_taken_and_hard_negatives_are_said(networks):
    columns = {"query": WORDS, "pos": [[word] for word in WORDS], "neg": [["x"]] * 6, "id": WORDS}
    said = lines(networks, "multiple_negatives_ranking", columns)
    assert said[1] == "anchors = query, positives = pos; not used: neg, id"
    assert "neg: hard negatives, not used; --hard-negatives uses them" in said
    said = lines(networks, "multiple_negatives_ranking", columns, use_negatives=True)
    assert not any("hard negatives" in line for line in said)
    assert not any("hard negatives" in line for line in lines(networks, "sigmoid", columns))


@pytest.mark.parametrize(
    ("answers", "mean"), [(["a"] * 6, 1.0), (["a", "b"] * 3, 2.0), (["a", "b", "c"] * 2, 3.0)]
)
def test_batches_that_shrink_as_answers_repeat_are_said(networks, answers, mean):
    columns = {"query": WORDS, "answer": answers}
    said = lines(networks, "multiple_negatives_ranking", columns, batch_size=6)
    assert any(line.startswith(f"batches have {mean} of 6 rows on average") for line in said)
    plain = lines(networks, "multiple_negatives_ranking", columns, batch_plan="plain")
    assert not any("on average, as" in line for line in plain)
    full = {"query": WORDS, "answer": WORDS}
    assert not any("on average, as" in line for line in lines(networks, "sigmoid", full))


def test_one_distinct_pair_is_said(networks):
    said = lines(networks, "multiple_negatives_ranking", {"query": ["a"] * 6, "answer": ["b"] * 6})
    assert "all rows are the same one, so there is nothing to tell apart" in said


@pytest.mark.parametrize(
    "names", [("who keeps the lighthouse", "an old sailor"), ("Is it so?", "yes"), ("1890", "0.5")]
)
def test_a_header_that_looks_like_a_row_is_said(names):
    rows = bind_columns(open_dataset([dict.fromkeys(names, "x")]), as_sum("sigmoid").roles)
    facts = data_facts(rows, row_hashes(rows), lambda texts, role: [1] * len(texts), dict.fromkeys(
        rows.text_roles, 9))  # fmt: skip
    said = [line for line in facts.lines() if "looks like a row" in line]
    assert len(said) == 1
    assert names[0] in said[0]


def pairs(labels):
    return {"premise": WORDS[: len(labels)], "hypothesis": WORDS[: len(labels)], "label": labels}


def test_words_are_the_classes_of_softmax(networks):
    labels = ["neutral", "entailment", "contradiction", "neutral"]
    opened = task(networks, "softmax", pairs(labels))
    assert opened.objective.leading.settings["num_labels"] == 3
    assert opened.make.rows.labels("labels", range(4)).tolist() == [2, 1, 0, 2]
    said = opened.facts().lines()
    assert "labels: contradiction = 0, entailment = 1, neutral = 2" in said


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, -1, 2], "row 2 has -1; .* drop these rows with --drop-label -1"),
        ([0.0, 1.0, -1.0, 2.0], "row 2 has -1; .* drop these rows with --drop-label -1"),
        (
            [0, 10**9],
            "a classifier of 1,000,000,001 classes; the data has 2 labels, from",
        ),
        ([5, 2_000_000, 7], "a classifier of 2,000,001 classes; the data has 3 labels"),
    ],
)
def test_classes_that_softmax_cannot_have_are_refused_with_a_remedy(networks, labels, message):
    with pytest.raises(DataError, match=message):
        task(networks, "softmax", pairs(labels))


def test_dropped_labels_are_counted(networks):
    opened = task(networks, "softmax", pairs([0, -1, 1, -1, 2, 0]), drop_labels=("-1",))
    assert opened.size == 4
    assert opened.facts().lines()[0] == "4 rows; 2 dropped: with the label -1"
