"""References of jaxembed/losses/pairs.py."""

import numpy as np

from tests.losses.references.ranking import same
from tests.losses.references.vectors import in_numpy, log_softmax, logsumexp


def contrastive_loss(left, right, *, labels, margin=0.5, distance_fn="paired_cosine_distance"):
    values = []
    for x, y, label in zip(left, right, labels, strict=True):
        distance = in_numpy(distance_fn)(x, y)
        hinge = max(margin - distance, 0)
        values.append((label * distance**2 + (1 - label) * hinge**2) / 2)
    return np.mean(values)


def online_contrastive_loss(
    left, right, *, labels, margin=0.5, distance_fn="paired_cosine_distance"
):
    distances = [in_numpy(distance_fn)(x, y) for x, y in zip(left, right, strict=True)]
    positives = [d for d, label in zip(distances, labels, strict=True) if label == 1]
    negatives = [d for d, label in zip(distances, labels, strict=True) if label == 0]
    loss = 0.0
    for distance in negatives:
        if distance < (max(positives) if positives else np.mean(negatives)):
            loss += max(margin - distance, 0) ** 2
    for distance in positives:
        if distance > (min(negatives) if negatives else np.mean(positives)):
            loss += distance**2
    return loss


def cosine_similarity_loss(
    left, right, *, scores, loss_fn="squared_error", score_transform="identity"
):
    errors = []
    for x, y, score in zip(left, right, scores, strict=True):
        prediction = in_numpy(score_transform)(in_numpy("cosine")(x, y))
        errors.append(in_numpy(loss_fn)(prediction, score))
    return np.mean(errors)


def disorder(similarities, scores):
    """log(1 + Σ exp(s_i - s_j)) over all i and j where j should be the more similar pair."""
    differences = [0.0]
    for s_i, y_i in zip(similarities, scores, strict=True):
        for s_j, y_j in zip(similarities, scores, strict=True):
            if y_i < y_j:
                differences.append(s_i - s_j)
    return logsumexp(differences)


def cosent_loss(left, right, *, scores, scale=20.0, similarity_fn="paired_cosine"):
    similarity = in_numpy(similarity_fn)
    return disorder([scale * similarity(x, y) for x, y in zip(left, right, strict=True)], scores)


def angle_loss(
    left,
    right,
    negatives=None,
    *,
    scores=None,
    ids=None,
    scale=20.0,
    angle_w=1.0,
    angle_tau=None,
    cosine_w=0.0,
    cosine_tau=0.05,
    ibn_w=0.0,
    negatives_where=None,
):
    angle, cosine = in_numpy("paired_angle"), in_numpy("cosine")
    n = len(left)
    if scores is None:
        scores = np.ones(n)
    if angle_tau is None:
        angle_tau = 1 / scale

    pairs = [(left[i], right[i], scores[i]) for i in range(n)]
    candidates = list(right)
    if negatives is not None:
        for i in range(n):
            for c in range(negatives.shape[1]):
                if negatives_where is None or negatives_where[i, c]:
                    pairs.append((left[i], negatives[i, c], 1 - scores[i]))
                    candidates.append(negatives[i, c])
    targets = [score for _, _, score in pairs]
    angle_term = disorder([angle(x, y) / angle_tau for x, y, _ in pairs], targets)
    cosine_term = disorder([cosine(x, y) / cosine_tau for x, y, _ in pairs], targets)

    values = []
    for i in range(n):
        if scores[i] > 0.5:
            logits = [cosine(left[i], candidate) / cosine_tau for candidate in candidates]
            right_ones = [
                logits[j] for j in range(n) if j == i or (ids is not None and same(ids[i], ids[j]))
            ]
            values.append(logsumexp(logits) - logsumexp(right_ones))
    in_batch_term = np.mean(values) if values else 0.0

    return angle_w * angle_term + cosine_w * cosine_term + ibn_w * in_batch_term


def softmax_loss(logits, *, labels):
    values = []
    for row, label in zip(logits, labels, strict=True):
        values.append(-log_softmax(list(row))[label])
    return np.mean(values)


def pair_features(
    left,
    right,
    *,
    concatenation_sent_rep=True,
    concatenation_sent_difference=True,
    concatenation_sent_multiplication=False,
):
    rows = []
    for x, y in zip(left, right, strict=True):
        parts = []
        if concatenation_sent_rep:
            parts += [x, y]
        if concatenation_sent_difference:
            parts += [np.abs(x - y)]
        if concatenation_sent_multiplication:
            parts += [x * y]
        rows.append(np.concatenate(parts))
    return np.stack(rows)


def classifier_loss(left, right, *, weight, bias, labels, **parts):
    """softmax_loss behind a linear layer on the pair's features."""
    features = pair_features(left, right, **parts)
    return softmax_loss([row @ weight + bias for row in features], labels=labels)
