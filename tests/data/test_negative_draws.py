"""Negatives are drawn as a function of seed, step and row alone."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import jaxembed
from jaxembed.data import DataError, Shards, Stream, draw_negatives, open_dataset
from jaxembed.objectives import as_sum
from jaxembed.tasks import Networks, open_task

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"
LISTS = [[f"{row} {place}" for place in range(5)] for row in range(4)]
ROWS = {"query": list("abcd"), "pos": list("efgh"), "neg": LISTS}


def test_draws_depend_on_the_row_not_on_its_place_in_the_batch():
    drawn = draw_negatives(LISTS, np.arange(4), k=2, seed=3, step=7)
    turned = draw_negatives(LISTS[::-1], np.arange(4)[::-1], k=2, seed=3, step=7)
    assert drawn == turned[::-1]
    assert draw_negatives(LISTS[2:3], np.array([2]), k=2, seed=3, step=7) == drawn[2:3]
    assert all(len(set(texts)) == 2 and set(texts) <= set(all_) for texts, all_ in
               zip(drawn, LISTS, strict=True))  # fmt: skip


def test_every_negative_is_drawn_equally_often():
    steps = (
        draw_negatives(LISTS[:1], np.array([5]), k=2, seed=0, step=step) for step in range(500)
    )
    counts = Counter(text for (texts,) in steps for text in texts)
    assert len(counts) == 5
    assert all(abs(count - 200) < 45 for count in counts.values())  # 4 standard deviations


def test_rows_with_fewer_negatives_have_all_of_them():
    assert draw_negatives([["a"], []], np.array([0, 1]), k=3, seed=0, step=0) == [["a"], []]


def opened(data, **options):
    networks = Networks(jaxembed.load(TINY))
    loss = as_sum("multiple_negatives_ranking")
    options = {"use_negatives": True, "batch_size": 4, "batch_plan": "plain", **options}
    return open_task(networks, loss, data, **options)


@pytest.mark.parametrize("streamed", [False, True])
def test_batches_have_other_negatives_in_each_step_and_the_same_when_resumed(tmp_path, streamed):
    path = tmp_path / "rows.parquet"
    open_dataset(ROWS).to_parquet(path)
    data = Stream(path) if streamed else open_dataset(path)
    said = opened(data, negatives_per_row=2).facts().lines()
    assert "2 of up to 5 negatives of a row are drawn in each step" in said
    make, again = (opened(data, negatives_per_row=2).make for _ in range(2))
    first, second = make(0), make(1)
    assert first["negatives"]["input_ids"].shape[:2] == first["negative_ids"].shape[:2] == (4, 2)
    by_row = [dict(zip(map(bytes, x["anchor_ids"]), map(bytes, x["negative_ids"]), strict=True))
              for x in (first, second)]  # fmt: skip
    assert by_row[0].keys() == by_row[1].keys()
    assert by_row[0] != by_row[1]
    np.testing.assert_array_equal(again(1)["negative_ids"], second["negative_ids"])
    host = opened(data, negatives_per_row=2, shards=Shards((1,), 2)).make(1)
    np.testing.assert_array_equal(host["negative_ids"], second["negative_ids"][2:])


def test_draws_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="negatives_per_row is 6, and rows have up to 5 negatives"):
        opened(open_dataset(ROWS), negatives_per_row=6)
    with pytest.raises(
        DataError, match=r"rows have up to 0 negatives that are used; .*--hard-nega"
    ):
        opened(open_dataset(ROWS), negatives_per_row=1, use_negatives=False)
    with pytest.raises(DataError, match="margin_mse has margins for each negative"):
        open_task(
            Networks(jaxembed.load(TINY)),
            as_sum("margin_mse"),
            open_dataset({**ROWS, "margins": [[0.1] * 5] * 4}),
            batch_size=4,
            negatives_per_row=1,
        )
