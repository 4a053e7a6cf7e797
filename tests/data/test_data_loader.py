"""Loading changes nothing: order, resume and errors are those of a loop over `make`."""

import threading
import time
from functools import partial

import numpy as np
import pytest
from datasets import Dataset

from jaxembed.data import (
    BatchPlan,
    DataError,
    bind_columns,
    load_batches,
    make_batch,
    no_duplicates_plan,
    row_hashes,
)
from jaxembed.typing import Roles

ROLES = Roles(("anchors", "positives"), negatives=True, ids=True)
N_STEPS = 11


def lengths(texts, role):
    return {"length": np.array([[len(text), len(role)] for text in texts])}


def make_of(rows, plan, step):
    return make_batch(rows, ROLES, plan.rows(step), lengths)


@pytest.fixture
def make():
    n = 23
    columns = {
        "query": ["q" * i for i in range(n)],
        "positive": ["p" * (i // 2) for i in range(n)],
        "negative": [None if i % 3 else "n" * i for i in range(n)],
    }
    rows = bind_columns(Dataset.from_dict(columns), ROLES, use_negatives=True)
    return partial(
        make_of, rows, BatchPlan(partial(no_duplicates_plan, row_hashes(rows), 4, seed=0))
    )


def fails_at_two(step):
    if step == 2:
        raise DataError("row 17 is broken")
    return {"step": np.array(step)}


def test_a_run_is_a_loop_over_its_steps(make):
    loaded = load_batches(make, start_step=0, n_steps=N_STEPS)
    np.testing.assert_equal(list(loaded), [make(step) for step in range(N_STEPS)])


@pytest.mark.parametrize("start_step", [1, 7, N_STEPS])
def test_a_resumed_run_is_the_tail_of_the_whole(make, start_step):
    whole = list(load_batches(make, start_step=0, n_steps=N_STEPS))
    resumed = list(load_batches(make, start_step=start_step, n_steps=N_STEPS - start_step))
    np.testing.assert_equal(resumed, whole[start_step:])


def test_worker_processes_change_nothing(make):
    expected = [make(step) for step in range(3, N_STEPS)]
    loaded = list(load_batches(make, start_step=3, n_steps=N_STEPS - 3, workers=2))
    np.testing.assert_equal(loaded, expected)
    assert type(loaded[0]["where"]) is np.ndarray


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_where_its_batch_is_due(workers):
    batches = load_batches(fails_at_two, start_step=0, n_steps=9, workers=workers)
    assert [int(next(batches)["step"]) for _ in range(2)] == [0, 1]
    with pytest.raises(DataError, match="row 17 is broken"):
        next(batches)


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_batches_are_made_ahead_but_not_too_far(prefetch):
    made = []
    batches = load_batches(
        lambda step: made.append(step) or {"step": step}, start_step=0, n_steps=9, prefetch=prefetch
    )
    deadline = time.monotonic() + 5  # they start before they are asked for
    while len(made) < prefetch and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made == list(range(prefetch))
    next(batches)
    time.sleep(0.1)
    assert len(made) == max(1, prefetch + 1)
    batches.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_one_thread_makes_all_batches():
    load = load_batches(
        lambda step: {"name": threading.get_ident()}, start_step=0, n_steps=20, prefetch=8
    )
    names = {batch["name"] for batch in load}
    assert len(names) == 1
    assert names != {threading.get_ident()}


@pytest.mark.parametrize(
    "wrong", [{"start_step": -1}, {"n_steps": -1}, {"workers": -1}, {"prefetch": -1}]
)
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(DataError, match="load_batches takes no negative number; got start_step="):
        load_batches(fails_at_two, **{"start_step": 3, "n_steps": 9, **wrong})
