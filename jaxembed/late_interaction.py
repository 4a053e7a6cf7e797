"""Scores of late interaction: every token of a query looks for its nearest token of a document.

Queries are `[n t d]`, documents `[m s d]`; masks say which tokens are real, and None that all are.
`paired_*` score row by row, with any leading axes.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Bool, Float

from jaxembed.selection import among_greatest
from jaxembed.similarity import as_float32

Matrix = Float[Array, "n m"]
Queries = Float[Array, "n t d"]
Documents = Float[Array, "m s d"]
Tokens = Float[Array, "... _ d"]
Mask = Bool[Array, "..."] | None  # which tokens are real; None: all

EMPTY_DOCUMENT = -1e9  # the score of a document without tokens: below every other, yet finite
SAVE_NEAREST = jax.checkpoint_policies.save_only_these_names("nearest")


def maxsim(
    queries: Queries, documents: Documents, *, query_mask: Mask = None, document_mask: Mask = None
) -> Matrix:
    """Computes `sum_t max_s <x_it, y_js>` over the real tokens, for all pairs.

    The first of equally similar tokens gets the gradient. A document without tokens scores -1e9. At
    a time there are the similarities `[m s t]` of one query; the gradient needs `[n m t]` integers.

    Source: Khattab and Zaharia, ColBERT: Efficient and Effective Passage Search via Contextualized
    Late Interaction over BERT, 2020.

    >>> query = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> maxsim(query, jnp.array([[[0.6, 0.8], [0.8, 0.6], [0.0, -1.0]]]))
    Array([[1.6]], dtype=float32)
    """
    queries, query_mask = _tokens(queries, query_mask)
    documents, document_mask = _tokens(documents, document_mask)

    @partial(jax.checkpoint, policy=SAVE_NEAREST)
    def row(tokens, mask):
        similarities = jnp.einsum("msd,td->mst", documents, tokens)
        return _sum_of_maxima(similarities, mask[None], document_mask)

    return lax.map(lambda query: row(*query), (queries, query_mask))


def paired_maxsim(
    queries: Tokens, documents: Tokens, *, query_mask: Mask = None, document_mask: Mask = None
) -> Array:
    """Computes `sum_t max_s <x_it, y_is>`, as `maxsim` does; leading axes broadcast."""
    queries, query_mask = _tokens(queries, query_mask)
    documents, document_mask = _tokens(documents, document_mask)
    if queries.ndim == documents.ndim > 2 and queries.shape[-3] == 1:  # a query's own documents
        similarities = jnp.einsum("...ksd,...td->...kst", documents, queries[..., 0, :, :])
    else:
        similarities = jnp.einsum("...sd,...td->...st", documents, queries)
    return _sum_of_maxima(similarities, query_mask, document_mask)


def mean_maxsim(queries: Queries, documents: Documents, **masks: Mask) -> Matrix:
    """Computes `maxsim` divided by the number of the query's tokens, at least 1."""
    scores = maxsim(queries, documents, **masks)
    return scores / _count_tokens(queries, masks.get("query_mask"))[:, None]


def paired_mean_maxsim(queries: Tokens, documents: Tokens, **masks: Mask) -> Array:
    """Computes `paired_maxsim` divided by the number of the query's tokens, at least 1."""
    scores = paired_maxsim(queries, documents, **masks)
    return scores / _count_tokens(queries, masks.get("query_mask"))


def xtr(
    queries: Queries,
    documents: Documents,
    *,
    query_mask: Mask = None,
    document_mask: Mask = None,
    top_k: int = 256,
) -> Matrix:
    """Computes the mean of maxima over the tokens that a search per query token would retrieve.

    A query token retrieves the `top_k` most similar tokens of all documents (and those that equal
    the last of them), a constant to the gradient. The mean is over the query tokens that retrieved
    a token of the document; without any the score is 0. A document
    without tokens scores -1e9.

    Source: Lee et al., Rethinking the Role of Token Retrieval in Multi-Vector Retrieval, 2023.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be 1 or more; got {top_k}")
    queries, query_mask = _tokens(queries, query_mask)
    documents, document_mask = _tokens(documents, document_mask)

    @partial(jax.checkpoint, policy=SAVE_NEAREST)
    def row(tokens, mask):
        similarities = jnp.einsum("td,msd->tms", tokens, documents)
        found = jnp.where(document_mask[None], lax.stop_gradient(similarities), -jnp.inf)
        best = among_greatest(found.reshape(mask.size, -1), min(top_k, document_mask.size))
        retrieved = best.reshape(found.shape) & document_mask[None] & mask[:, None, None]
        maxima, index = _maxima(similarities, retrieved, axis=-1)
        count = jnp.sum(index >= 0, axis=0, dtype=maxima.dtype)
        return jnp.sum(maxima, axis=0) / jnp.maximum(count, 1)

    scores = lax.map(lambda query: row(*query), (queries, query_mask))
    return jnp.where(jnp.any(document_mask, axis=-1)[None], scores, EMPTY_DOCUMENT)


def _tokens(tokens, mask):
    """Completes the mask and puts zeros where no token is, whatever was there."""
    tokens = as_float32(tokens)
    if mask is None:
        return tokens, jnp.ones_like(tokens[..., 0], bool)
    if mask.shape != tokens.shape[:-1]:
        raise ValueError(
            f"a mask of tokens {tokens.shape} has their axes but the last; got {mask.shape}"
        )
    return _zero_padding(tokens, mask), mask


@jax.custom_jvp
def _zero_padding(tokens, mask):
    return jnp.where(mask[..., None], tokens, 0)


@_zero_padding.defjvp
def _(primals, tangents):
    """Passes all tangents on: scores leave out what is no token, so its gradient is 0 already."""
    return _zero_padding(*primals), tangents[0]


def _count_tokens(tokens, mask):
    tokens, mask = _tokens(tokens, mask)
    return jnp.maximum(jnp.sum(mask, axis=-1, dtype=tokens.dtype), 1)


def _sum_of_maxima(similarities, query_mask, document_mask):
    """From `[... s t]` to `[...]`."""
    maxima, _ = _maxima(similarities, document_mask[..., None], axis=-2)
    scores = jnp.sum(maxima, axis=-1, where=query_mask)
    return jnp.where(jnp.any(document_mask, axis=-1), scores, EMPTY_DOCUMENT)


def _maxima(similarities, real, axis):
    """Picks the first greatest real entry of an axis, with its index; 0 and -1 if none is."""
    size = similarities.shape[axis]
    found = jnp.where(real, lax.stop_gradient(similarities), -jnp.inf)
    greatest = jnp.max(found, axis=axis, keepdims=True)
    places = lax.broadcasted_iota(jnp.int32, found.shape, found.ndim + axis)
    index = jnp.min(jnp.where(found == greatest, places, size), axis=axis)  # faster than argmax
    index = checkpoint_name(jnp.where(jnp.any(real, axis=axis), index, -1), "nearest")
    # A one-hot sum: gather, and scatter in the gradient, are slower.
    chosen = jax.nn.one_hot(index, size, dtype=bool, axis=axis)
    maxima = jnp.sum(similarities, axis=axis, where=chosen)
    return jnp.where(index == size, jnp.nan, maxima), index  # NaN equals nothing: no place is found
