"""Plans hold every row once, repeat themselves exactly, and put no text twice into a batch."""

import pickle
import threading
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from jaxembed.data import BatchPlan, DataError, no_duplicates_plan, plain_plan

small_hashes = hnp.arrays(
    np.uint64,
    st.tuples(st.integers(1, 40), st.integers(1, 3)),
    elements=st.integers(0, 30).map(lambda value: value * 2**59 + value),  # beyond int64 too
)
batch_sizes = st.integers(1, 12)


def rows_of(plan):
    return plan[plan >= 0]


def greedy(hashes, batch_size, order):
    """Fills one batch after the other, each from the waiting rows in order."""
    waiting, batches = list(order), []
    while waiting:
        batch, seen, later = [], set(), []
        for row in waiting:
            values = set(hashes[row].tolist())
            if len(batch) < batch_size and not values & seen:
                batch.append(row)
                seen |= values
            else:
                later.append(row)
        batches.append(batch + [-1] * (batch_size - len(batch)))
        waiting = later
    return np.array(batches)


@given(n_rows=st.integers(1, 60), batch_size=batch_sizes, epoch=st.integers(0, 3))
def test_a_plain_plan_has_every_row_once_and_pads_the_end(n_rows, batch_size, epoch):
    plan = plain_plan(n_rows, batch_size, seed=1, epoch=epoch)
    assert plan.dtype == np.int64
    assert plan.shape == (-(-n_rows // batch_size), batch_size)
    assert sorted(rows_of(plan)) == list(range(n_rows))
    assert (plan.ravel()[:n_rows] >= 0).all()
    dropped = plain_plan(n_rows, batch_size, seed=1, epoch=epoch, drop_last=True)
    np.testing.assert_array_equal(dropped, plan[: n_rows // batch_size])


@given(hashes=small_hashes, batch_size=batch_sizes)
def test_no_text_is_twice_in_a_batch_and_every_row_is_there_once(hashes, batch_size):
    plan = no_duplicates_plan(hashes, batch_size, seed=2, epoch=1)
    assert plan.dtype == np.int64
    assert sorted(rows_of(plan)) == list(range(len(hashes)))
    for batch in plan:
        texts = [text for row in rows_of(batch) for text in set(hashes[row].tolist())]
        assert len(texts) == len(set(texts))
    full = plan[(plan >= 0).all(axis=1)]
    dropped = no_duplicates_plan(hashes, batch_size, seed=2, epoch=1, drop_last=True)
    np.testing.assert_array_equal(dropped, full)


@settings(max_examples=300)
@given(hashes=small_hashes, batch_size=batch_sizes, seed=st.integers(0, 5))
def test_a_row_waits_no_longer_than_it_must(hashes, batch_size, seed):
    order = plain_plan(len(hashes), len(hashes), seed=seed, epoch=0)[0]
    plan = no_duplicates_plan(hashes, batch_size, seed=seed, epoch=0)
    np.testing.assert_array_equal(plan, greedy(hashes, batch_size, order))


def test_without_repeated_texts_the_plan_is_the_plain_one():
    hashes = np.arange(200, dtype=np.uint64).reshape(100, 2)
    plain = plain_plan(100, 8, seed=3, epoch=4)
    np.testing.assert_array_equal(no_duplicates_plan(hashes, 8, seed=3, epoch=4), plain)


def test_plans_are_the_same_for_ever():
    """Recorded values: a change here would make every saved run resume with other rows."""
    plain = [[1, 3, 5, 4], [9, 7, 2, 0], [8, 6, -1, -1]]
    np.testing.assert_array_equal(plain_plan(10, 4, seed=7, epoch=2), plain)
    hashes = (np.arange(20, dtype=np.uint64) % np.uint64(7)).reshape(10, 2)
    no_duplicates = [[1, 3, 9], [5, 4, 6], [7, 2, 8], [0, -1, -1]]
    np.testing.assert_array_equal(no_duplicates_plan(hashes, 3, seed=7, epoch=2), no_duplicates)


def test_seed_and_epoch_change_the_order():
    plans = [plain_plan(50, 50, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert len({plan.tobytes() for plan in plans}) == 3


def test_every_position_is_as_likely_for_every_row():
    plans = np.array([plain_plan(5, 5, seed=0, epoch=e)[0] for e in range(2000)])
    counts = np.array([[(plans[:, place] == row).mean() for row in range(5)] for place in range(5)])
    np.testing.assert_allclose(counts, 0.2, atol=0.04)  # 4.5 standard deviations


def test_a_text_in_every_row_gives_batches_of_one():
    hashes = np.stack([np.arange(1, 6), np.zeros(5)], axis=1).astype(np.uint64)
    plan = no_duplicates_plan(hashes, 3, seed=0, epoch=0)
    assert ((plan >= 0).sum(axis=1) == 1).all()
    assert len(plan) == 5


def test_one_text_in_all_rows_takes_no_quadratic_time():
    hashes = np.zeros((20_000, 1), np.uint64)
    start = time.monotonic()
    assert len(no_duplicates_plan(hashes, 4, seed=0, epoch=0)) == 20_000
    assert time.monotonic() - start < 5  # 0.1 s; 20 s where each row tries all batches


def test_almost_empty_batches_are_refused_before_they_fill_the_memory():
    hashes = np.zeros((9000, 1), np.uint64)
    with pytest.raises(DataError, match="9000 rows make 9000 batches of 2048 without duplicates"):
        no_duplicates_plan(hashes, 2048, seed=0, epoch=0)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_has_a_row(batch_size):
    for plan in (partial(plain_plan, 3), partial(no_duplicates_plan, np.ones((3, 1), np.uint64))):
        with pytest.raises(DataError, match=f"batch_size must be 1 or more; got {batch_size}"):
            plan(batch_size, seed=0, epoch=0)


def uneven(epoch):
    """Epochs of 3, 1, 2, 3, 1, … batches whose rows tell epoch and batch."""
    n_batches = (3, 1, 2)[epoch % 3]
    return np.array([[epoch, batch] for batch in range(n_batches)])


def test_a_step_finds_its_epoch_and_batch():
    steps = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (3, 0)]
    plan = BatchPlan(uneven)
    assert [plan.locate(step) for step in range(7)] == steps
    assert [tuple(plan.rows(step)) for step in range(7)] == steps
    assert [BatchPlan(uneven).rows(step).tolist() for step in (6, 4)] == [[3, 0], [2, 0]]
    assert [plan.n_steps(epochs) for epochs in range(4)] == [0, 3, 4, 6]
    assert tuple(plan.rows(0)) == (0, 0)  # back again


def test_a_plan_is_computed_once_an_epoch():
    calls = []
    plan = BatchPlan(lambda epoch: calls.append(epoch) or uneven(epoch))
    for step in range(6):
        plan.rows(step)
        plan.locate(step)
    assert calls == [0, 1, 2]


def test_a_plan_travels_to_another_process_and_other_threads():
    plan = BatchPlan(partial(plain_plan, 20, 3, seed=0))
    copy = pickle.loads(pickle.dumps(plan))
    found = {}

    def read(start):
        for step in range(start, 40, 4):
            found[step] = copy.rows(step).tolist()

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {step: plan.rows(step).tolist() for step in range(40)}


def test_an_epoch_without_a_batch_is_refused():
    plan = BatchPlan(partial(plain_plan, 3, 4, seed=0, drop_last=True))
    with pytest.raises(DataError, match="the rows do not fill one batch of 4"):
        plan.rows(0)
