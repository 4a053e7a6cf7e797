"""Losses of sparse embeddings: regularisers of a vocabulary's weights, and codes of latents.

A sparse embedding is an array like any other here, `[n v]` with most entries 0. The losses of dense
embeddings take it too, usually with `similarity.dot` and `scale=1.0`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from jaxembed.calls import ARRAYS, checks_call, shown
from jaxembed.losses.arguments import (
    check_not_negative,
    check_shape,
    clean,
    takes_columns,
)
from jaxembed.losses.ranking import multiple_negatives_ranking_loss
from jaxembed.losses.reduction import mean
from jaxembed.losses.sparse_auto_encoder import SparseCode
from jaxembed.similarity import as_float32, dot
from jaxembed.typing import LossFn, NegativesWhere, Scalar, Where

Vectors = Float[Array, "n v"]
Documents = Float[Array, "n v"] | Float[Array, "n k v"]
Regularizer = Callable[..., Array]  # (embeddings [n v], *, where [n]) -> []

SPARSE_RANKING = partial(multiple_negatives_ranking_loss, scale=1.0, similarity_fn=dot)


@takes_columns
def flops_loss(
    embeddings: Vectors, *, threshold: Scalar | None = None, where: Where | None = None
) -> Array:
    """Computes a smooth stand-in for the operations that a search in an inverted index costs.

        Σ_v (mean_i x_iv)²

    for weights that are not negative (the paper takes `|x|`).

    Args:
        threshold: rows with no more non-zero entries are sparse enough; they count as zero rows.

    Raises:
        ValueError: shapes that do not agree, or a threshold below 0.

    Sources: Paria et al., Minimizing FLOPs to Learn Efficient Sparse Representations, 2020;
    threshold: Shen et al., Exploring ℓ0 Sparsification for Inference-free Sparse Retrievers, 2025.

    >>> flops_loss(jnp.array([[1.0, 0.0, 3.0], [0.0, 0.0, 1.0]]))
    Array(4.25, dtype=float32)
    """
    check_not_negative(threshold=threshold)
    check_shape(embeddings.shape[:1], where=where)
    x = as_float32(clean(where, embeddings)[0])
    if threshold is not None:
        active = jnp.sum(x != 0, axis=1, keepdims=True) > threshold
        x = x * active.astype(x.dtype)  # and no `where`: NaN stays
    return jnp.sum(jnp.square(_mean_of_rows(x, where)))


@checks_call
def splade_loss(
    queries: Vectors,
    *documents: Documents,
    loss_fn: LossFn,
    document_regularizer_weight: Scalar,
    query_regularizer_weight: Scalar | None = None,
    document_regularizer: Regularizer = flops_loss,
    query_regularizer: Regularizer = flops_loss,
    use_document_regularizer_only: bool = False,
    negatives_where: NegativesWhere | None = None,
    candidates_where: Bool[Array, "n k"] | None = None,
    where: Where | None = None,
    **keywords: object,
) -> Array:
    """Computes a loss of sparse embeddings, and what keeps them sparse.

        loss_fn(queries, *documents) + λ_d R_d(all documents) + λ_q R_q(queries)

    The documents of all columns are rows of one matrix to their regulariser. Weights that grow over
    the first steps keep the embeddings from dying out before they have learnt anything.

    Args:
        loss_fn: any loss of embeddings; `keywords`, `negatives_where`, `candidates_where` and
            `where` go to it too.
        query_regularizer_weight: None leaves the queries as they are.
        document_regularizer, query_regularizer: of embeddings `[n v]`, with `where`, such as
            `partial(flops_loss, threshold=200)`.
        use_document_regularizer_only: queries count as documents, with no weight of their own.

    Raises:
        ValueError: no documents, shapes that do not agree, or a weight below 0.

    Source: Formal et al., From Distillation to Hard Negative Sampling: Making Sparse Neural IR
    Models More Effective, 2022.

    >>> queries, documents = jnp.array([[1.0, 0.0]]), jnp.array([[2.0, 1.0]])
    >>> splade_loss(
    ...     queries, documents, loss_fn=SPARSE_RANKING, document_regularizer_weight=0.1
    ... )
    Array(0.5, dtype=float32)
    """
    _check_documents(queries, documents)
    check_not_negative(
        document_regularizer_weight=document_regularizer_weight,
        query_regularizer_weight=query_regularizer_weight,
    )
    masks = {"negatives_where": negatives_where, "candidates_where": candidates_where}
    masks = {name: mask for name, mask in masks.items() if mask is not None}
    loss = loss_fn(queries, *documents, **masks, where=where, **keywords)

    columns = (queries, *documents) if use_document_regularizer_only else documents
    rows = jnp.concatenate([column.reshape(-1, column.shape[-1]) for column in columns])
    real = [_real_texts(column, where, *masks.values()).reshape(-1) for column in columns]
    loss += document_regularizer_weight * document_regularizer(rows, where=jnp.concatenate(real))
    if query_regularizer_weight is not None and not use_document_regularizer_only:
        loss += query_regularizer_weight * query_regularizer(queries, where=where)
    return loss


@checks_call
def csr_reconstruction_loss(
    *codes: SparseCode,
    beta: Scalar = 1.0,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
) -> Array:
    """Computes how well sparse codes keep the embeddings they were made of.

        L_k + L_4k / 8 + beta L_aux, the mean over the columns of

        L_k, L_4k = mean over rows and features of (x - reconstruction)², from k and 4k latents
        L_aux = mean (reconstruction_aux - T)² / variance of T,  T = x - centred

    The auxiliary term lets dead latents explain what the living ones leave over; `centred` is a
    constant there. Where all rows of T are the same, the variance is taken as 1.

    Args:
        codes: of `sparse_auto_encode`, one for each column of texts; of embeddings `[n k d]`, every
            one of the k places counts as a column.

    Raises:
        ValueError: no codes, codes of other axes, a beta below 0.

    Source: Wen et al., Beyond Matryoshka: Revisiting Sparse Coding for Adaptive Representation,
    2025; the auxiliary term: Gao et al., Scaling and Evaluating Sparse Autoencoders, 2024.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 5.0]])
    >>> csr_reconstruction_loss(SparseCode(x, x, 0.5 * x, x, None, 0.5 * x))
    Array(2.4375, dtype=float32)
    """
    _check_codes(codes)
    check_not_negative(beta=beta)
    losses = []
    for code in codes:
        real = _real_texts(code.embeddings, where, negatives_where)
        column_loss = partial(_reconstruction_loss, beta=beta)
        if real.ndim == 2:
            column_loss = jax.vmap(column_loss, in_axes=1)
        losses.append(column_loss(code, real).reshape(-1))
    return jnp.mean(jnp.concatenate(losses))


@checks_call
def csr_loss(
    *codes: SparseCode,
    loss_fn: LossFn = SPARSE_RANKING,
    beta: Scalar = 0.1,
    gamma: Scalar = 1.0,
    negatives_where: NegativesWhere | None = None,
    where: Where | None = None,
    **keywords: object,
) -> Array:
    """Computes a loss of the sparse codes, and how well they keep what they were made of.

        csr_reconstruction_loss(*codes) + gamma loss_fn(latents of each code)

    Args:
        loss_fn: any loss of embeddings; `keywords`, `negatives_where` and `where` go to it too.

    Raises:
        ValueError: what `csr_reconstruction_loss` and `loss_fn` raise, or a gamma below 0.

    Source: Wen et al., Beyond Matryoshka: Revisiting Sparse Coding for Adaptive Representation,
    2025.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    >>> code = SparseCode(x, x, x, x, None, x)
    >>> csr_loss(code, code).round(4)
    Array(0.1657, dtype=float32)
    """
    check_not_negative(gamma=gamma)
    masks = {} if negatives_where is None else {"negatives_where": negatives_where}
    reconstruction = csr_reconstruction_loss(*codes, beta=beta, where=where, **masks)
    latents = [code.latents for code in codes]
    return reconstruction + gamma * loss_fn(*latents, **masks, where=where, **keywords)


def _reconstruction_loss(code: SparseCode, where: Where, beta: Scalar) -> Array:
    """Of one column `[n d]`."""

    def error(left, right):
        left, right = clean(where, left, right)
        return mean(jnp.mean(jnp.square(left - right), axis=1), where)

    x = code.embeddings
    loss = error(x, code.reconstruction) + error(x, code.reconstruction_4k) / 8
    if code.reconstruction_aux is None:
        return loss
    rest = x - lax.stop_gradient(code.centred)
    variance = error(jnp.broadcast_to(_mean_of_rows(rest, where), rest.shape), rest)
    lowest = jnp.min(rest, axis=0, where=where[:, None], initial=jnp.inf)
    highest = jnp.max(rest, axis=0, where=where[:, None], initial=-jnp.inf)
    # Rounding of the mean may give equal rows a variance above 0.
    variance = jnp.where((variance == 0) | jnp.all(lowest >= highest), 1, variance)
    return loss + beta * error(code.reconstruction_aux, rest) / variance


def _mean_of_rows(x: Vectors, where: Where | None) -> Float[Array, "1 v"]:
    """The mean over the real rows; 0 if there is none."""
    if where is None:
        return jnp.mean(x, axis=0, keepdims=True)
    count = jnp.maximum(jnp.sum(where, dtype=x.dtype), 1)
    return jnp.sum(x, axis=0, keepdims=True, where=where[:, None]) / count


def _real_texts(
    column: Documents, where: Where | None, *masks: Bool[Array, "n k"] | None
) -> Bool[Array, " n"] | Bool[Array, "n k"]:
    """Which texts of a column are real. The masks are for columns that have several in a row."""
    check_shape(column.shape[:1], where=where)
    real = jnp.ones_like(column[..., 0], bool)
    if where is not None:
        real &= where if real.ndim == 1 else where[:, None]
    for mask in masks:
        if mask is not None and real.ndim == 2:
            real &= mask
    return real


def _check_documents(queries, documents):
    if not documents:
        raise ValueError("splade_loss takes the arrays queries, documents, ...; got queries alone")
    n, v = queries.shape
    for column in documents:
        if not isinstance(column, ARRAYS):
            raise ValueError(f"documents of splade_loss must be an array; got {shown(column)}")
        if column.ndim not in (2, 3) or (column.shape[0], column.shape[-1]) != (n, v):
            raise ValueError(f"documents must be [{n} {v}] or [{n} k {v}]; got {column.shape}")


def _check_codes(codes):
    if not codes:
        raise ValueError("csr losses take one SparseCode for each column of texts; got none")
    for code in codes:
        if not isinstance(code, SparseCode):
            raise ValueError(
                f"csr losses take a SparseCode for each column of texts, as sparse_auto_encode"
                f" makes it; got {shown(code)}"
            )
        for name, part in code._asdict().items():
            if not isinstance(part, ARRAYS) and name != "reconstruction_aux":
                raise ValueError(f"{name} of a SparseCode must be an array; got {shown(part)}")
        if code.embeddings.ndim not in (2, 3):
            got = shown(code.embeddings)
            raise ValueError(f"codes must be a SparseCode of [n d] or [n k d]; got {got}")
