"""Records the losses over token embeddings: documents [n k t d] with the positive first.

    python tests/goldens/losses/late_interaction.py

The library takes one column for each place of the stack.
"""

import logging
from typing import Any

import numpy as np
import torch
from record import Arrays, Columns, Recorder
from sentence_transformers.multi_vector_encoder.losses import (
    MultiVectorDistillKLDivLoss,
    MultiVectorMarginMSELoss,
    MultiVectorMultipleNegativesRankingLoss,
)
from sentence_transformers.multi_vector_encoder.scoring import (
    XTRScores,
    colbert_kd_scores,
    colbert_scores,
    colbert_scores_pairwise,
    mean_colbert_kd_scores,
    mean_colbert_scores,
    mean_colbert_scores_pairwise,
)
from torch import Tensor

ROWS, QUERY_TOKENS, DOCUMENT_TOKENS, DIMENSIONS = 4, 3, 5, 6

RANKING, DISTILL, MARGIN_MSE = (
    f"multi_vector_{name}_loss"
    for name in ["multiple_negatives_ranking", "distill_kl_div", "margin_mse"]
)
CLASSES: dict[str, Any] = {
    RANKING: MultiVectorMultipleNegativesRankingLoss,
    DISTILL: MultiVectorDistillKLDivLoss,
    MARGIN_MSE: MultiVectorMarginMSELoss,
}
SIMILARITIES: dict[tuple[str, str], Any] = {
    (RANKING, "maxsim"): colbert_scores,
    (RANKING, "mean_maxsim"): mean_colbert_scores,
    (DISTILL, "paired_maxsim"): colbert_kd_scores,
    (DISTILL, "paired_mean_maxsim"): mean_colbert_kd_scores,
    (MARGIN_MSE, "paired_maxsim"): colbert_scores_pairwise,
    (MARGIN_MSE, "paired_mean_maxsim"): mean_colbert_scores_pairwise,
}

MEAN = {"similarity_fn": "mean_maxsim"}
PAIRED_MEAN = {"similarity_fn": "paired_mean_maxsim"}
TEMPERATURES = {"student_temperature": 0.7, "teacher_temperature": 3.0}


def xtr(top_k: int) -> dict[str, Any]:
    return {"scale": 5.0, "similarity_fn": ["xtr", {"top_k": top_k}]}


# Name, loss, documents per query, masks, settings. Masks: none, of lengths,
# with holes, or of lengths but for one text without any token.
CASES: list[tuple[str, str, int, str | None, dict[str, Any]]] = [
    ("ranking_1_document", RANKING, 1, None, {}),
    ("ranking_2_documents", RANKING, 2, None, {"scale": 3.0}),
    ("ranking_3_documents", RANKING, 3, None, {"scale": 0.5, "similarity_fn": "maxsim"}),
    ("ranking_lengths_1", RANKING, 1, "lengths", {"scale": 4.0}),
    ("ranking_lengths_2", RANKING, 2, "lengths", {}),
    ("ranking_lengths_3", RANKING, 3, "lengths", {"scale": 2.0}),
    ("ranking_holes", RANKING, 2, "holes", {"scale": 2.0}),
    ("ranking_empty_negative", RANKING, 3, "empty negative", {"scale": 2.0}),
    ("ranking_empty_positive", RANKING, 2, "empty positive", {"scale": 2.0}),
    ("ranking_empty_query", RANKING, 2, "empty query", {"scale": 2.0}),
    ("ranking_mean", RANKING, 2, "lengths", MEAN | {"scale": 20.0}),
    ("ranking_mean_unmasked", RANKING, 1, None, MEAN | {"scale": 10.0}),
    ("ranking_mean_empty_query", RANKING, 2, "empty query", MEAN),
    ("ranking_mean_empty_negative", RANKING, 2, "empty negative", MEAN),
    ("ranking_mean_empty_positive", RANKING, 2, "empty positive", MEAN),
    ("ranking_xtr_top_4", RANKING, 1, None, xtr(4)),
    ("ranking_xtr_top_7", RANKING, 2, "lengths", xtr(7)),
    ("ranking_xtr_top_1", RANKING, 3, "lengths", xtr(1)),
    ("ranking_xtr_all", RANKING, 2, "lengths", {"scale": 5.0, "similarity_fn": "xtr"}),
    ("ranking_xtr_holes", RANKING, 3, "holes", xtr(9)),
    ("ranking_xtr_empty_negative", RANKING, 2, "empty negative", xtr(6)),
    ("ranking_xtr_empty_query", RANKING, 2, "empty query", xtr(6)),
    ("distill", DISTILL, 3, None, {}),
    ("distill_lengths", DISTILL, 3, "lengths", {"temperature": 2.0}),
    ("distill_two_documents", DISTILL, 2, "lengths", {"temperature": 0.5}),
    ("distill_temperatures", DISTILL, 3, "lengths", TEMPERATURES),
    ("distill_student", DISTILL, 2, "holes", {"temperature": 2.0, "student_temperature": 0.5}),
    ("distill_empty_query", DISTILL, 3, "empty query", {}),
    ("distill_mean", DISTILL, 3, "lengths", PAIRED_MEAN | {"temperature": 0.1}),
    ("margins_1", MARGIN_MSE, 2, "lengths", {}),
    ("margins_2", MARGIN_MSE, 3, "lengths", {}),
    ("margins_2_unmasked", MARGIN_MSE, 3, None, {}),
    ("margins_empty_query", MARGIN_MSE, 3, "empty query", {}),
    ("margins_mean", MARGIN_MSE, 3, "holes", PAIRED_MEAN),
    ("scores_1", MARGIN_MSE, 2, "lengths", {}),
    ("scores_2", MARGIN_MSE, 3, None, {}),
    ("scores_mean", MARGIN_MSE, 3, "lengths", PAIRED_MEAN),
]


