"""Cases of jaxembed/losses/late_interaction.py."""

from functools import partial

import numpy as np

from jaxembed import late_interaction
from tests.losses.cases.case import Arrays, D, cases_of, ids, no_rows, text_ids
from tests.losses.references import late_interaction as references

QUERY_TOKENS, DOCUMENT_TOKENS = 3, 4


def tokens(k: int):
    """Tokens of queries and of their k documents, the first of them the positive."""

    def make(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
        queries = rng.normal(size=(n, QUERY_TOKENS, D))
        documents = 0.3 * queries[:, None, :1] + rng.normal(size=(n, k, DOCUMENT_TOKENS, D))
        return queries / np.sqrt(D), documents

    return make


def masks(k: int):
    """Ragged texts, with a hole here and there; one token of each is real."""

    def make(rng: np.random.Generator, n: int) -> Arrays:
        query_mask = rng.random((n, QUERY_TOKENS)) < 0.6
        document_mask = rng.random((n, k, DOCUMENT_TOKENS)) < 0.6
        query_mask[:, -1] |= ~query_mask.any(axis=-1)
        document_mask[..., -1] |= ~document_mask.any(axis=-1)
        return {"query_mask": query_mask, "document_mask": document_mask}

    return make


def masks_and_real_documents(k: int):
    """As `masks`; some documents are not real, but two of each row are."""

    def make(rng: np.random.Generator, n: int) -> Arrays:
        where = rng.random((n, k)) < 0.6
        where[:, :2] = True
        return {**masks(k)(rng, n), "documents_where": where}

    return make


def masks_and_ids(k: int):
    def make(rng: np.random.Generator, n: int) -> Arrays:
        of_positives = ids(rng, n)["ids"]
        others = of_positives[rng.integers(0, n, size=(n, k - 1))]
        document_ids = np.concatenate([of_positives[:, None], others], axis=1)
        return {**masks_and_real_documents(k)(rng, n), "document_ids": document_ids}

    return make


def teacher(name: str, columns: int, rows):
    return lambda rng, n: {name: 2 * rng.normal(size=(n, columns)), **rows(rng, n)}


ranking = cases_of(references, "multi_vector_multiple_negatives_ranking_loss")
distill = cases_of(references, "multi_vector_distill_kl_div_loss")
margin_mse = cases_of(references, "multi_vector_margin_mse_loss")

CASES = [
    ranking("default", tokens(1), text_ids),
    ranking("ids_and_masks", tokens(3), masks_and_ids(3), scale=0.5),
    ranking("mean", tokens(2), masks(2), similarity_fn=late_interaction.mean_maxsim, scale=5.0),
    ranking("xtr", tokens(2), masks_and_real_documents(2), similarity_fn=late_interaction.xtr),
    ranking(
        "xtr_of_few", tokens(2), masks(2), similarity_fn=partial(late_interaction.xtr, top_k=3)
    ),
    distill("default", tokens(3), teacher("scores", 3, no_rows)),
    distill(
        "masks",
        tokens(3),
        teacher("scores", 3, masks_and_real_documents(3)),
        similarity_fn=late_interaction.paired_mean_maxsim,
        student_temperature=0.7,
        teacher_temperature=2.0,
    ),
    margin_mse("margins", tokens(2), teacher("margins", 1, masks(2))),
    margin_mse("scores", tokens(3), teacher("scores", 3, masks_and_real_documents(3))),
]
