"""Cases of jaxembed/losses/distillation.py."""

import numpy as np

from jaxembed import similarity
from tests.losses.cases.case import Arrays, D, cases_of, column, mask_of_negatives, with_negatives
from tests.losses.references import distillation as references

E = 4  # width of the teacher where it need not be the student's
TOKENS, VOCABULARY, PAD = 5, 7, 2


def teacher(rng: np.random.Generator, n: int) -> Arrays:
    return {"teacher": rng.normal(size=(n, D))}


def margins(k: int):
    return lambda rng, n: {"margins": 2 * rng.normal(size=(n, k))}


def scores_of(k: int):
    return lambda rng, n: {"scores": 2 * rng.normal(size=(n, k))}


def margins_and_mask(k: int):
    return lambda rng, n: {
        **margins(k)(rng, n),
        "negatives_where": mask_of_negatives(rng, n, k),
    }


def candidates(k: int):
    def make(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
        queries, _, others = with_negatives(k)(rng, n)
        return queries, others

    return make


def scores_and_mask(k: int):
    return lambda rng, n: {
        **scores_of(k)(rng, n),
        "candidates_where": mask_of_negatives(rng, n, k),
    }


def scores_with_excluded(k: int):
    """The teacher gives some candidates, never the first, the score -inf."""

    def make(rng: np.random.Generator, n: int) -> Arrays:
        scores = scores_of(k)(rng, n)["scores"]
        scores[:, 1:][rng.random((n, k - 1)) < 0.3] = -np.inf
        return {"scores": scores}

    return make


def teacher_embeddings(k: int):
    return lambda rng, n: {
        "teacher_queries": rng.normal(size=(n, E)),
        "teacher_candidates": rng.normal(size=(n, k, E)),
    }


def token_logits(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    return (2 * rng.normal(size=(n, TOKENS, VOCABULARY)),)


def target_ids(rng: np.random.Generator, n: int) -> Arrays:
    """Texts of unequal lengths; the last of several has no token at all."""
    tokens = rng.integers(PAD + 1, VOCABULARY, size=(n, TOKENS))
    tokens[rng.random((n, TOKENS)) < 0.3] = 0
    lengths = rng.integers(1, TOKENS + 1, size=n)
    lengths[1:][-1:] = 0
    return {"target_ids": np.where(np.arange(TOKENS) < lengths[:, None], tokens, PAD)}


mse = cases_of(references, "mse_loss", embeddings=column, rows=teacher)
embed_distill = cases_of(references, "embed_distill_loss", embeddings=column, rows=teacher)
margin_mse = cases_of(references, "margin_mse_loss")
divergence = cases_of(references, "distill_kl_div_loss")
denoising = cases_of(
    references,
    "denoising_auto_encoder_loss",
    embeddings=token_logits,
    rows=target_ids,
    reduction=None,
)

CASES = [
    mse("default"),
    embed_distill("default"),
    embed_distill("mse", distance="mse"),
    embed_distill("l2", distance="l2"),
    margin_mse("margins", with_negatives(1), margins(1)),
    margin_mse(
        "scores", with_negatives(3), scores_of(4), similarity_fn=similarity.paired_euclidean
    ),
    margin_mse(
        "some_negatives",
        with_negatives(3),
        margins_and_mask(3),
        similarity_fn=similarity.paired_cosine,
    ),
    divergence("default", candidates(2), scores_of(2)),
    divergence(
        "temperatures",
        candidates(3),
        scores_and_mask(3),
        student_temperature=2.0,
        teacher_temperature=0.5,
    ),
    divergence(
        "excluded_by_the_teacher",
        candidates(4),
        scores_with_excluded(4),
        temperature=3.0,
        similarity_fn=similarity.paired_cosine,
    ),
    divergence(
        "teacher_embeddings",
        candidates(3),
        teacher_embeddings(3),
        temperature=1.5,
        teacher_temperature=2.5,
    ),
    denoising("default", pad_id=PAD),
]