def unit_tokens(rng: np.random.Generator, *shape: int) -> np.ndarray:
    tokens = rng.normal(size=(*shape, DIMENSIONS))
    return tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)


def masks(rng: np.random.Generator, documents: int, kind: str) -> Arrays:
    def mask(*shape: int) -> np.ndarray:
        if kind == "holes":
            real = rng.random(shape) < 0.6
            real[..., -1] |= ~real.any(-1)
            return real
        lengths = rng.integers(1, shape[-1] + 1, shape[:-1])
        return np.arange(shape[-1]) < lengths[..., None]

    query, document = mask(ROWS, QUERY_TOKENS), mask(ROWS, documents, DOCUMENT_TOKENS)
    query[2] &= kind != "empty query"
    query[1] |= kind == "empty positive"
    document[1, 0] &= kind != "empty positive"
    document[1, documents - 1] &= kind != "empty negative"
    return {"query_mask": query, "document_mask": document}


def targets(rng: np.random.Generator, name: str, loss: str, documents: int) -> Arrays:
    if loss == RANKING:
        return {}
    if name.startswith("margins"):
        return {"margins": rng.normal(size=(ROWS, documents - 1))}
    return {"scores": 2 * rng.normal(size=(ROWS, documents))}


def compute(tensors: dict[str, Tensor], loss: str, settings: dict[str, Any]) -> Tensor:
    queries, documents = tensors["queries"], tensors["documents"]
    query_mask = tensors.get("query_mask", torch.ones(queries.shape[:-1], dtype=torch.bool))
    document_mask = tensors.get("document_mask", torch.ones(documents.shape[:-1], dtype=torch.bool))
    columns = [queries, *documents.unbind(1)]
    features = [
        {"token_embeddings": column, "attention_mask": mask}
        for column, mask in zip(columns, [query_mask, *document_mask.unbind(1)], strict=True)
    ]
    keywords = {key: value for key, value in settings.items() if key != "similarity_fn"}
    match settings.get("similarity_fn"):
        case None:
            pass
        case "xtr":
            keywords["similarity_fct"] = XTRScores()
        case ["xtr", options]:
            keywords["similarity_fct"] = XTRScores(**options)
        case similarity:
            keywords["similarity_fct"] = SIMILARITIES[loss, similarity]
    labels = tensors.get("margins", tensors.get("scores"))
    return CLASSES[loss](Columns(), **keywords)(features, labels)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    torch.set_default_dtype(torch.float64)
    recorder, rng = Recorder("late_interaction"), np.random.default_rng(61)
    for name, loss, documents, kind, settings in CASES:
        recorder.add(
            name,
            loss,
            lambda tensors, loss=loss, settings=settings: compute(tensors, loss, settings),
            embeddings={
                "queries": unit_tokens(rng, ROWS, QUERY_TOKENS),
                "documents": unit_tokens(rng, ROWS, documents, DOCUMENT_TOKENS),
            },
            keywords=targets(rng, name, loss, documents)
            | ({} if kind is None else masks(rng, documents, kind)),
            settings=settings,
        )
    recorder.save()
