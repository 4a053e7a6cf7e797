"""A plan by cluster: batches of one cluster, what is left behind them, and every row once."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from jaxembed.data import DataError
from jaxembed.data.cluster_plans import cluster_plan

CLUSTERS = np.repeat([3, 11, 5], [10, 7, 4])


@settings(max_examples=50, deadline=None)
@given(
    strategies.lists(strategies.integers(-2, 4), min_size=1, max_size=60),
    strategies.integers(1, 8),
    strategies.integers(0, 3),
)
def test_every_row_once_and_clusters_together(clusters, batch_size, epoch):
    clusters = np.array(clusters)
    plan = cluster_plan(clusters, batch_size, seed=1, epoch=epoch)
    rows = plan[plan >= 0]
    assert sorted(rows) == list(range(len(clusters)))
    n_whole = sum(np.count_nonzero(clusters == c) // batch_size for c in set(clusters.tolist()))
    assert all(len(set(clusters[batch])) == 1 for batch in plan[:n_whole])
    assert (plan[:-1] >= 0).all()


def test_remainders_of_a_cluster_stay_together():
    rest = cluster_plan(CLUSTERS, 4, seed=0, epoch=0)[4:]
    found = CLUSTERS[rest[rest >= 0]].tolist()
    assert found == sorted(found)
    assert len(found) == 2 + 3


def test_seed_and_epoch_change_rows_and_the_order_of_batches():
    plans = [cluster_plan(CLUSTERS, 2, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert all((a != b).any() for a, b in itertools.pairwise(plans))
    order = [CLUSTERS[batch[0]] for batch in plans[0]]
    assert order != sorted(order)


def test_the_last_batch_is_dropped_where_it_is_not_full():
    assert (cluster_plan(CLUSTERS, 4, seed=0, epoch=0, drop_last=True) >= 0).all()
    assert len(cluster_plan(CLUSTERS, 4, seed=0, epoch=0, drop_last=True)) == 5


def test_a_batch_has_a_row():
    with pytest.raises(DataError, match="batch_size must be 1 or more; got 0"):
        cluster_plan(CLUSTERS, 0, seed=0, epoch=0)
