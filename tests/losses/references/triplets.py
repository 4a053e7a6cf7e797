"""References of jaxembed/losses/triplets.py and its batch forms."""

import numpy as np

from tests.losses.references.vectors import in_numpy, softplus


def triplet_loss(
    anchors,
    positives,
    negatives,
    *,
    margin=5.0,
    distance_fn="paired_euclidean_distance",
    negatives_where=None,
):
    distance = in_numpy(distance_fn)
    values = []
    for i in range(len(anchors)):
        own = negatives[i][None] if negatives.ndim == 2 else negatives[i]
        hinges = []
        for c in range(len(own)):
            if negatives_where is None or negatives_where[i, c]:
                difference = distance(anchors[i], positives[i]) - distance(anchors[i], own[c])
                hinges.append(max(difference + margin, 0))
        if hinges:
            values.append(np.mean(hinges))
    return np.mean(values) if values else 0.0


def distances_of_all(embeddings, distance_fn):
    n = len(embeddings)
    distances = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                distances[i, j] = in_numpy(distance_fn)(embeddings[i], embeddings[j])
    return distances


def hardest(embeddings, labels, distance_fn):
    """Per anchor the distances of the farthest positive and of the closest negative."""
    n = len(embeddings)
    distances = distances_of_all(embeddings, distance_fn)
    results = []
    for i in range(n):
        positive, lifted = [], []
        for j in range(n):
            is_same = labels[i] == labels[j]
            positive.append(distances[i, j] if is_same and j != i else 0.0)
            lifted.append(distances[i, j] + (max(distances[i]) if is_same else 0.0))
        results.append((max(positive), min(lifted)))
    return results


def batch_hard_triplet_loss(embeddings, *, labels, margin=5.0, distance_fn="euclidean_distance"):
    values = []
    for positive, negative in hardest(embeddings, labels, distance_fn):
        values.append(max(positive - negative + margin, 0))
    return np.mean(values)


def batch_hard_soft_margin_triplet_loss(embeddings, *, labels, distance_fn="euclidean_distance"):
    values = []
    for positive, negative in hardest(embeddings, labels, distance_fn):
        values.append(softplus(positive - negative))
    return np.mean(values)


def batch_semi_hard_triplet_loss(
    embeddings, *, labels, margin=5.0, distance_fn="euclidean_distance"
):
    n = len(embeddings)
    distances = distances_of_all(embeddings, distance_fn)
    values = []
    for i in range(n):
        lowest = min(distances[i])
        negatives = [distances[i, k] for k in range(n) if labels[k] != labels[i]]
        for j in range(n):
            if j != i and labels[j] == labels[i]:
                farther = [distance for distance in negatives if distance > distances[i, j]]
                if farther:
                    negative = min(farther)
                elif negatives:
                    negative = max(negatives)
                else:
                    negative = lowest
                values.append(max(distances[i, j] - negative + margin, 0))
    return np.mean(values) if values else 0.0


def batch_all_triplet_loss(embeddings, *, labels, margin=5.0, distance_fn="euclidean_distance"):
    n = len(embeddings)
    distances = distances_of_all(embeddings, distance_fn)
    active = []
    for i in range(n):
        for j in range(n):
            for k in range(n):
                if j != i and labels[j] == labels[i] and labels[k] != labels[i]:
                    value = distances[i, j] - distances[i, k] + margin
                    if value > 1e-16:
                        active.append(value)
    return np.mean(active) if active else 0.0
