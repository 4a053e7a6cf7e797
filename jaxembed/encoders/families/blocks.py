"""The blocks of a text transformer: embeddings, attention, feed-forward network, one layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.sharding import PartitionSpec

from jaxembed.encoders.families.activations import ACTIVATIONS
from jaxembed.encoders.families.architecture import Architecture

MASKED = -1e9  # added to a logit, it leaves no weight


class Positions(NamedTuple):
    """What all layers know of a batch of `n` rows of `t` tokens."""

    index: Array  # [n t] or [1 t], the position of each token in its text
    distances: Array  # [t t], how far a token stands behind another
    mask: Array  # [n 1 t t] or [n 1 1 t], True where a token may look
    bias: Array | None  # [1 h t t], added to the attention logits
    lengths: Array | None = None  # [n t], of each token's text, where its angles depend on it


class Angles(NamedTuple):
    """The rotary angles of one layer, or stacked of all; see `Rope`."""

    frequencies: Array  # [k/2]
    factor: Array | None = None
    long: tuple[Array, Array] | None = None  # frequencies [k/2] of texts longer than the second


class OfLayer(NamedTuple):
    """What one layer has besides its parameters."""

    number: Array
    window: Array | None  # how far it sees
    angles: Angles | None


class Linear(nnx.Linear):
    """A linear map `[n t d] -> [n t m]` of all tokens, as the rows of one matrix.

    For a gradient over two axes XLA's CPU programs would copy what comes back, transposed.
    """

    def __init__(
        self, a: Architecture, n_in: int, n_out: int, *, dtype: Any, rngs: nnx.Rngs, use_bias: bool
    ):
        initial = nnx.initializers.normal(a.initializer_range)
        super().__init__(
            n_in, n_out, use_bias=use_bias, dtype=dtype, kernel_init=initial, rngs=rngs
        )

    def __call__(self, x: Array) -> Array:
        rows = super().__call__(x.reshape(-1, x.shape[-1]))
        return rows.reshape(*x.shape[:-1], -1)


def norm(a: Architecture, width: int, rngs: nnx.Rngs) -> nnx.Module:
    """Builds a norm, computed in float32."""
    if a.norm == "layer":
        return nnx.LayerNorm(
            width, epsilon=a.norm_epsilon, use_bias=a.norm_bias, dtype=jnp.float32, rngs=rngs
        )
    return RMSNorm(width, a.norm_epsilon, plus_one=a.norm == "rms_plus_one", rngs=rngs)


class RMSNorm(nnx.Module):
    """`x / sqrt(mean x² + ε) · scale`, or `· (1 + scale)`."""

    def __init__(self, width: int, epsilon: float, *, plus_one: bool, rngs: nnx.Rngs):
        self.scale = nnx.Param(jnp.full(width, 0.0 if plus_one else 1.0))
        self.epsilon, self.plus_one = epsilon, plus_one

    def __call__(self, x: Array) -> Array:
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.epsilon)
        return x * (self.scale[...] + 1 if self.plus_one else self.scale[...])


def over_tensor(x: Array, axis: int | None = None) -> Array:
    """Spreads an axis over the mesh axis `tensor`, where there is one; None: x is whole there.

    It says nothing outside of a `shard_map` over the other axes.
    """
    mesh = jax.sharding.get_abstract_mesh()
    size = mesh.shape.get("tensor", 1) if mesh.manual_axes else 1
    if size == 1 or (axis is not None and x.shape[axis] % size):
        return x
    names = ["tensor" if number == axis else None for number in range(x.ndim)]
    return lax.with_sharding_constraint(x, PartitionSpec(*names))


def dropout(x: Array, rate: float, keys: Array | None, site: int) -> Array:
    """Drops features of every row by its own key: `x [n t d]` or `[n h t t]`, `keys [n]`.

    What is drawn for a token does not depend on how many tokens of padding come behind.
    """
    if keys is None or rate == 0:
        return x
    threshold = round(rate * 2**16)

    def kept(key: Array) -> Array:
        key = jax.random.fold_in(key, site)
        if x.ndim < 4:
            return jax.random.bits(key, x.shape[1:], jnp.uint16) >= threshold
        heads, queries, width = x.shape[1:]
        numbers = (jnp.arange(heads) * 2**16)[:, None] + jnp.arange(queries)

        def of_query(number: Array) -> Array:
            return jax.random.bits(jax.random.fold_in(key, number), (width,), jnp.uint16)

        return jax.vmap(jax.vmap(of_query))(numbers) >= threshold

    return jnp.where(jax.vmap(kept)(keys), x / (1 - threshold / 2**16), 0).astype(x.dtype)


def turns(positions: Positions, angles: Angles) -> tuple[Array, Array]:
    """Computes cosine and sine of the angles of all tokens, `[n t 1 k/2]`."""
    frequencies = angles.frequencies
    if positions.lengths is not None and angles.long is not None:
        long, longest = angles.long
        frequencies = jnp.where(positions.lengths[..., None, None] > longest, long, frequencies)
    turned = positions.index[..., None, None] * frequencies
    factor = 1 if angles.factor is None else angles.factor
    return jnp.cos(turned) * factor, jnp.sin(turned) * factor


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Turns pairs of features `[n t h k]` by angles that grow with the position."""
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)
    return turned.astype(x.dtype)


