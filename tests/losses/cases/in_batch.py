"""Cases of GIST, mega-batch margin, sigmoid and the orthogonal regularizer."""

import numpy as np

from jaxembed import similarity
from tests.losses.cases.case import (
    Arrays,
    cases_of,
    column,
    ids,
    ids_of_negatives,
    text_ids,
    with_negatives,
)
from tests.losses.references import in_batch as references

E = 5  # width of the guide


def guide(rng: np.random.Generator, n: int) -> Arrays:
    """A guide whose own pairs are close (cosine about 0.7), so that some others are closer."""
    anchors = rng.normal(size=(n, E))
    return {"guide_anchors": anchors, "guide_positives": anchors + rng.normal(size=(n, E))}


def guide_with_negatives(k: int):
    def make(rng: np.random.Generator, n: int) -> Arrays:
        arrays = guide(rng, n)
        noise = rng.normal(size=(n, k, E))
        return {**arrays, "guide_negatives": 0.5 * arrays["guide_anchors"][:, None] + noise}

    return make


def both(*makers):
    return lambda rng, n: {name: x for make in makers for name, x in make(rng, n).items()}


def margin(x: float):
    """A margin below zero, which only an array may be."""
    return lambda rng: {"margin": np.asarray(x)}


gist = cases_of(references, "gist_embed_loss", rows=guide)
mega_batch = cases_of(references, "mega_batch_margin_loss")
sigmoid = cases_of(references, "sigmoid_loss")
orthogonal = cases_of(
    references, "global_orthogonal_regularization_loss", embeddings=column, reduction=None
)

CASES = [
    gist("default"),
    gist(
        "relative_margin_and_negatives",
        with_negatives(2),
        guide_with_negatives(2),
        margin_strategy="relative",
        margin=0.4,
        temperature=0.1,
    ),
    # With the margin of -0.3 most self similarities stay in the denominator.
    gist("negative_margin", parameters=margin(-0.3), temperature=0.2),
    gist("exclude_self", parameters=margin(-0.3), temperature=0.2, exclude_self=True),
    gist("anchors_alone", contrast_positives=False, parameters=margin(-0.1), temperature=0.1),
    gist("positives_alone", contrast_anchors=False, margin=0.1, temperature=0.1),
    gist("ids", rows=both(guide, ids), parameters=margin(-0.5), temperature=0.3),
    gist(
        "ids_of_negatives_and_margin",
        with_negatives(2),
        both(guide_with_negatives(2), ids_of_negatives(2)),
        parameters=margin(-0.3),
        temperature=0.3,
        false_negative_margin=-0.1,
    ),
    mega_batch("default"),
    mega_batch("learned_scale", parameters=lambda rng: {"scale": np.asarray(rng.uniform(0.5, 2))}),
    mega_batch(
        "dot", similarity_fn=similarity.dot, scale=0.3, positive_margin=1.5, negative_margin=0.6
    ),
    mega_batch(
        "ids_and_margin",
        rows=ids,
        positive_margin=0.4,
        negative_margin=0.1,
        false_negative_margin=-0.1,
    ),
    sigmoid("default"),
    sigmoid(
        "learned_scale_and_bias",
        parameters=lambda rng: {
            "scale": np.asarray(rng.uniform(1, 5)),
            "bias": np.asarray(rng.uniform(-3, 0)),
        },
    ),
    sigmoid(
        "ids_and_margin",
        rows=ids,
        similarity_fn=similarity.dot,
        scale=0.5,
        bias=0.5,
        false_negative_margin=-0.5,
    ),
    orthogonal("default"),
    orthogonal("ids", rows=text_ids, mean_weight=0.5, second_moment_weight=2.0),
    orthogonal(
        "second_moment_alone",
        mean_weight=0.0,
        second_moment_weight=2.0,
        similarity_fn=similarity.dot,
    ),
]
