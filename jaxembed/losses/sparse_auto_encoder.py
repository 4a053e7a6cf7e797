"""The sparse auto-encoder that the losses of contrastive sparse representations (CSR) train.

Its parameters are a dict: `weight [h d]`, whose transpose is the decoder, `pre_bias [d]` and
`latent_bias [h]`. For how long each latent has been silent is carried from call to call, as
`last_nonzero [h]`; those silent for too long are dead.

Source: Wen et al., Beyond Matryoshka: Revisiting Sparse Coding for Adaptive Representation, 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int, Key

from jaxembed.losses.arguments import check_not_negative, check_shape, clean
from jaxembed.selection import greatest
from jaxembed.similarity import as_float32, safe_sqrt

FIRED = 1e-5  # a latent at or below it counts as silent
EPSILON = 1e-5  # what `normalize` adds to the standard deviation


class SparseCode(NamedTuple):
    """What the auto-encoder makes of embeddings; all that its losses need."""

    embeddings: Float[Array, "*rows d"]  # what was encoded
    latents: Float[Array, "*rows h"]  # the k greatest: the sparse embedding
    reconstruction: Float[Array, "*rows d"]  # from the latents
    reconstruction_4k: Float[Array, "*rows d"]  # from the 4k greatest
    reconstruction_aux: Float[Array, "*rows d"] | None  # from the dead ones, of what is left over
    centred: Float[Array, "*rows d"]  # the reconstruction without the part of the pre-bias


def init_sparse_auto_encoder(key: Key[Array, ""], d: int, hidden: int = 512) -> dict[str, Array]:
    """Draws weights uniformly from ±1/√d; the biases are zero."""
    return {
        "weight": jax.random.uniform(key, (hidden, d), minval=-(d**-0.5), maxval=d**-0.5),
        "pre_bias": jnp.zeros(d),
        "latent_bias": jnp.zeros(hidden),
    }


def sparse_auto_encode(
    params: Mapping[str, Array],
    embeddings: Float[Array, "*rows d"],
    last_nonzero: Int[Array, " h"],
    *,
    k: int = 8,
    k_aux: int = 512,
    normalize: bool = False,
    dead_threshold: int = 30,
    where: Bool[Array, "..."] | None = None,
) -> tuple[SparseCode, Int[Array, " h"]]:
    """Computes the sparse code of embeddings, and for how long each latent has been silent since.

        z = W (x - pre_bias) + latent_bias
        latents = relu(z), the k greatest entries of z, 0 elsewhere
        reconstruction = Wᵀ latents + pre_bias

    Two selections count, of k and of 4k: each sets the counters of the latents that fired in a real
    row to 0 and then adds 1 to all. Those above `dead_threshold` after the first are dead. Give the
    counters of one column of texts to the next; start with zeros; in evaluation keep the old ones.

    Args:
        k, k_aux: how many latents to keep; all, if there are fewer than 4k or k_aux. With k_aux = 0
            the code has no reconstruction_aux.
        normalize: encodes `(x - mean) / (std + 1e-5)` over the features, and scales back what is
            reconstructed.
        where: real rows, over the leading axes of the embeddings or the first of them.

    Raises:
        ValueError: shapes that do not agree, or numbers of latents out of range.

    >>> params = {"weight": jnp.eye(3), "pre_bias": jnp.zeros(3), "latent_bias": jnp.zeros(3)}
    >>> x, counters = jnp.array([[0.5, 2.0, 0.0]]), jnp.zeros(3, jnp.int32)
    >>> code, counters = sparse_auto_encode(params, x, counters, k=1)
    >>> code.reconstruction, counters
    (Array([[0., 2., 0.]], dtype=float32), Array([1, 1, 2], dtype=int32))
    """
    weight, pre_bias, latent_bias = (
        as_float32(params[name]) for name in ("weight", "pre_bias", "latent_bias")
    )
    _check(weight, embeddings, last_nonzero, k, k_aux, where)
    x = as_float32(clean(where, embeddings)[0])
    ones = (1,) * (x.ndim - 1)
    pre_bias, latent_bias = pre_bias.reshape(*ones, -1), latent_bias.reshape(*ones, -1)
    mean, scale, normal = _normalize(x) if normalize else (0, 1, x)

    def decode(latents):
        return (latents @ weight + pre_bias) * scale

    z = (normal - pre_bias) @ weight.T + latent_bias
    latents, latents_4k = _greatest(z, k), _greatest(z, 4 * k)
    last_nonzero = _count(last_nonzero, latents, where)
    dead = (last_nonzero > dead_threshold).reshape(*ones, -1)
    reconstruction = decode(latents) + mean
    code = SparseCode(
        embeddings=x,
        latents=latents,
        reconstruction=reconstruction,
        reconstruction_4k=decode(latents_4k) + mean,
        # What is left over has no mean: none is added.
        reconstruction_aux=decode(_greatest(jnp.where(dead, z, 0), k_aux)) if k_aux else None,
        centred=reconstruction - pre_bias * scale,
    )
    return code, _count(last_nonzero, latents_4k, where)


def _normalize(x):
    """Returns mean and standard deviation (of n - 1) over the features, and x without them."""
    mean = jnp.mean(x, axis=-1, keepdims=True)
    x = x - mean
    scale = safe_sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) / (x.shape[-1] - 1))
    return mean, scale, x / (scale + EPSILON)


def _greatest(z: Float[Array, "*rows h"], k: int) -> Float[Array, "*rows h"]:
    """Keeps the k greatest entries, the first of equal ones, where they are above 0."""
    if k >= z.shape[-1]:
        return jax.nn.relu(z)

    chosen = greatest(lax.stop_gradient(z).reshape(-1, z.shape[-1]), k).reshape(z.shape)
    return jnp.where(chosen, jax.nn.relu(z), 0)


def _count(last_nonzero, latents, where):
    """Counts one call on for the latents that are silent in all real rows; 1 for the others."""
    fired = latents > FIRED
    if where is not None:
        fired &= jnp.expand_dims(where, tuple(range(where.ndim, fired.ndim)))
    fired = jnp.any(fired, axis=tuple(range(fired.ndim - 1)))
    return jnp.where(fired, 0, last_nonzero) + 1


def _check(weight, embeddings, last_nonzero, k, k_aux, where):
    h, d = weight.shape
    if embeddings.shape[-1] != d:
        raise ValueError(
            f"embeddings must be [... {d}], as weight [{h} {d}]; got {embeddings.shape}"
        )
    if last_nonzero.shape != (h,):
        raise ValueError(f"last_nonzero must have the shape ({h},); got {last_nonzero.shape}")
    if not 0 < k <= h:
        raise ValueError(f"k must be from 1 to the {h} latents; got {k}")
    check_not_negative(k_aux=k_aux)
    if where is not None:
        check_shape(embeddings.shape[: where.ndim], where=where)
