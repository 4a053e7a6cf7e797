"""A plan by label visits the labels in rounds, and leaves no label alone in a batch."""

import time
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from jaxembed.data import BatchPlan, DataError
from jaxembed.data.label_plans import group_by_label_plan


@st.composite
def cases(draw):
    """Labels of which two or more have the rows of a visit, the size of a batch and of a visit."""
    rows_per_label = draw(st.integers(2, 4))
    elements = st.integers(0, draw(st.integers(1, 8))).map(lambda value: 3 - 7 * value)
    drawn = draw(hnp.arrays(np.int64, st.integers(0, 60), elements=elements))
    labels = np.concatenate([drawn, np.repeat([3, -4], rows_per_label)])
    return labels, rows_per_label * draw(st.integers(2, 5)), rows_per_label


def visited_labels(plan, labels, rows_per_label):
    """The label of each visit; all rows of a visit have it."""
    by_visit = plan[plan >= 0].reshape(-1, rows_per_label)
    assert (labels[by_visit] == labels[by_visit[:, :1]]).all()
    return labels[by_visit[:, 0]].tolist()


def rounds_of(labels, rows_per_label):
    """The labels of each round, in no order, as the rule says it."""
    values, left = np.unique(labels, return_counts=True)
    rounds = []
    while np.count_nonzero(left >= rows_per_label) > 1:
        rounds.append(values[left >= rows_per_label].tolist())
        left = left - rows_per_label
    return rounds


