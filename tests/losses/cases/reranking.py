"""Cases of jaxembed/losses/reranking; masks of single documents are in test_reranking.py."""

from functools import partial

import numpy as np

from jaxembed.losses import reranking
from tests.losses.cases.case import Arrays, Case, Inputs
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


def row(loss: str, name: str, embeddings, rows=lambda rng, n: {}, **settings) -> Case:
    return Case(
        f"reranking.{loss}-{name}",
        getattr(reranking, loss),
        getattr(references, loss),
        embeddings,
        rows,
        settings,
    )


def of_lists(loss: str, name: str, rows=grades, weighting: str | None = None, **settings) -> Case:
    """A case of lists. A weighting is a function, another one for the reference."""
    ours, theirs = getattr(reranking, loss), getattr(references, loss)
    if weighting is not None:
        ours = partial(ours, weighting=getattr(reranking, weighting))
        theirs = partial(
            theirs,
            weighting=getattr(references, weighting),
            all_pairs=weighting == "ndcg_loss1",
        )
    return Case(
        f"reranking.{loss}-{name}",
        ours,
        theirs,
        some_scores,
        rows,
        settings,
        reduction="mean" if "list" in loss else None,
        expand_where=all_documents,
    )


LIST_CASES = [
    of_lists("listnet_loss", "default"),
    of_lists("listnet_loss", "activation", logits, activation_fn=squash),
    of_lists("listmle_loss", "default", lambda rng, n: {}),
    of_lists("listmle_loss", "labels", logits, respect_input_order=False),
    of_lists("p_listmle_loss", "default", lambda rng, n: {}),
    of_lists("p_listmle_loss", "labels", grades, respect_input_order=False),
    of_lists("lambda_loss", "default"),
    of_lists("lambda_loss", "top", logits, k=2, sigma=0.5, activation_fn=squash),
    of_lists("lambda_loss", "epsilon", epsilon=9.0, reduction_log="natural"),
    *(
        of_lists("lambda_loss", weighting, weighting=weighting, k=3)
        for weighting in ("no_weighting", "ndcg_loss1", "ndcg_loss2", "lambda_rank")
    ),
    of_lists("ranknet_loss", "default"),
    of_lists("ranknet_loss", "top", k=1, sigma=2.0, reduction_log="natural"),
    of_lists("adr_mse_loss", "default"),
    of_lists("adr_mse_loss", "alpha", alpha=3.0, activation_fn=squash),
]

CASES = [
    row("binary_cross_entropy_loss", "default", one_score, relevance),
    row("binary_cross_entropy_loss", "pos_weight", one_score, relevance, pos_weight=3.0),
    row("cross_entropy_loss", "default", some_scores, classes),
    row("mse_loss", "default", one_score, relevance),
    row("mse_loss", "activation", one_score, relevance, activation_fn=squash),
    row("margin_mse_loss", "margins", some_scores, margins),
    row("margin_mse_loss", "scores", some_scores, teacher_scores, activation_fn=squash),
    row("multiple_negatives_ranking_loss", "default", some_scores),
    row("multiple_negatives_ranking_loss", "scale", some_scores, negatives_where, scale=3.0),
    *LIST_CASES,
]
