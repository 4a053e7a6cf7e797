"""A mixed plan takes each batch from one set, in the set's own order; the step says which."""

import pickle
import threading
from functools import partial

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jaxembed.data import BatchPlan, DataError, plain_plan
from jaxembed.data.mixed_plans import MixedPlan, MixedRows, WeightedPlan
from jaxembed.data.streams import StreamPlan

MIXES = ("proportional", "round_robin")


def told(name, counts, epoch):
    """A set whose rows tell name, epoch and batch; `counts` are the batches of its epochs."""
    return np.array([[ord(name), epoch, batch] for batch in range(counts[epoch % len(counts)])])


def plans_of(**counts):
    return {name: BatchPlan(partial(told, name, each)) for name, each in counts.items()}


def of_epoch(plan, epoch):
    return [plan.locate(step) for step in range(plan.n_steps(epoch), plan.n_steps(epoch + 1))]


UNEVEN = {"a": (3, 1), "b": (5, 2, 4), "c": (2,)}


@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_proportional_takes_every_batch_once_in_the_order_of_its_set(counts, seed):
    plan = MixedPlan(plans_of(**{chr(97 + i): (n,) for i, n in enumerate(counts)}), seed=seed)
    for epoch in range(2):
        steps = of_epoch(plan, epoch)
        assert len(steps) == sum(counts)
        for i, n in enumerate(counts):
            assert [s for s in steps if s[0] == chr(97 + i)] == [
                (chr(97 + i), epoch, batch) for batch in range(n)
            ]


def test_proportional_draws_without_a_preferred_place():
    plan = MixedPlan(plans_of(a=(6,), b=(2,)))
    names = np.array([[name for name, _, _ in of_epoch(plan, epoch)] for epoch in range(2000)])
    np.testing.assert_allclose((names == "b").mean(axis=0), 0.25, atol=0.045)  # 4.6 deviations


def test_round_robin_takes_turns_until_the_smallest_set_ends():
    plan = MixedPlan(plans_of(**UNEVEN), "round_robin")
    assert of_epoch(plan, 0) == [(name, 0, batch) for batch in range(2) for name in "abc"]
    assert of_epoch(plan, 1) == [(name, 1, 0) for name in "abc"]
    swapped = MixedPlan(plans_of(c=(2,), a=(3,)), "round_robin")
    assert [name for name, _, _ in of_epoch(swapped, 0)] == ["c", "a", "c", "a"]


@pytest.mark.parametrize("mix", MIXES)
def test_the_rows_of_a_step_are_those_of_its_set(mix):
    plan = MixedPlan(plans_of(**UNEVEN), mix)
    for step in range(plan.n_steps(epochs=4)):
        name, epoch, batch = plan.locate(step)
        found, rows = plan.rows(step)
        assert found == name
        assert rows.tolist() == [ord(name), epoch, batch]


def test_epochs_count_the_batches_of_all_sets():
    plan = MixedPlan(plans_of(**UNEVEN))
    assert [plan.n_steps(epochs) for epochs in range(4)] == [0, 10, 15, 24]
    round_robin = MixedPlan(plans_of(**UNEVEN), "round_robin")
    assert [round_robin.n_steps(epochs) for epochs in range(4)] == [0, 6, 9, 15]


@pytest.mark.parametrize("mix", MIXES)
def test_any_step_comes_first(mix):
    plan = MixedPlan(plans_of(**UNEVEN), mix, seed=3)
    steps = [plan.locate(step) for step in range(30)]
    for step in (29, 11, 0):
        assert MixedPlan(plans_of(**UNEVEN), mix, seed=3).locate(step) == steps[step]


