"""Pairs of contrastive tension: the published pattern over shuffled rows, each row in one pair."""

import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jaxembed.data import BatchPlan, DataError, plain_plan
from jaxembed.data.pair_plans import contrastive_tension_plan


def published(order, batch_size, ratio):
    """The published loader, with its last batch padded."""
    rows, batches = list(order), [[]]
    while rows:
        if len(batches[-1]) == batch_size:
            batches.append([])
        first = rows.pop(0)
        if len(batches[-1]) % ratio == 0:
            batches[-1].append((first, first))
        elif rows:
            batches[-1].append((first, rows.pop(0)))
    batches = [batch for batch in batches if batch]
    return np.array([batch + [(-1, -1)] * (batch_size - len(batch)) for batch in batches])


@given(
    n_rows=st.integers(1, 80),
    ratio=st.integers(1, 5),
    groups=st.integers(1, 4),
    seed=st.integers(0),
)
def test_the_plan_is_the_published_loader(n_rows, ratio, groups, seed):
    order = plain_plan(n_rows, n_rows, seed=seed, epoch=3)[0].tolist()
    plan_fn = partial(
        contrastive_tension_plan, n_rows, ratio * groups, pos_neg_ratio=ratio, seed=seed, epoch=3
    )
    plan = plan_fn()
    assert plan.dtype == np.int64
    np.testing.assert_array_equal(plan, published(order, ratio * groups, ratio))
    np.testing.assert_array_equal(plan_fn(drop_last=True), plan[(plan >= 0).all(axis=(1, 2))])


@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
def test_a_batch_uses_twice_its_size_less_its_equal_pairs(ratio):
    plan = contrastive_tension_plan(1000, 16, pos_neg_ratio=ratio, seed=0, epoch=0, drop_last=True)
    for batch in plan:
        assert len(set(batch.ravel().tolist())) == 2 * 16 - 16 // ratio
        assert (batch[:, 0] == batch[:, 1]).tolist() == [i % ratio == 0 for i in range(16)]


def test_a_ratio_of_one_pairs_every_row_with_itself():
    plan = contrastive_tension_plan(10, 4, pos_neg_ratio=1, seed=5, epoch=1)
    rows = plain_plan(10, 4, seed=5, epoch=1)
    np.testing.assert_array_equal(plan, np.stack([rows, rows], axis=-1))


def test_only_a_last_row_without_a_partner_is_left_out():
    plans = [
        contrastive_tension_plan(n, 4, pos_neg_ratio=4, seed=0, epoch=0) for n in (7, 8, 9, 10)
    ]
    assert [len(set(plan[plan >= 0].tolist())) for plan in plans] == [7, 8, 8, 10]
    assert [(plan[..., 0] >= 0).sum() for plan in plans] == [4, 5, 5, 6]


def test_plans_are_the_same_for_ever():
    """Recorded values: a change here would make every saved run resume with other rows."""
    plan = contrastive_tension_plan(13, 4, pos_neg_ratio=2, seed=7, epoch=2)
    np.testing.assert_array_equal(
        plan,
        [
            [[1, 1], [3, 10], [5, 5], [4, 9]],
            [[11, 11], [7, 12], [2, 2], [0, 8]],
            [[6, 6], [-1, -1], [-1, -1], [-1, -1]],
        ],
    )


def test_seed_and_epoch_change_the_order():
    orders = ((0, 0), (0, 1), (1, 0))
    plans = [contrastive_tension_plan(50, 8, seed=s, epoch=e) for s, e in orders]
    assert len({plan.tobytes() for plan in plans}) == 3


def test_a_batch_plan_serves_pairs():
    plan = BatchPlan(partial(contrastive_tension_plan, 45, 8, seed=0))
    assert plan.n_steps(epochs=2) == 6
    assert plan.locate(4) == (1, 1)
    assert plan.rows(4).shape == (8, 2)
    np.testing.assert_array_equal(plan.rows(4), contrastive_tension_plan(45, 8, seed=0, epoch=1)[1])
    small = BatchPlan(partial(contrastive_tension_plan, 5, 8, seed=0, drop_last=True))
    with pytest.raises(DataError, match="the rows do not fill one batch of 8"):
        small.rows(0)


def test_a_million_rows_take_seconds():
    start = time.monotonic()
    assert contrastive_tension_plan(1_000_000, 64, seed=0, epoch=0).shape == (8334, 64, 2)
    assert time.monotonic() - start < 20  # 0.1 s


@pytest.mark.parametrize("batch_size", [0, -8, 12])
def test_a_batch_is_a_multiple_of_the_ratio(batch_size):
    message = f"batch_size must be a positive multiple of pos_neg_ratio, 8; got {batch_size}"
    with pytest.raises(DataError, match=message):
        contrastive_tension_plan(30, batch_size, seed=0, epoch=0)


@pytest.mark.parametrize("ratio", [0, -1])
def test_the_ratio_is_positive(ratio):
    with pytest.raises(DataError, match=f"pos_neg_ratio must be 1 or more; got {ratio}"):
        contrastive_tension_plan(30, 8, pos_neg_ratio=ratio, seed=0, epoch=0)
