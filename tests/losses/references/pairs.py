"""References of jaxembed/losses/pairs.py."""

import numpy as np

from tests.losses.references.vectors import cosine


def cosine_similarity_loss(left, right, *, scores, where=None):
    errors = []
    for i in range(len(left)):
        if where is None or where[i]:
            errors.append((cosine(left[i], right[i]) - scores[i]) ** 2)
    return np.mean(errors)
