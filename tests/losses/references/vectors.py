"""Cosine and log-sum-exp by the book."""

import numpy as np


def cosine(x, y):
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / lengths) if lengths > 0 else 0.0


def logsumexp(values):
    highest = max(values)
    return highest + np.log(sum(np.exp(value - highest) for value in values))
