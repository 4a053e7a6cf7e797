"""The cells of the grid: every loss, every way to compute it, on one device and on two."""

from dataclasses import replace

import numpy as np

from tests.losses.cases import CASES_OF, Case, loss_name, richest

WAYS = ("plain", "cached", "matryoshka", "adaptive_layer", "2d", "cached_over_2d")
CACHED = ("cached", "cached_over_2d")
OF_WIDTHS = ("matryoshka", "2d", "cached_over_2d")
OF_LAYERS = ("adaptive_layer", "2d", "cached_over_2d")
DEVICES = (1, 2)

# What has no test, and why: ways and losses for each reason.
SCORES = "scores of documents have no features to cut, and no layer has them but the last"
LOGITS = "logits of words have no features to cut, and no layer has them but the last"
WORDS = (
    "the first words of a vocabulary are no smaller embedding, and no layer has any but the last"
)
WIDTH = "its own parameters have the width of the embeddings"
LISTED = {
    SCORES: (
        ("matryoshka", *OF_LAYERS),
        (
            "reranking.adr_mse_loss",
            "reranking.binary_cross_entropy_loss",
            "reranking.cross_entropy_loss",
            "reranking.lambda_loss",
            "reranking.listmle_loss",
            "reranking.listnet_loss",
            "reranking.margin_mse_loss",
            "reranking.mse_loss",
            "reranking.multiple_negatives_ranking_loss",
            "reranking.p_listmle_loss",
            "reranking.ranknet_loss",
        ),
    ),
    LOGITS: (("matryoshka", *OF_LAYERS), ("denoising_auto_encoder_loss",)),
    WORDS: (("matryoshka", *OF_LAYERS), ("flops_loss", "splade_loss")),
    WIDTH: (OF_WIDTHS, ("softmax_loss", "csr_loss", "csr_reconstruction_loss")),
}
REASONS = {
    (name, way): reason
    for reason, (ways, names) in LISTED.items()
    for way in ways
    for name in names
}


def smooth(cases: list[Case]) -> list[Case]:
    """Returns the differentiable cases; a sparse auto-encoder's without its auxiliary term."""
    without = (
        replace(case, settings={**case.settings, "k_aux": 0}, differentiable=True)
        if "k_aux" in case.settings
        else case
        for case in cases
    )
    return [case for case in without if case.differentiable]


CONSTANT = {"teacher_temperature": "what the teacher says is a constant"}


def with_learned_numbers(case: Case) -> Case:
    """The case with its scales, margins and weights as parameters, which have gradients."""
    numbers = {
        name: np.asarray(x)
        for name, x in case.settings.items()
        if isinstance(x, float) and name not in CONSTANT
    }
    return replace(
        case,
        settings={name: x for name, x in case.settings.items() if name not in numbers},
        parameters=lambda rng: {**case.parameters(rng), **numbers},
    )


GRID = {name: with_learned_numbers(richest(smooth(cases))) for name, cases in CASES_OF.items()}
CELLS = [
    (case, way, devices)
    for name, case in GRID.items()
    for way in WAYS
    for devices in DEVICES
    if (name, way) not in REASONS
]

# The fast lane computes all cells of one loss of each kind, and two of each other loss: the one
# that contains most of the rest, which is the last way on two devices, and the plain one or, where
# the last way is not cached, the cached one.
OF_EVERY_KIND = {
    "cosine_similarity_loss",  # pairs, each row by itself
    "multiple_negatives_ranking_loss",  # in-batch, with ids and negatives
    "gist_embed_loss",  # in-batch, with a guide
    "batch_hard_triplet_loss",  # mines its triplets in the batch
    "multi_vector_multiple_negatives_ranking_loss",  # token vectors with masks
    "reranking.lambda_loss",  # lists of scores
}


def is_fast(case: Case, way: str, devices: int) -> bool:
    name = loss_name(case)
    last = [way for way in WAYS if (name, way) not in REASONS][-1]
    covering = {("plain", 1), (last, 2)} if last in CACHED else {("cached", 2), (last, 2)}
    return name in OF_EVERY_KIND or (way, devices) in covering