@settings(max_examples=400)
@given(case=cases(), epoch=st.integers(0, 3))
def test_each_round_visits_each_label_once_until_one_is_left(case, epoch):
    labels, batch_size, rows_per_label = case
    plan = group_by_label_plan(
        labels, batch_size, rows_per_label=rows_per_label, seed=1, epoch=epoch
    )
    rows = plan[plan >= 0]
    assert plan.dtype == np.int64
    assert len(set(rows.tolist())) == len(rows)
    assert (plan.ravel()[: len(rows)] >= 0).all()  # padding is at the end
    visits = visited_labels(plan, labels, rows_per_label)
    rounds = rounds_of(labels, rows_per_label)
    n_visits = sum(len(each) for each in rounds)
    assert len(visits) == n_visits - (n_visits % (batch_size // rows_per_label) == 1)
    for each in rounds:
        found, visits = visits[: len(each)], visits[len(each) :]
        assert len(set(found)) == len(found)
        assert set(found) <= set(each)


@settings(max_examples=400)
@given(case=cases(), seed=st.integers(0, 20))
def test_every_batch_has_two_labels_and_whole_visits(case, seed):
    labels, batch_size, rows_per_label = case
    plan = group_by_label_plan(
        labels, batch_size, rows_per_label=rows_per_label, seed=seed, epoch=0
    )
    assert plan.shape == (len(plan), batch_size)
    for batch in plan:
        assert len(set(visited_labels(batch, labels, rows_per_label))) >= 2
    full = plan[(plan >= 0).all(axis=1)]
    dropped = group_by_label_plan(
        labels, batch_size, rows_per_label=rows_per_label, seed=seed, epoch=0, drop_last=True
    )
    np.testing.assert_array_equal(dropped, full)


def test_no_label_follows_itself_from_round_to_round():
    labels = np.repeat([0, 1, 2], 200)
    visits = visited_labels(group_by_label_plan(labels, 4, seed=0, epoch=0), labels, 2)
    assert len(visits) == 300
    assert all(a != b for a, b in pairwise(visits))


def test_a_last_batch_of_one_label_is_dropped_and_one_of_two_is_kept():
    three, four = np.repeat([0, 1, 2], 2), np.repeat([0, 1, 2, 3], 2)
    assert group_by_label_plan(three, 4, seed=0, epoch=0).shape == (1, 4)
    padded = group_by_label_plan(four, 6, seed=0, epoch=0)
    assert len(padded) == 1
    assert (padded >= 0).all()
    assert (group_by_label_plan(four, 12, seed=0, epoch=0) >= 0).sum() == 8


def test_rare_labels_and_the_rest_of_the_most_frequent_are_left_out():
    labels = np.array([5] * 100 + [6] * 7 + [7])
    rows = group_by_label_plan(labels, 4, seed=0, epoch=0)
    assert np.bincount(labels[rows[rows >= 0]], minlength=8)[5:].tolist() == [6, 6, 0]


def test_plans_are_the_same_for_ever():
    """Recorded values: a change here would make every saved run resume with other rows."""
    labels = np.array([4, 4, 4, 4, 4, 9, 9, 9, 9, 9, -2, -2, -2, -2, 1, 1, 1, 30])
    plan = [[5, 9, 1, 3], [16, 15, 10, 13], [7, 8, 4, 2]]
    np.testing.assert_array_equal(group_by_label_plan(labels, 4, seed=7, epoch=2), plan)
    triples = [[5, 9, 7, 1, 3, 4, 16, 15, 14]]
    np.testing.assert_array_equal(
        group_by_label_plan(labels, 9, rows_per_label=3, seed=7, epoch=2), triples
    )


def test_the_names_of_the_labels_change_nothing_but_their_order_does():
    labels = np.arange(60) % 5
    plan = group_by_label_plan(labels, 8, seed=0, epoch=0)
    np.testing.assert_array_equal(group_by_label_plan(labels * 9 - 70, 8, seed=0, epoch=0), plan)
    assert (group_by_label_plan(4 - labels, 8, seed=0, epoch=0) != plan).any()


def test_labels_rows_and_their_partners_come_in_a_new_order_each_round_and_epoch():
    labels = np.repeat(np.arange(10), 20)
    plans = [group_by_label_plan(labels, 20, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    rounds = [tuple(visited_labels(batch, labels, 2)) for plan in plans for batch in plan]
    assert len(set(rounds)) == 30
    pairs = [frozenset(pair) for plan in plans for pair in plan.reshape(-1, 2).tolist()]
    assert len(set(pairs)) > 260  # of 300; 285 expected


def test_every_row_and_label_is_as_likely_at_every_place():
    labels = np.repeat([0, 1, 2], 3)
    plans = np.array([group_by_label_plan(labels, 6, seed=0, epoch=e)[0] for e in range(4000)])
    rows = np.array([[(plans[:, place] == row).mean() for row in range(9)] for place in range(6)])
    np.testing.assert_allclose(rows, 1 / 9, atol=0.022)  # 4.4 standard deviations


def test_a_batch_plan_counts_the_epochs_of_a_plan_by_label():
    plan = BatchPlan(partial(group_by_label_plan, np.arange(40) % 4, 8, seed=0))
    assert plan.n_steps(epochs=3) == 15
    assert plan.rows(7).tolist() == plan.batch(1, 2).tolist()


@pytest.mark.parametrize("n_labels", [2, 1000, 300_000])
def test_a_million_rows_take_seconds(n_labels):
    labels = np.random.default_rng(0).integers(0, n_labels, 1_000_000)
    start = time.monotonic()
    plan = group_by_label_plan(labels, 4, seed=0, epoch=0)
    assert time.monotonic() - start < 20  # 0.7 s
    assert (plan >= 0).sum() > 800_000


@pytest.mark.parametrize("batch_size", [0, 2, 7, -4])
def test_a_batch_holds_two_visits(batch_size):
    message = (
        f"batch_size must be a multiple of rows_per_label, 2, and at least 4; got {batch_size}"
    )
    with pytest.raises(DataError, match=message):
        group_by_label_plan(np.arange(8) // 2, batch_size, seed=0, epoch=0)


@pytest.mark.parametrize("rows_per_label", [1, 0, -2])
def test_a_visit_takes_two_rows(rows_per_label):
    message = f"rows_per_label must be 2 or more; got {rows_per_label}"
    with pytest.raises(DataError, match=message):
        group_by_label_plan(np.arange(8) // 2, 4, rows_per_label=rows_per_label, seed=0, epoch=0)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (np.arange(1000), r"1,000 rows with 1,000 different label\(s\), none of them"),
        (np.zeros(5, np.int32), r"5 rows with 1 different label\(s\), one of them"),
        (np.array([3, 3, 4]), r"3 rows with 2 different label\(s\), one of them"),
        (np.zeros(0, np.int32), r"0 rows with 0 different label\(s\), none of them"),
    ],
)
def test_two_labels_must_repeat(labels, found):
    with pytest.raises(DataError, match=f"two labels must have 2 rows or more; got {found}"):
        group_by_label_plan(labels, 4, seed=0, epoch=0)
