"""Cases of jaxembed/losses/ranking.py."""

import numpy as np

from jaxembed import similarity
from tests.losses.cases.case import (
    cases_of,
    ids,
    ids_of_negatives,
    pair,
    text_ids,
    with_negatives,
)
from tests.losses.references import ranking as references

ALL_DIRECTIONS = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
BOTH_WAYS = ("query_to_doc", "doc_to_query")


ranking = cases_of(references, "multiple_negatives_ranking_loss")
symmetric = cases_of(references, "multiple_negatives_symmetric_ranking_loss")

CASES = [
    ranking("default"),
    ranking("negatives", with_negatives(3)),
    ranking("all_directions", with_negatives(2), directions=ALL_DIRECTIONS),
    ranking("per_direction", pair, directions=BOTH_WAYS, partition_mode="per_direction"),
    ranking("ids", pair, ids, directions=ALL_DIRECTIONS),
    ranking("ids_of_negatives", with_negatives(2), ids_of_negatives(2), directions=ALL_DIRECTIONS),
    ranking("ids_of_positives_and_dot", pair, text_ids, similarity_fn=similarity.dot, scale=0.5),
    ranking("margin", with_negatives(2), directions=ALL_DIRECTIONS, false_negative_margin=0.1),
    *(
        ranking(
            mode,
            with_negatives(2),
            hardness_mode=mode,
            hardness_strength=5.0,
            differentiable=False,
        )
        for mode in ("in_batch_negatives", "hard_negatives", "all_negatives")
    ),
    ranking("learned_scale", parameters=lambda rng: {"scale": np.asarray(rng.uniform(5, 30))}),
    symmetric("default"),
    symmetric(
        "options",
        with_negatives(2),
        ids_of_negatives(2),
        scale=3.0,
        similarity_fn=similarity.euclidean,
        false_negative_margin=0.5,
    ),
]
