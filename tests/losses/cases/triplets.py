"""Cases of jaxembed/losses/triplets.py and its batch forms."""

import numpy as np

from jaxembed import similarity
from tests.losses.cases.case import (
    Arrays,
    cases_of,
    column,
    mask_of_negatives,
    with_negatives,
)
from tests.losses.references import triplets as references


def one_negative(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    anchors, positives, negatives = with_negatives(1)(rng, n)
    return anchors, positives, negatives[:, 0]


def some_negatives(k: int):
    return lambda rng, n: {"negatives_where": mask_of_negatives(rng, n, k)}


def few_classes(rng: np.random.Generator, n: int) -> Arrays:
    """Labels of any sign; the last row is alone in its class."""
    labels = rng.integers(-1, 2, size=n)
    labels[-1] = 7
    return {"labels": labels}


def two_classes(rng: np.random.Generator, n: int) -> Arrays:
    return {"labels": rng.integers(0, 2, size=n)}


def many_classes(rng: np.random.Generator, n: int) -> Arrays:
    """Mostly singletons."""
    return {"labels": rng.integers(0, n + 2, size=n)}


def single_class(rng: np.random.Generator, n: int) -> Arrays:
    return {"labels": np.full(n, 3)}


triplet = cases_of(references, "triplet_loss", embeddings=one_negative)
batch_hard = cases_of(references, "batch_hard_triplet_loss", embeddings=column)
soft_margin = cases_of(references, "batch_hard_soft_margin_triplet_loss", embeddings=column)
semi_hard = cases_of(references, "batch_semi_hard_triplet_loss", embeddings=column, reduction=None)
batch_all = cases_of(references, "batch_all_triplet_loss", embeddings=column, reduction=None)

COSINE = similarity.cosine_distance

CASES = [
    triplet("default"),
    triplet("one_negative", margin=0.3),
    triplet(
        "manhattan", with_negatives(3), distance_fn=similarity.paired_manhattan_distance, margin=1.0
    ),
    triplet(
        "cosine",
        with_negatives(3),
        some_negatives(3),
        distance_fn=similarity.paired_cosine_distance,
        margin=0.3,
    ),
    triplet("dot", distance_fn=similarity.paired_dot_distance, margin=2.0),
    batch_hard("default", rows=few_classes),
    batch_hard("cosine", rows=many_classes, distance_fn=COSINE, margin=0.2),
    batch_hard("single_class", rows=single_class),
    soft_margin("default", rows=few_classes),
    soft_margin("cosine", rows=many_classes, distance_fn=COSINE),
    semi_hard("default", rows=two_classes),
    semi_hard("cosine", rows=few_classes, distance_fn=COSINE, margin=0.1),
    semi_hard("single_class", rows=single_class, margin=1.0),
    batch_all("default", rows=few_classes),
    batch_all("cosine", rows=two_classes, distance_fn=COSINE, margin=0.1),
]
