"""Cases of jaxembed/losses/triplets.py and its batch forms."""

import numpy as np

from jaxembed import losses, similarity
from tests.losses.cases.case import (
    Arrays,
    Case,
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


def triplet(name: str, embeddings, rows=lambda rng, n: {}, **settings) -> Case:
    return Case(
        f"triplet_loss-{name}",
        losses.triplet_loss,
        references.triplet_loss,
        embeddings,
        rows,
        settings,
    )


def batch_hard(name: str, rows, **settings) -> Case:
    return Case(
        f"batch_hard_triplet_loss-{name}",
        losses.batch_hard_triplet_loss,
        references.batch_hard_triplet_loss,
        column,
        rows,
        settings,
    )


def soft_margin(name: str, rows, **settings) -> Case:
    return Case(
        f"batch_hard_soft_margin_triplet_loss-{name}",
        losses.batch_hard_soft_margin_triplet_loss,
        references.batch_hard_soft_margin_triplet_loss,
        column,
        rows,
        settings,
    )


def semi_hard(name: str, rows, **settings) -> Case:
    return Case(
        f"batch_semi_hard_triplet_loss-{name}",
        losses.batch_semi_hard_triplet_loss,
        references.batch_semi_hard_triplet_loss,
        column,
        rows,
        settings,
        reduction=None,
    )


def batch_all(name: str, rows, **settings) -> Case:
    return Case(
        f"batch_all_triplet_loss-{name}",
        losses.batch_all_triplet_loss,
        references.batch_all_triplet_loss,
        column,
        rows,
        settings,
        reduction=None,
    )


COSINE = similarity.cosine_distance

CASES = [
    triplet("default", one_negative),
    triplet("one_negative", one_negative, margin=0.3),
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
    triplet("dot", one_negative, distance_fn=similarity.paired_dot_distance, margin=2.0),
    batch_hard("default", few_classes),
    batch_hard("cosine", many_classes, distance_fn=COSINE, margin=0.2),
    batch_hard("single_class", single_class),
    soft_margin("default", few_classes),
    soft_margin("cosine", many_classes, distance_fn=COSINE),
    semi_hard("default", two_classes),
    semi_hard("cosine", few_classes, distance_fn=COSINE, margin=0.1),
    semi_hard("single_class", single_class, margin=1.0),
    batch_all("default", few_classes),
    batch_all("cosine", two_classes, distance_fn=COSINE, margin=0.1),
]