def test_seed_and_epoch_change_the_mix():
    orders = [
        [name for name, _, _ in of_epoch(MixedPlan(plans_of(a=(20,), b=(20,)), seed=seed), epoch)]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len(set(map(tuple, orders))) == 3


def test_a_plan_finds_the_batches_of_an_epoch_in_any_order():
    plan = BatchPlan(partial(told, "b", (5, 2, 4)))
    assert [plan.n_batches(epoch) for epoch in (4, 0, 2, 3)] == [2, 5, 4, 5]
    assert [plan.batch(*at).tolist()[1:] for at in ((2, 3), (0, 4))] == [[2, 3], [0, 4]]
    assert BatchPlan(plan.plan_fn).batch(7, 1).tolist()[1:] == [7, 1]


def test_the_mix_is_the_same_for_ever():
    """Recorded values: a change here would make every saved run resume with other rows."""
    plan = MixedPlan(plans_of(a=(6,), b=(4,), c=(2,)), seed=7)
    assert "".join(name for name, _, _ in of_epoch(plan, 0)) == "cbabacbabaaa"
    assert "".join(name for name, _, _ in of_epoch(plan, 1)) == "babbacabcaaa"


@pytest.mark.parametrize("mix", MIXES)
def test_the_plan_of_a_set_is_computed_once_an_epoch(mix):
    calls = []

    def count(name, epoch):
        calls.append((name, epoch))
        return told(name, (4, 5), epoch)

    plan = MixedPlan({name: BatchPlan(partial(count, name)) for name in "ab"}, mix)
    for step in range(plan.n_steps(epochs=1) + 4):
        plan.locate(step)
        plan.rows(step)
    assert sorted(calls) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_a_plan_travels_to_another_process_and_other_threads():
    sets = {name: BatchPlan(partial(plain_plan, n, 3, seed=0)) for name, n in (("a", 20), ("b", 9))}
    plan = MixedPlan(sets, seed=4)
    plan.rows(11)
    copy = pickle.loads(pickle.dumps(plan))
    found = {}

    def read(start):
        for step in range(start, 60, 4):
            name, rows = copy.rows(step)
            found[step] = name, rows.tolist()

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {
        step: (name, rows.tolist()) for step in range(60) for name, rows in [plan.rows(step)]
    }


def test_a_set_added_later_does_not_change_the_plan():
    plans = plans_of(a=(3,), b=(2,))
    plan = MixedPlan(plans, "round_robin")
    plans["c"] = plans["a"]
    assert [plan.locate(step)[0] for step in range(4)] == ["a", "b", "a", "b"]


def test_a_set_without_a_batch_is_named():
    empty = BatchPlan(partial(plain_plan, 3, 4, seed=0, drop_last=True))
    plan = MixedPlan({**plans_of(a=(3,)), "titles": empty})
    with pytest.raises(DataError, match="data set 'titles': the rows do not fill one batch of 4"):
        plan.rows(0)


def test_a_mix_has_a_name_and_a_set():
    with pytest.raises(DataError, match="mix must be one of proportional, round_robin; got 'even'"):
        MixedPlan(plans_of(a=(1,)), "even")
    with pytest.raises(
        DataError, match="MixedPlan needs the plan of one data set or more; got none"
    ):
        MixedPlan({})


def test_weighted_steps_repeat_small_sets_and_follow_their_own_plans():
    plans = plans_of(**UNEVEN)
    weights = {name: float(number + 1) for number, name in enumerate(plans)}
    plan = WeightedPlan(plans, weights, seed=1)
    taken = dict.fromkeys(plans, 0)
    for step in range(256):
        name, rows = plan.rows(step)
        np.testing.assert_array_equal(rows, plans[name].rows(taken[name]))
        taken[name] += 1
    total = sum(weights.values())
    for name, weight in weights.items():
        assert abs(taken[name] - 256 * weight / total) <= 1
    assert plan.n_steps(2) == 2 * sum(each.n_steps(1) for each in plans.values())


def test_weighted_plans_take_streams_and_refuse_their_epochs():
    plans = {"stream": StreamPlan(2), "rows": BatchPlan(partial(plain_plan, 4, 2, seed=0))}
    plan = WeightedPlan(plans, {"stream": 1, "rows": 1}, seed=0)
    found = {name for name, _ in map(plan.rows, range(16))}
    assert found == {"stream", "rows"}
    with pytest.raises(DataError, match="say how many steps"):
        plan.n_steps(1)


def test_mixed_rows_have_all_sources_by_weight_and_every_row_once_an_epoch():
    plan = MixedRows({"a": 6, "b": 9}, {"a": 2.0, "b": 1.0}, 4, seed=3)
    batches = [plan.rows(step) for step in range(27)]
    of_a = np.concatenate([rows[rows < 6] for rows in batches])
    of_b = np.concatenate([rows[rows >= 6] for rows in batches])
    assert all(2 <= np.count_nonzero(rows < 6) <= 3 for rows in batches)
    assert abs(len(of_a) - 72) <= 3  # two thirds of 108 in the long run
    for epoch in of_a[:66].reshape(-1, 6):
        assert sorted(epoch) == list(range(6))
    for epoch in of_b[:27].reshape(-1, 9):
        assert sorted(epoch) == list(range(6, 15))
    assert (of_a[:6] != of_a[6:12]).any()
    again = MixedRows({"a": 6, "b": 9}, {"a": 2.0, "b": 1.0}, 4, seed=3)
    np.testing.assert_array_equal(again.rows(20), batches[20])
    assert plan.n_steps(2) == 8
