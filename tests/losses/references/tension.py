"""References of jaxembed/losses/tension.py."""

import numpy as np

from tests.losses.references.ranking import same
from tests.losses.references.vectors import in_numpy, logsumexp, softplus


def contrastive_tension_loss(first, second, *, labels, scale=1.0, similarity_fn="paired_dot"):
    loss = 0.0
    for x, y, label in zip(first, second, labels, strict=True):
        logit = scale * in_numpy(similarity_fn)(x, y)
        loss += softplus(logit) - label * logit
    return loss


def contrastive_tension_in_batch_negatives_loss(
    first, second, *, ids=None, scale=20.0, false_negative_margin=None, similarity_fn="cosine"
):
    similarity = in_numpy(similarity_fn)
    n = len(first)
    values = []
    for i in range(n):
        own = similarity(first[i], second[i])
        forward, backward = [scale * own], [scale * own]
        for j in range(n):
            if j == i or (ids is not None and same(ids[i], ids[j])):
                continue
            for logits, candidate in (
                (forward, similarity(first[i], second[j])),
                (backward, similarity(first[j], second[i])),
            ):
                if false_negative_margin is None or candidate <= own + false_negative_margin:
                    logits.append(scale * candidate)
        values.append((logsumexp(forward) + logsumexp(backward)) / 2 - scale * own)
    return np.mean(values)
