"""The decoder of denoising from our own transformers: it attends to the one vector of a text.

A softmax over one position is 1, so cross-attention needs neither queries nor keys: it adds a
linear image of the vector to every token.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxembed.encoders.families.activations import ACTIVATIONS
from jaxembed.encoders.families.architecture import Architecture
from jaxembed.encoders.families.blocks import norm
from jaxembed.encoders.families.transformer import TextTransformer, parameters_of
from jaxembed.typing import Params


class ReadVector(nnx.Module):
    """Cross-attention to one vector per row."""

    def __init__(self, a: Architecture, dtype: Any, rngs: nnx.Rngs):
        linear = partial(
            nnx.Linear,
            a.width,
            a.width,
            dtype=dtype,
            kernel_init=nnx.initializers.normal(a.initializer_range),
            rngs=rngs,
        )
        self.value, self.out = linear(), linear()
        if not a.pre_norm:
            self.norm = norm(a, a.width, rngs)
        self.dtype = dtype

    def __call__(self, x: Array, vectors: Array) -> Array:
        x = x + self.out(self.value(vectors.astype(self.dtype)))[:, None]
        return self.norm(x).astype(self.dtype) if hasattr(self, "norm") else x


class Head(nnx.Module):
    """From hidden states to logits, by the word embeddings."""

    def __init__(self, a: Architecture, dtype: Any, rngs: nnx.Rngs):
        width = a.embedding_width or a.width
        self.dense = nnx.Linear(
            a.width,
            width,
            dtype=dtype,
            kernel_init=nnx.initializers.normal(a.initializer_range),
            rngs=rngs,
        )
        self.norm = norm(a, width, rngs)
        self.bias = nnx.Param(jnp.zeros(a.vocab_size))
        self.activation, self.dtype = ACTIVATIONS[a.activation], dtype

    def __call__(self, x: Array, word_embeddings: Array) -> Array:
        x = self.norm(self.activation(self.dense(x))).astype(self.dtype)
        logits = jnp.matmul(
            x, word_embeddings.T.astype(self.dtype), preferred_element_type=jnp.float32
        )
        return logits + self.bias[...]


class DecoderParts(nnx.Module):
    """What a decoder has besides the transformer."""

    def __init__(self, a: Architecture, dtype: Any, rngs: nnx.Rngs):
        @nnx.split_rngs(splits=a.n_layers)
        @nnx.vmap(axis_size=a.n_layers)
        def readers(rngs: nnx.Rngs) -> ReadVector:
            return ReadVector(a, dtype, rngs)

        self.readers = readers(rngs)
        self.head = Head(a, dtype, rngs)


def build_decoder(a: Architecture, dtype: Any, seed: int) -> tuple[Any, Params]:
    """Builds `run(params, (input_ids, vectors), *, key=None) -> logits [n t v]`, and parameters.

    `params` are its own ones, which are returned, and those of the transformer under "transformer".
    """
    transformer_graph, transformer_state = nnx.split(
        nnx.eval_shape(lambda: TextTransformer(a, dtype, nnx.Rngs(0)))
    )
    parts_graph, parts_state = nnx.split(
        nnx.eval_shape(lambda: DecoderParts(a, dtype, nnx.Rngs(0)))
    )
    own = jax.jit(lambda: parameters_of(DecoderParts(a, dtype, nnx.Rngs(seed))))()

    def merged(graph: Any, state: Any, params: Params) -> Any:
        filled = jax.tree.map(lambda leaf: leaf, state)
        nnx.replace_by_pure_dict(filled, params)
        return nnx.merge(graph, filled)

    def run(params: Params, rows: tuple[Array, Array], *, key: Array | None = None) -> Array:
        input_ids, vectors = rows
        its_own = {name: params[name] for name in own}
        transformer = merged(transformer_graph, transformer_state, params["transformer"])
        parts = merged(parts_graph, parts_state, its_own)
        hidden = transformer(
            {"input_ids": input_ids, "attention_mask": jnp.ones_like(input_ids)},
            key=key,
            all_layers=False,
            remat=lambda layer: layer,
            between=parts.readers,
            vectors=vectors,
        )
        return parts.head(hidden, params["transformer"]["embeddings"]["tokens"]["embedding"])

    return run, own
