"""Cases of jaxembed/losses/tension.py."""

import numpy as np

from jaxembed import similarity
from tests.losses.cases.case import binary_labels, cases_of, text_ids
from tests.losses.references import tension as references

tension = cases_of(references, "contrastive_tension_loss", rows=binary_labels, reduction="total")
in_batch = cases_of(references, "contrastive_tension_in_batch_negatives_loss")

CASES = [
    tension("default"),
    tension("cosine", scale=20.0, similarity_fn=similarity.paired_cosine),
    in_batch("default"),
    in_batch("learned_scale", parameters=lambda rng: {"scale": np.asarray(rng.uniform(5, 30))}),
    in_batch(
        "ids_and_margin",
        rows=text_ids,
        scale=0.7,
        similarity_fn=similarity.dot,
        false_negative_margin=-0.5,
    ),
]
