"""Cases of jaxembed/losses/sparse.py and, through it, sparse_auto_encoder.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.losses.distillation import distill_kl_div_loss, margin_mse_loss
from jaxembed.losses.pair_order import cosent_loss
from jaxembed.losses.ranking import multiple_negatives_ranking_loss
from jaxembed.losses.sparse import csr_loss, csr_reconstruction_loss, flops_loss
from jaxembed.losses.sparse_auto_encoder import sparse_auto_encode
from jaxembed.losses.triplets import triplet_loss
from jaxembed.similarity import dot
from tests.losses.cases.case import Arrays, D, cases_of, mask_of_negatives, scores
from tests.losses.references import sparse as references

VOCABULARY, LATENTS = 9, 20
RANKING = partial(multiple_negatives_ranking_loss, scale=1.0, similarity_fn=dot)


def sparse_columns(*places: tuple[int, ...]):
    """Weights that are not negative, half of them zero; a column for each shape between n and v."""

    def make(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
        return tuple(np.maximum(rng.normal(size=(n, *k, VOCABULARY)), 0) for k in places)

    return make


def dense_columns(*places: tuple[int, ...]):
    return lambda rng, n: tuple(rng.normal(size=(n, *k, D)) + 0.2 for k in places)


def mask(name: str, k: int):
    return lambda rng, n: {name: mask_of_negatives(rng, n, k)}


def targets(name: str, k: int):
    return lambda rng, n: {name: rng.normal(size=(n, k))}


def encode_columns(columns, params, last_nonzero, **settings):
    """Codes of the columns, and the counters, which go from text to text of a row."""

    def encode(column):
        nonlocal last_nonzero
        if column.ndim == 3:
            places = [encode(column[:, c]) for c in range(column.shape[1])]
            return jax.tree.map(lambda *x: jnp.stack(x, axis=1), *places)
        code, last_nonzero = sparse_auto_encode(params, column, last_nonzero, **settings)
        return code

    last_nonzero = jnp.asarray(last_nonzero, jnp.int32)
    return [encode(column) for column in columns], last_nonzero


def through_auto_encoder(loss):
    """Makes a loss of codes one of dense embeddings and of the auto-encoder's parameters."""

    def composed(
        *columns,
        weight,
        pre_bias,
        latent_bias,
        last_nonzero,
        k,
        k_aux,
        normalize=False,
        dead_threshold=30,
        where=None,
        **keywords,
    ):
        params = {"weight": weight, "pre_bias": pre_bias, "latent_bias": latent_bias}
        settings = {"k": k, "k_aux": k_aux, "normalize": normalize}
        settings |= {"dead_threshold": dead_threshold, "where": where}
        codes, _ = encode_columns(columns, params, last_nonzero, **settings)
        return loss(*codes, where=where, **keywords)

    return composed


def auto_encoder(rng: np.random.Generator) -> Arrays:
    return {
        "weight": rng.normal(size=(LATENTS, D)) / np.sqrt(D),
        "pre_bias": 0.3 * rng.normal(size=D),
        "latent_bias": 0.3 * rng.normal(size=LATENTS),
    }


# Some latents are dead, some die while the columns are encoded, some live.
COUNTERS = np.arange(LATENTS) % 7 + 26


flops = cases_of(references, "flops_loss", embeddings=sparse_columns(()), reduction=None)
splade = cases_of(references, "splade_loss", reduction=None, document_regularizer_weight=0.3)
csr = cases_of(
    references,
    "csr_loss",
    loss=through_auto_encoder(csr_loss),
    reference=references.csr_through_auto_encoder,
    parameters=auto_encoder,
    reduction=None,
    differentiable=False,
    last_nonzero=COUNTERS,
    k=3,
    k_aux=5,
)
csr_reconstruction = cases_of(
    references,
    "csr_reconstruction_loss",
    loss=through_auto_encoder(csr_reconstruction_loss),
    reference=references.csr_reconstruction_through_auto_encoder,
    parameters=auto_encoder,
    reduction=None,
    differentiable=False,
    last_nonzero=COUNTERS,
    k=2,
    k_aux=5,
)

CASES = [
    flops("default"),
    flops("threshold", differentiable=False, threshold=4),
    splade("ranking", sparse_columns((), ()), loss_fn=RANKING, query_regularizer_weight=0.2),
    splade(
        "negatives_and_thresholds",
        sparse_columns((), (), (2,)),
        mask("negatives_where", 2),
        differentiable=False,
        loss_fn=RANKING,
        query_regularizer_weight=0.2,
        document_regularizer=partial(flops_loss, threshold=5),
        query_regularizer=partial(flops_loss, threshold=4),
    ),
    splade(
        "distillation",
        sparse_columns((), (3,)),
        lambda rng, n: {**targets("scores", 3)(rng, n), **mask("candidates_where", 3)(rng, n)},
        loss_fn=partial(distill_kl_div_loss, temperature=2.0),
    ),
    splade(
        "margins",
        sparse_columns((), (), (2,)),
        targets("margins", 2),
        loss_fn=margin_mse_loss,
        query_regularizer_weight=0.2,
    ),
    splade(
        "documents_alone",
        sparse_columns((), ()),
        scores,
        loss_fn=cosent_loss,
        query_regularizer_weight=5.0,
        use_document_regularizer_only=True,
    ),
    splade("triplet", sparse_columns((), (), ()), loss_fn=triplet_loss),
    csr("default", dense_columns((), ())),
    csr("negatives", dense_columns((), (), (2,)), beta=2.0, gamma=0.3),
    csr("normalize", dense_columns((), ()), normalize=True, k=2, dead_threshold=28),
    csr_reconstruction("default", dense_columns((), (), (2,))),
    csr_reconstruction("normalize", dense_columns((), ()), normalize=True, beta=0.4),
    csr_reconstruction("without_aux", dense_columns(()), differentiable=True, k_aux=0),
]
