"""Similarities, distances and errors of single vectors or numbers, by the book.

`in_numpy` finds the one that belongs to a function of the package.
"""

import functools

import numpy as np


def dot(x, y):
    return float(np.sum(x * y))


def length(x):
    return float(np.sqrt(np.sum(x**2)))


def cosine(x, y):
    lengths = length(x) * length(y)
    return dot(x, y) / lengths if lengths > 0 else 0.0


def angle(x, y):
    """|Re + Im| of the inner product of unit vectors whose second half is imaginary."""

    def as_complex(v):
        v = v / length(v) if length(v) > 0 else v
        if len(v) % 2 == 1:
            v = np.append(v, 0.0)
        half = len(v) // 2
        return v[:half] + 1j * v[half:]

    product = np.sum(as_complex(x) * np.conj(as_complex(y)))
    return abs(product.real + product.imag)


def euclidean_distance(x, y, epsilon=0.0):
    return length(x - y + epsilon)


def manhattan_distance(x, y, epsilon=0.0):
    return float(np.sum(np.abs(x - y + epsilon)))


def huber_error(x, y, delta=1.0):
    difference = abs(x - y)
    if difference <= delta:
        return difference**2 / 2
    return delta * (difference - delta / 2)


def softplus(x):
    return np.logaddexp(0, x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return max(x, 0.0)


def logsumexp(values):
    highest = max(values)
    return highest + np.log(sum(np.exp(value - highest) for value in values))


def log_softmax(values):
    normaliser = logsumexp(values)
    return [value - normaliser for value in values]


MATRIX_FUNCTIONS = {
    "dot": dot,
    "cosine": cosine,
    "euclidean": lambda x, y: -euclidean_distance(x, y),
    "manhattan": lambda x, y: -manhattan_distance(x, y),
    "cosine_distance": lambda x, y: 1 - cosine(x, y),
    "euclidean_distance": euclidean_distance,
    "manhattan_distance": manhattan_distance,
}
PAIRED_FUNCTIONS = {
    "paired_angle": angle,
    "paired_dot_distance": lambda x, y: -dot(x, y),
    **{f"paired_{name}": function for name, function in MATRIX_FUNCTIONS.items()},
}
ELEMENTWISE_FUNCTIONS = {
    "squared_error": lambda x, y: (x - y) ** 2,
    "absolute_error": lambda x, y: abs(x - y),
    "huber_error": huber_error,
    "smooth_l1_error": lambda x, y, beta=1.0: huber_error(x, y, beta) / beta,
    "binary_cross_entropy": lambda x, y: y * softplus(-x) + (1 - y) * softplus(x),
    "identity": lambda x: x,
    "sigmoid": sigmoid,
    "relu": relu,
    "tanh": np.tanh,
}
FUNCTIONS = {**MATRIX_FUNCTIONS, **PAIRED_FUNCTIONS, **ELEMENTWISE_FUNCTIONS}


def in_numpy(function):
    """The counterpart of a function of the package (or of its name) for two vectors or numbers."""
    if isinstance(function, functools.partial):
        return functools.partial(in_numpy(function.func), **function.keywords)
    return FUNCTIONS[function if isinstance(function, str) else function.__name__]
