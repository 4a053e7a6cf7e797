"""The plan that keeps clusters together: negatives of a batch are then close to its positives."""

from __future__ import annotations

import numpy as np

from jaxembed.data.errors import DataError
from jaxembed.data.plans import VISITS, cut, shuffled


def cluster_plan(
    clusters: np.ndarray, batch_size: int, *, seed: int, epoch: int, drop_last: bool = False
) -> np.ndarray:
    """Makes each batch of one cluster, and the last ones of what clusters have left over.

    `clusters` is int `[n]`, the cluster of each row, such as k-means finds in embeddings. The
    shuffled rows of each are cut into batches, which come in random order. Their remainders, one
    cluster's after the other's, fill the batches behind; only the last is padded, or dropped. Every
    other row is in one batch.

    Raises:
        DataError: `batch_size` is not positive.

    Source: Merrick et al., Arctic-Embed: Scalable, Efficient, and Accurate Text Embedding Models,
    2024, which stratifies by source; by cluster: Morris and Rush, Contextual Document Embeddings,
    2024.

    >>> cluster_plan(np.array([7, 7, 7, 4, 4, 9]), 2, seed=0, epoch=0)
    array([[1, 2],
           [4, 3],
           [0, 5]])
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be 1 or more; got {batch_size}")
    order = shuffled(len(clusters), seed, epoch)
    _, numbers, sizes = np.unique(clusters[order], return_inverse=True, return_counts=True)
    by_cluster = np.argsort(numbers, kind="stable")
    order, numbers = order[by_cluster], numbers[by_cluster]
    places = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[numbers]
    whole = places < (sizes - sizes % batch_size)[numbers]  # in a batch of its cluster alone
    batches = order[whole].reshape(-1, batch_size)
    batches = batches[shuffled(len(batches), seed, epoch, VISITS)]
    rest = cut(order[~whole], batch_size, drop_last)
    return np.concatenate([batches, rest])