def attend(
    query: Array,
    key: Array,
    value: Array,
    bias: Array,
    scale: float,
    drop: Callable[[Array], Array],
) -> Array:
    """Computes `drop(softmax(scale · query keyᵀ + bias)) value` for every head, `[n t h k]`.

    Several heads of the query may share one of key and value. Heads come before tokens in the
    products, the order in which XLA's CPU programs need no further copies.
    """
    groups = query.shape[2] // key.shape[2]
    if groups > 1:
        key, value = (jnp.repeat(x, groups, axis=2) for x in (key, value))
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
    logits = jnp.einsum("nhtk,nhsk->nhts", query, key, preferred_element_type=jnp.float32)
    weights = drop(jax.nn.softmax(logits * scale + bias, axis=-1)).astype(value.dtype)
    return jnp.swapaxes(jnp.einsum("nhts,nhsk->nhtk", weights, value), 1, 2)


class Attention(nnx.Module):
    """Multi-head attention of the tokens of a row to each other."""

    def __init__(self, a: Architecture, dtype: Any, rngs: nnx.Rngs):
        linear = partial(Linear, a, dtype=dtype, rngs=rngs, use_bias=a.attention_bias)
        self.query = linear(a.width, a.n_heads * a.head)
        self.key = linear(a.width, a.key_heads * a.head)
        self.value = linear(a.width, a.key_heads * a.head)
        self.out = linear(a.n_heads * a.head, a.width)
        if a.query_key_norm:
            self.query_norm = norm(a, a.head, rngs)
            self.key_norm = norm(a, a.head, rngs)
        self.a, self.dtype = a, dtype

    def __call__(
        self, x: Array, positions: Positions, of_layer: OfLayer, keys: Array | None
    ) -> Array:
        a = self.a
        n, t, _ = x.shape
        query = over_tensor(self.query(x).reshape(n, t, a.n_heads, a.head), 2)
        key = over_tensor(self.key(x).reshape(n, t, a.key_heads, a.head), 2)
        value = over_tensor(self.value(x).reshape(n, t, a.key_heads, a.head), 2)
        if a.query_key_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        if of_layer.angles is not None:
            turned = turns(positions, of_layer.angles)
            query, key = rotate(query, *turned), rotate(key, *turned)
        query, key = query.astype(self.dtype), key.astype(self.dtype)
        mask = positions.mask
        if of_layer.window is not None:
            mask = mask & (jnp.abs(positions.distances) <= of_layer.window)
        scale = a.attention_scale or a.head**-0.5
        on_gpu = jax.default_backend() == "gpu" and self.dtype in (jnp.bfloat16, jnp.float16)
        if on_gpu and t % 2 == 0 and (keys is None or a.attention_dropout == 0):
            mixed = jax.nn.dot_product_attention(
                query,
                key,
                value,
                bias=positions.bias,
                mask=jnp.broadcast_to(mask, (n, 1, t, t)),
                scale=scale,
                implementation="cudnn",
            )
        else:
            bias = jnp.where(mask, 0, MASKED)
            bias = bias if positions.bias is None else bias + positions.bias
            drop = partial(dropout, rate=a.attention_dropout, keys=keys, site=0)
            mixed = attend(query, key, value, bias, scale, drop)
        return over_tensor(self.out(over_tensor(mixed.reshape(n, t, -1), 2)))


