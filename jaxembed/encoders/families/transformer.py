"""A text transformer of blocks: embeddings, a scan over layers, all hidden states on request."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from jaxembed.encoders.families.architecture import ALL, Architecture
from jaxembed.encoders.families.blocks import Angles, Layer, OfLayer, Positions, dropout, norm
from jaxembed.randomness import row_keys
from jaxembed.typing import Params, Tokens

FAR = 2**30  # no text has so many tokens
RELATIVE_DISTANCE = 128  # beyond it, relative positions share a bucket


class Embeddings(nnx.Module):
    """From token ids to vectors."""

    def __init__(self, a: Architecture, dtype: Any, rngs: nnx.Rngs):
        width = a.embedding_width or a.width

        def table(rows: int) -> nnx.Embed:
            init = nnx.initializers.normal(a.initializer_range)
            return nnx.Embed(rows, width, dtype=dtype, embedding_init=init, rngs=rngs)

        self.tokens = table(a.vocab_size)
        if a.positions == "learned":
            self.positions = table(a.n_positions)
        if a.token_types:
            self.token_types = table(a.token_types)
        if a.embedding_norm:
            self.norm = norm(a, width, rngs)
        if width != a.width:
            self.projection = nnx.Linear(width, a.width, dtype=dtype, rngs=rngs)
        self.a, self.dtype = a, dtype

    def __call__(self, input_ids: Array, index: Array, keys: Array | None) -> Array:
        a = self.a
        x = self.tokens(input_ids)
        if a.embedding_scale != 1:
            x = x * jnp.asarray(a.embedding_scale, x.dtype)
        if a.positions == "learned":
            x += self.positions(index + (a.position_offset or 0))
        if a.token_types:
            x += self.token_types.embedding[0].astype(x.dtype)
        if a.embedding_norm:
            x = self.norm(x).astype(self.dtype)
        x = dropout(x, a.embedding_dropout, keys, 0)
        return self.projection(x) if hasattr(self, "projection") else x


class TextTransformer(nnx.Module):
    """Embeddings and layers, whose parameters are stacked: `[l …]`."""

    def __init__(self, a: Architecture, dtype: Any, rngs: nnx.Rngs):
        self.embeddings = Embeddings(a, dtype, rngs)

        @nnx.split_rngs(splits=a.n_parameter_layers)
        @nnx.vmap(axis_size=a.n_parameter_layers)
        def layers(rngs: nnx.Rngs) -> Layer:
            return Layer(a, dtype, rngs)

        self.layers = layers(rngs)
        if a.relative_buckets:
            self.relative = nnx.Embed(a.relative_buckets, a.n_heads, rngs=rngs)
        if a.pre_norm:
            self.final_norm = norm(a, a.width, rngs)
        self.a, self.dtype = a, dtype

    def __call__(
        self,
        tokens: Tokens,
        *,
        key: Array | None,
        all_layers: bool,
        remat: Callable[[Callable], Callable],
        between: nnx.Module | None = None,
        vectors: Array | None = None,
    ) -> Array:
        """Computes `[n t d]`, or with `all_layers` `[n l t d]`, the embeddings first.

        `between` is a module of each layer, stacked, that reads `vectors [n d]` behind attention.
        """
        a = self.a
        keys = None if key is None else row_keys(key, tokens["input_ids"].shape[0])
        positions = self.positions_of(tokens)
        x = self.embeddings(tokens["input_ids"], positions.index, fold(keys, a.n_layers))
        graph, parameters = nnx.split(self.layers)
        numbers = OfLayer(
            jnp.arange(a.n_layers),
            None if all(w is ALL for w in a.windows) else jnp.asarray(_windows(a)),
            _angles(a),
        )

        between_graph, between_parameters = (None, None) if between is None else nnx.split(between)
        shared = None
        if a.uses and a.n_parameter_layers == 1:
            shared, parameters = jax.tree.map(lambda leaf: leaf[0], parameters), None
        elif a.uses:
            parameters = jax.tree.map(lambda leaf: leaf[np.asarray(a.uses)], parameters)

        def layer(x: Array, scanned: Any) -> tuple[Array, Array | None]:
            parameters, between_parameters, of_layer = scanned
            reads = None
            if between_graph is not None:
                reads = partial(nnx.merge(between_graph, between_parameters), vectors=vectors)
            layer_keys = fold(keys, of_layer.number)
            block = nnx.merge(graph, parameters if shared is None else shared)
            y = block(x, positions, of_layer, layer_keys, reads)
            return y, x if all_layers else None

        scanned = parameters, between_parameters, numbers
        last, before = lax.scan(remat(layer), x, scanned)
        if a.pre_norm:
            last = self.final_norm(last).astype(self.dtype)
        return jnp.stack([*before, last], axis=1) if all_layers else last

    def positions_of(self, tokens: Tokens) -> Positions:
        """Computes where the tokens stand, and which may look at which."""
        a = self.a
        attention = jnp.asarray(tokens["attention_mask"])
        t = attention.shape[1]
        if "positions" in tokens:
            index = tokens["positions"]
        elif (
            a.position_offset is not None
        ):  # counted over real tokens; padding has the offset less 1
            index = jnp.cumsum(attention, axis=1) * attention - 1
        else:
            index = jnp.arange(t)[None]
        mask = (attention > 0)[:, None, None, :]  # [n 1 1 t]
        if "segment_ids" in tokens:  # several texts in a row
            segments = jnp.asarray(tokens["segment_ids"])
            mask = mask & (segments[:, :, None] == segments[:, None, :])[:, None]
        if a.causal:
            mask = mask & jnp.tril(jnp.ones((t, t), bool))
        bias = None
        places = np.arange(t)
        distances = places[None, :] - places[:, None]  # [t t], right within each text
        if a.relative_buckets:
            buckets = relative_buckets(distances, a.relative_buckets)
            bias = jnp.moveaxis(self.relative(jnp.asarray(buckets)), -1, 0)[None].astype(self.dtype)
        lengths = _lengths(tokens) if any(rope.long for rope in a.ropes) else None
        return Positions(index, jnp.asarray(distances), mask, bias, lengths)


def fold(keys: Array | None, number: Any) -> Array | None:
    """Folds a number into every key."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def relative_buckets(distances: np.ndarray, n_buckets: int) -> np.ndarray:
    """Computes the bucket of each distance: exact when near, logarithmic farther away.

    Half of the buckets are for each direction.
    """
    half = n_buckets // 2
    exact = half // 2
    far = np.abs(distances)
    ratio = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact))
    ratio = ratio / np.float32(np.log(RELATIVE_DISTANCE / exact)) * np.float32(half - exact)
    near = np.where(far < exact, far, np.minimum(exact + ratio.astype(np.int32), half - 1))
    return near + half * (distances > 0)


