"""Cases of GIST, mega-batch margin, sigmoid and the orthogonal regularizer."""

import numpy as np

from jaxembed import losses, similarity
from tests.losses.cases.case import (
    Arrays,
    Case,
    column,
    ids,
    ids_of_negatives,
    pair,
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


def gist(name: str, embeddings=pair, rows=guide, below_zero=None, **settings) -> Case:
    """`below_zero` is a margin that only an array may hold."""
    return Case(
        f"gist_embed_loss-{name}",
        losses.gist_embed_loss,
        references.gist_embed_loss,
        embeddings,
        rows,
        settings,
        parameters=lambda rng: {} if below_zero is None else {"margin": np.asarray(below_zero)},
    )


def mega_batch(name: str, rows=lambda rng, n: {}, parameters=lambda rng: {}, **settings) -> Case:
    return Case(
        f"mega_batch_margin_loss-{name}",
        losses.mega_batch_margin_loss,
        references.mega_batch_margin_loss,
        pair,
        rows,
        settings,
        parameters,
    )


def sigmoid(name: str, rows=lambda rng, n: {}, parameters=lambda rng: {}, **settings) -> Case:
    return Case(
        f"sigmoid_loss-{name}",
        losses.sigmoid_loss,
        references.sigmoid_loss,
        pair,
        rows,
        settings,
        parameters,
    )


def orthogonal(name: str, rows=lambda rng, n: {}, **settings) -> Case:
    return Case(
        f"global_orthogonal_regularization_loss-{name}",
        losses.global_orthogonal_regularization_loss,
        references.global_orthogonal_regularization_loss,
        column,
        rows,
        settings,
        reduction=None,
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
    gist("negative_margin", below_zero=-0.3, temperature=0.2),
    gist("exclude_self", below_zero=-0.3, temperature=0.2, exclude_self=True),
    gist("anchors_alone", contrast_positives=False, below_zero=-0.1, temperature=0.1),
    gist("positives_alone", contrast_anchors=False, margin=0.1, temperature=0.1),
    gist("ids", rows=both(guide, ids), below_zero=-0.5, temperature=0.3),
    gist(
        "ids_of_negatives_and_margin",
        with_negatives(2),
        both(guide_with_negatives(2), ids_of_negatives(2)),
        below_zero=-0.3,
        temperature=0.3,
        false_negative_margin=-0.1,
    ),
    mega_batch("default"),
    mega_batch("learned_scale", parameters=lambda rng: {"scale": np.asarray(rng.uniform(0.5, 2))}),
    mega_batch(
        "dot", similarity_fn=similarity.dot, scale=0.3, positive_margin=1.5, negative_margin=0.6
    ),
    mega_batch(
        "ids_and_margin", ids, positive_margin=0.4, negative_margin=0.1, false_negative_margin=-0.1
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
        ids,
        similarity_fn=similarity.dot,
        scale=0.5,
        bias=0.5,
        false_negative_margin=-0.5,
    ),
    orthogonal("default"),
    orthogonal("ids", text_ids, mean_weight=0.5, second_moment_weight=2.0),
    orthogonal(
        "second_moment_alone",
        mean_weight=0.0,
        second_moment_weight=2.0,
        similarity_fn=similarity.dot,
    ),
]
