"""Cases of jaxembed/losses/reranking; masks of single documents are in test_reranking.py."""

from functools import partial
from typing import Any

import numpy as np

from jaxembed.losses import reranking
from tests.losses.cases.case import Arrays, Inputs, cases_of, no_rows
from tests.losses.references import reranking as references

K = 5


def squash(x):
    """An activation that is no symmetric function, in NumPy as in JAX."""
    return (x + 0.5) / (1 + x * x)


def one_score(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    return (2 * rng.normal(size=n) + 0.3,)


def some_scores(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    return (2 * rng.normal(size=(n, K)) + 0.3,)


def relevance(rng: np.random.Generator, n: int) -> Arrays:
    return {"labels": rng.random(n)}


def classes(rng: np.random.Generator, n: int) -> Arrays:
    return {"labels": rng.integers(0, K, size=n, dtype=np.int32)}


def margins(rng: np.random.Generator, n: int) -> Arrays:
    return {"margins": rng.normal(size=(n, K - 1))}


def teacher_scores(rng: np.random.Generator, n: int) -> Arrays:
    return {"teacher_scores": rng.normal(size=(n, K)), **negatives_where(rng, n)}


def negatives_where(rng: np.random.Generator, n: int) -> Arrays:
    where = rng.random((n, K - 1)) < 0.6
    where[:, 1] = True
    return {"negatives_where": where}


def grades(rng: np.random.Generator, n: int) -> Arrays:
    """Integers with ties, some below 0, and one document that is better than the rest."""
    labels = rng.integers(-1, 3, size=(n, K), dtype=np.int32)
    labels[:, 1] = 3
    return {"labels": labels}


def logits(rng: np.random.Generator, n: int) -> Arrays:
    return {"labels": rng.normal(size=(n, K))}


def all_documents(where: np.ndarray, inputs: Inputs) -> np.ndarray:
    return np.broadcast_to(where[:, None], inputs[0][0].shape)


def weighted(weighting: str) -> dict[str, Any]:
    """A weighting is a function, another one for the reference."""
    return {
        "loss": partial(reranking.lambda_loss, weighting=getattr(reranking, weighting)),
        "reference": partial(
            references.lambda_loss,
            weighting=getattr(references, weighting),
            all_pairs=weighting == "ndcg_loss1",
        ),
    }


of_one = partial(cases_of, references, embeddings=one_score, rows=relevance)
binary_cross_entropy = of_one("reranking.binary_cross_entropy_loss")
mse = of_one("reranking.mse_loss")

of_some = partial(cases_of, references, embeddings=some_scores)
cross_entropy = of_some("reranking.cross_entropy_loss", rows=classes)
margin_mse = of_some("reranking.margin_mse_loss")
ranking = of_some("reranking.multiple_negatives_ranking_loss")

of_lists = partial(of_some, rows=grades, expand_where=all_documents)
listnet = of_lists("reranking.listnet_loss")
listmle = of_lists("reranking.listmle_loss")
p_listmle = of_lists("reranking.p_listmle_loss")
lambda_loss = of_lists("reranking.lambda_loss", reduction=None)
ranknet = of_lists("reranking.ranknet_loss", reduction=None)
adr_mse = of_lists("reranking.adr_mse_loss", reduction=None)

LIST_CASES = [
    listnet("default"),
    listnet("activation", rows=logits, activation_fn=squash),
    listmle("default", rows=no_rows),
    listmle("labels", rows=logits, respect_input_order=False),
    p_listmle("default", rows=no_rows),
    p_listmle("labels", respect_input_order=False),
    lambda_loss("default"),
    lambda_loss("top", rows=logits, k=2, sigma=0.5, activation_fn=squash),
    lambda_loss("epsilon", epsilon=9.0, reduction_log="natural"),
    *(
        lambda_loss(weighting, k=3, **weighted(weighting))
        for weighting in ("no_weighting", "ndcg_loss1", "ndcg_loss2", "lambda_rank")
    ),
    ranknet("default"),
    ranknet("top", k=1, sigma=2.0, reduction_log="natural"),
    adr_mse("default"),
    adr_mse("alpha", alpha=3.0, activation_fn=squash),
]

CASES = [
    binary_cross_entropy("default"),
    binary_cross_entropy("pos_weight", pos_weight=3.0),
    cross_entropy("default"),
    mse("default"),
    mse("activation", activation_fn=squash),
    margin_mse("margins", rows=margins),
    margin_mse("scores", rows=teacher_scores, activation_fn=squash),
    ranking("default"),
    ranking("scale", rows=negatives_where, scale=3.0),
    *LIST_CASES,
]