def _angles(a: Architecture) -> Angles | None:
    """Returns the angles of all layers, `[l …]`, without the parts that no layer needs."""
    if not a.ropes:
        return None
    frequencies = jnp.asarray([rope.frequencies for rope in a.ropes])
    factor = None
    if any(rope.factor != 1 for rope in a.ropes):
        factor = jnp.asarray([rope.factor for rope in a.ropes])
    if not any(rope.long for rope in a.ropes):
        return Angles(frequencies, factor)
    long = jnp.asarray([rope.long or rope.frequencies for rope in a.ropes])
    return Angles(frequencies, factor, (long, jnp.asarray([rope.longest for rope in a.ropes])))


def _lengths(tokens: Tokens) -> Array:
    """Counts the tokens of each token's text, `[n t]` or `[n 1]`."""
    if "segment_ids" not in tokens:
        return jnp.sum(jnp.asarray(tokens["attention_mask"]), axis=1, keepdims=True)
    segments = jnp.asarray(tokens["segment_ids"])
    return jnp.sum(segments[:, :, None] == segments[:, None, :], axis=-1)


def _windows(a: Architecture) -> list[int]:
    return [FAR if window is None else window for window in a.windows]


def parameters_of(module: nnx.Module) -> Params:
    """Returns the parameters of a module as nested dicts."""
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))
