"""Records the sparse losses: FLOPS, SPLADE over each base loss, CSR through its auto-encoder.

    python tests/goldens/losses/sparse.py

A value is the sum of the parts that the library returns. The CSR cases give the auto-encoder's
inputs; `last_nonzero` are its counters before the step, `expected_last_nonzero` those after it.
"""

import logging
from functools import partial
from typing import Any

import numpy as np
import torch
from record import Arrays, Columns, Recorder
from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric
from sentence_transformers.sparse_encoder.losses import (
    CSRLoss,
    CSRReconstructionLoss,
    FlopsLoss,
    SparseAnglELoss,
    SparseCoSENTLoss,
    SparseCosineSimilarityLoss,
    SparseDistillKLDivLoss,
    SparseMarginMSELoss,
    SparseMultipleNegativesRankingLoss,
    SparseTripletLoss,
    SpladeLoss,
)
from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder
from torch import Tensor, nn

ROWS, VOCABULARY = 4, 11
PAIR = {"queries": (), "positives": ()}
ONE_NEGATIVE, TWO_NEGATIVES = PAIR | {"negatives": (1,)}, PAIR | {"negatives": (2,)}
CANDIDATES = {"queries": (), "candidates": (3,)}
RANKING = ["multiple_negatives_ranking_loss", {"scale": 1.0, "similarity_fn": "dot"}]
DISTILL = ["distill_kl_div_loss", {"temperature": 2.0}]
TRIPLET = ["triplet_loss", {"margin": 0.5}]
TRIPLET_CLASS = partial(
    SparseTripletLoss, distance_metric=TripletDistanceMetric.EUCLIDEAN, triplet_margin=0.5
)

# Name, class, `loss_fn`, and what lies between rows and vocabulary, for each column and each label.
BASES: list[tuple[str, Any, Any, dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]] = [
    ("ranking", SparseMultipleNegativesRankingLoss, RANKING, PAIR, {}),
    ("ranking_1", SparseMultipleNegativesRankingLoss, RANKING, ONE_NEGATIVE, {}),
    ("ranking_2", SparseMultipleNegativesRankingLoss, RANKING, TWO_NEGATIVES, {}),
    ("margins_1", SparseMarginMSELoss, "margin_mse_loss", ONE_NEGATIVE, {"margins": (1,)}),
    ("margins_2", SparseMarginMSELoss, "margin_mse_loss", TWO_NEGATIVES, {"margins": (2,)}),
    ("teacher_scores", SparseMarginMSELoss, "margin_mse_loss", TWO_NEGATIVES, {"scores": (3,)}),
    ("distill", SparseDistillKLDivLoss, DISTILL, CANDIDATES, {"scores": (3,)}),
    ("cosine", SparseCosineSimilarityLoss, "cosine_similarity_loss", PAIR, {"scores": ()}),
    ("triplet", TRIPLET_CLASS, TRIPLET, PAIR | {"negatives": ()}, {}),
    ("cosent", SparseCoSENTLoss, "cosent_loss", PAIR, {"scores": ()}),
    ("angle", SparseAnglELoss, "angle_loss", PAIR, {"scores": ()}),
]
REGULARIZERS = {
    "documents": {"document_regularizer_weight": 0.3},
    "both": {"document_regularizer_weight": 0.3, "query_regularizer_weight": 0.2},
    "thresholds": {
        "document_regularizer_weight": 0.3,
        "query_regularizer_weight": 0.2,
        "document_regularizer_threshold": 5,
        "query_regularizer_threshold": 4,
    },
    "document_regularizer_only": {
        "document_regularizer_weight": 0.3,
        "use_document_regularizer_only": True,
    },
    # The library ignores the query's weight here.
    "document_regularizer_only_with_query_weight": {
        "document_regularizer_weight": 0.3,
        "query_regularizer_weight": 0.2,
        "use_document_regularizer_only": True,
    },
}

CODER = {"k": 3, "k_aux": 5, "normalize": False, "dead_threshold": 30}
# Name, rows, columns, lowest and highest counter, settings that differ from `CODER`.
# A counter of 30 is dead as soon as the step has counted on.
CSR_CASES: list[tuple[str, int, int, int, int, dict[str, Any]]] = [
    ("alive", 5, 2, 0, 3, {}),
    ("alive_normalized", 5, 2, 0, 3, {"normalize": True}),
    ("dead", 5, 2, 28, 33, {}),
    ("dead_normalized", 5, 2, 28, 33, {"normalize": True}),
    ("dead_three_columns", 5, 3, 20, 40, {}),
    ("dead_three_columns_normalized", 5, 3, 20, 40, {"normalize": True}),
    ("dead_on_the_way", 5, 3, 27, 29, {"k": 1}),
    ("all_long_dead", 5, 2, 90, 99, {"k": 1, "k_aux": 16}),
    ("low_threshold", 5, 3, 0, 5, {"k": 2, "k_aux": 20, "dead_threshold": 3}),
    ("without_aux", 5, 2, 28, 33, {"k_aux": 0}),
    ("one_row", 1, 2, 28, 33, {}),
]
CSR_WEIGHTS = [{"beta": 0.1, "gamma": 1.0}, {"beta": 2.0, "gamma": 0.3}]
DIMENSIONS, LATENTS = 6, 20