class FeedForward(nnx.Module):
    """Two linear maps with an activation between them, or gated by a third."""

    def __init__(self, a: Architecture, dtype: Any, rngs: nnx.Rngs):
        linear = partial(Linear, a, dtype=dtype, rngs=rngs, use_bias=a.mlp_bias)
        self.up = linear(a.width, a.mlp_width)
        if a.gated:
            self.gate = linear(a.width, a.mlp_width)
        self.down = linear(a.mlp_width, a.width)
        self.activation = ACTIVATIONS[a.activation]

    def __call__(self, x: Array) -> Array:
        if hasattr(self, "gate"):
            hidden = self.activation(over_tensor(self.gate(x), 2)) * over_tensor(self.up(x), 2)
        else:
            hidden = self.activation(over_tensor(self.up(x), 2))
        return over_tensor(self.down(hidden))


class Layer(nnx.Module):
    """Attention and a feed-forward network, each added to what it read."""

    def __init__(self, a: Architecture, dtype: Any, rngs: nnx.Rngs):
        self.attention = Attention(a, dtype, rngs)
        self.attention_norm = norm(a, a.width, rngs)
        self.mlp = FeedForward(a, dtype, rngs)
        self.mlp_norm = norm(a, a.width, rngs)
        if a.post_norms:
            self.after_attention_norm = norm(a, a.width, rngs)
            self.after_mlp_norm = norm(a, a.width, rngs)
        self.a, self.dtype = a, dtype

    def __call__(
        self,
        x: Array,
        positions: Positions,
        of_layer: OfLayer,
        keys: Array | None,
        between: Callable[[Array], Array] | None = None,
    ) -> Array:
        """Computes the layer; `between` comes behind attention, as a decoder's cross-attention."""
        a = self.a
        x = over_tensor(x)
        drop = partial(dropout, rate=a.hidden_dropout, keys=keys)

        def attend(x: Array) -> Array:
            mixed = self.attention(x, positions, of_layer, keys)
            return drop(mixed, site=1) if "attention" in a.dropped else mixed

        def change(x: Array) -> Array:
            changed = self.mlp(x)
            return drop(changed, site=2) if "mlp" in a.dropped else changed

        if not a.pre_norm:
            x = self.attention_norm(x + attend(x)).astype(self.dtype)
            x = x if between is None else between(x)
            return self.mlp_norm(x + change(x)).astype(self.dtype)
        normed = self.attention_norm(x).astype(self.dtype)
        if not a.first_attention_norm:
            normed = jnp.where(of_layer.number == 0, x, normed)
        mixed = attend(normed)
        x = x + (self._cast(self.after_attention_norm(mixed)) if a.post_norms else mixed)
        x = x if between is None else between(x)
        changed = change(self.mlp_norm(x).astype(self.dtype))
        return x + (self._cast(self.after_mlp_norm(changed)) if a.post_norms else changed)

    def _cast(self, x: Array) -> Array:
        return x.astype(self.dtype)
