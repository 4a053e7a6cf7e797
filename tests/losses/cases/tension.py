"""Cases of jaxembed/losses/tension.py."""

import numpy as np

from jaxembed import losses, similarity
from tests.losses.cases.case import Case, binary_labels, pair, text_ids
from tests.losses.references import tension as references


def tension(name: str, **settings) -> Case:
    return Case(
        f"contrastive_tension_loss-{name}",
        losses.contrastive_tension_loss,
        references.contrastive_tension_loss,
        pair,
        binary_labels,
        settings,
        reduction="total",
    )


def in_batch(name: str, rows=lambda rng, n: {}, parameters=lambda rng: {}, **settings) -> Case:
    return Case(
        f"contrastive_tension_in_batch_negatives_loss-{name}",
        losses.contrastive_tension_in_batch_negatives_loss,
        references.contrastive_tension_in_batch_negatives_loss,
        pair,
        rows,
        settings,
        parameters,
    )


CASES = [
    tension("default"),
    tension("cosine", scale=20.0, similarity_fn=similarity.paired_cosine),
    in_batch("default"),
    in_batch("learned_scale", parameters=lambda rng: {"scale": np.asarray(rng.uniform(5, 30))}),
    in_batch(
        "ids_and_margin",
        text_ids,
        scale=0.7,
        similarity_fn=similarity.dot,
        false_negative_margin=-0.5,
    ),
]