def sparse_vectors(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = np.maximum(rng.normal(size=shape), 0)
    assert (vectors != 0).any(-1).all()
    return vectors


def unstacked(tensors: dict[str, Tensor], names: Any) -> list[Tensor]:
    """The library's columns: a stack of documents becomes one column for each place."""
    return [
        column
        for name in names
        for column in ([tensors[name]] if tensors[name].ndim == 2 else tensors[name].unbind(1))
    ]


def add_flops(recorder: Recorder, rng: np.random.Generator) -> None:
    for threshold in [None, 0, 4, 5, VOCABULARY]:
        recorder.add(
            f"flops_threshold_{threshold}",
            "flops_loss",
            lambda tensors, threshold=threshold: FlopsLoss(
                Columns(), threshold
            ).compute_loss_from_embeddings(tensors["embeddings"]),
            embeddings={"embeddings": sparse_vectors(rng, 7, VOCABULARY)},
            settings={} if threshold is None else {"threshold": threshold},
        )


def splade_settings(loss_fn: Any, regularizers: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {"loss_fn": loss_fn}
    for key, value in regularizers.items():
        if key.endswith("_threshold"):
            settings[key.removesuffix("_threshold")] = ["flops_loss", {"threshold": value}]
        else:
            settings[key] = value
    return settings


def add_splade(recorder: Recorder, rng: np.random.Generator) -> None:
    for name, base, loss_fn, columns, labels in BASES:
        for variant, regularizers in REGULARIZERS.items():
            keywords = {
                key: np.round(2 * rng.normal(size=(ROWS, *k))) / 2 for key, k in labels.items()
            }

            def compute(
                tensors: dict[str, Tensor],
                base: Any = base,
                regularizers: dict[str, Any] = regularizers,
                columns: Any = columns,
                labels: Any = labels,
            ) -> Tensor:
                model = Columns()
                features = [{"sentence_embedding": x} for x in unstacked(tensors, columns)]
                targets = next((tensors[key] for key in labels), None)
                parts = SpladeLoss(model, base(model), **regularizers)(features, targets)
                return sum(parts.values())

            recorder.add(
                f"splade_{name}_{variant}",
                "splade_loss",
                compute,
                embeddings={
                    key: sparse_vectors(rng, ROWS, *k, VOCABULARY) for key, k in columns.items()
                },
                keywords=keywords,
                settings=splade_settings(loss_fn, regularizers),
            )


def auto_encoder(tensors: dict[str, Tensor], settings: dict[str, Any]) -> nn.Module:
    """The library's module in training, with the tensors in the place of its own parameters."""
    module = SparseAutoEncoder(DIMENSIONS, LATENTS, **{key: settings[key] for key in CODER}).train()
    for owner, key in [(module.encoder, "weight"), (module, "pre_bias"), (module, "latent_bias")]:
        delattr(owner, key)
        setattr(owner, key, tensors[key])
    module.stats_last_nonzero.copy_(tensors["last_nonzero"])
    return module


def csr(tensors: dict[str, Tensor], names: list[str], settings: dict[str, Any]) -> Tensor:
    module = auto_encoder(tensors, settings)
    features = [{"sentence_embedding": column} for column in unstacked(tensors, names)]
    if "gamma" in settings:
        parts = CSRLoss(module, beta=settings["beta"], gamma=settings["gamma"])(features)
    else:
        loss = CSRReconstructionLoss(module, beta=settings["beta"])
        parts = loss.compute_loss_from_embeddings([module(column) for column in features])
    tensors["expected_last_nonzero"].copy_(module.stats_last_nonzero)
    return sum(parts.values())


def csr_parameters(rng: np.random.Generator) -> Arrays:
    return {
        "weight": rng.normal(size=(LATENTS, DIMENSIONS)) / np.sqrt(DIMENSIONS),
        "pre_bias": 0.3 * rng.normal(size=DIMENSIONS),
        "latent_bias": 0.3 * rng.normal(size=LATENTS),
    }


def add_csr(recorder: Recorder, rng: np.random.Generator) -> None:
    for name, rows, count, lowest, highest, changes in CSR_CASES:
        names = [*ONE_NEGATIVE][:count]
        for prefix, weights in [
            ("csr", CSR_WEIGHTS[0]),
            ("csr_weighted", CSR_WEIGHTS[1]),
            ("csr_reconstruction", {"beta": 1.0}),
            ("csr_reconstruction_weighted", {"beta": 0.4}),
        ]:
            settings = CODER | changes | weights
            kind = prefix.removesuffix("_weighted")
            recorder.add(
                f"{prefix}_{name}",
                f"{kind}_through_auto_encoder",
                lambda tensors, names=names, settings=settings: csr(tensors, names, settings),
                embeddings={
                    key: rng.normal(size=(rows, *ONE_NEGATIVE[key], DIMENSIONS)) for key in names
                },
                keywords={
                    "last_nonzero": rng.integers(lowest, highest + 1, LATENTS),
                    "expected_last_nonzero": np.zeros(LATENTS, np.int64),
                },
                parameters=csr_parameters(rng),
                settings=settings,
            )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    torch.set_default_dtype(torch.float64)
    recorder, rng = Recorder("sparse"), np.random.default_rng(60)
    add_flops(recorder, rng)
    add_splade(recorder, rng)
    add_csr(recorder, rng)
    recorder.save()
