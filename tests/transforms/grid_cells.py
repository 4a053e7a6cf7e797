"""The cells of the grid: every loss, every way to compute it, on one device and on two."""

import itertools
from dataclasses import replace

import numpy as np

from tests.losses.cases import CASES, Case

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


def loss_name(case: Case) -> str:
    return case.name.split("-")[0]


def richest(cases: list[Case]) -> Case:
    """The first of those with the most columns and, among these, the most other arrays."""

    def size(case: Case) -> tuple[int, int]:
        columns, rows = case.inputs(2)
        return len(columns), len(rows) + len(case.parameters(np.random.default_rng(0)))

    # Only the auxiliary term of a sparse auto-encoder has parts that are constants to the gradient.
    smooth = (
        replace(case, settings={**case.settings, "k_aux": 0}, differentiable=True)
        if "k_aux" in case.settings
        else case
        for case in cases
    )
    return max((case for case in smooth if case.differentiable), key=size)


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


GRID = {
    name: with_learned_numbers(richest(list(cases)))
    for name, cases in itertools.groupby(CASES, loss_name)
}
CELLS = [
    (case, way, devices)
    for name, case in GRID.items()
    for way in WAYS
    for devices in DEVICES
    if (name, way) not in REASONS
]
