"""Encoding many rows with the memory of a few: GradCache by `jax.checkpoint`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from jaxembed.calls import checks_call
from jaxembed.mesh_axes import AxisName, vary, varying_axes
from jaxembed.randomness import row_keys
from jaxembed.transforms.by_device import by_device, number_of_rows
from jaxembed.typing import EncodeFn, Params


@checks_call
def cached(
    encode: EncodeFn,
    chunk_size: int,
    *,
    mesh: Mesh | None = None,
    axis_name: AxisName = "data",
    param_specs: Callable[[Params], Any] | None = None,
) -> EncodeFn:
    """Returns an encode function that keeps the activations of `chunk_size` rows at a time.

    The rows are encoded chunk by chunk and only their embeddings stay; the gradient encodes every
    chunk once more. Values and gradients are those of `encode`, with dropout too, as every row has
    a key of its own. So a loss over a large batch takes the memory of a small one, for a third more
    floating-point operations.

    Chunks are of equal size: 100 rows with `chunk_size=32` are four times 25. Where the rows do not
    suffice, the first ones are encoded a second time and dropped, with gradient 0.

    Over a mesh, pass it: every device encodes its own rows, `chunk_size` of them at a time, and the
    gradients are reduced once per call, after the loop. `axis_name` and `param_specs` are those of
    `by_device`.

    Without `mesh`, but with rows that `jit` spreads over devices, a chunk has rows of all devices
    and `chunk_size` is that of all together. The work is shared, but XLA may reduce the gradients
    in every turn of the loop. In a `shard_map` of one's own, leave `mesh` out and give one key per
    row, made outside: with a single key all devices would drop the same.

    The rows of `tokens` may be of any shape that `encode` takes, such as `[n k t]`; it must treat
    every row by itself. Columns split by length go with `by_length(cached(encode, 32))`.

    >>> encode = lambda params, tokens, *, key=None: tokens["input_ids"] @ params
    >>> tokens = {"input_ids": jnp.arange(20.0).reshape(10, 2)}
    >>> total = lambda encode, params: jnp.sum(encode(params, tokens) ** 2)
    >>> float(jax.grad(total, 1)(cached(encode, 4), jnp.ones(2))[0])
    4740.0
    >>> float(jax.grad(total, 1)(encode, jnp.ones(2))[0])
    4740.0

    Source: Gao, Zhang, Han and Callan, Scaling Deep Contrastive Learning Batch Size under Memory
    Limited Setup, 2021.

    Raises:
        ValueError: a chunk size that is no positive int, or an axis that the mesh lacks; when
            called, rows that the devices cannot share evenly, entries of `tokens` with different
            numbers of rows, or in a `shard_map` a mesh over its axes, or a key that all devices
            share.
    """
    if not isinstance(chunk_size, int) or isinstance(chunk_size, bool) or chunk_size < 1:
        raise ValueError(f"chunk_size must be a positive int, such as 32; got {chunk_size!r}")

    @functools.wraps(encode)
    def encode_cached(params: Params, tokens: Any, *, key: Array | None = None) -> Array:
        if mesh is None and jax.sharding.get_abstract_mesh().manual_axes:
            _check_key(tokens, key)
        keys = None if key is None else row_keys(key, number_of_rows(tokens))
        return _encode_chunks(encode, chunk_size, params, tokens, keys)

    if mesh is None:
        return encode_cached
    return by_device(encode_cached, mesh, axis_name=axis_name, param_specs=param_specs)


def _encode_chunks(
    encode: EncodeFn, chunk_size: int, params: Params, tokens: Any, keys: Array | None
) -> Array:
    # Before the loop, for where this is done the gradients of the devices are summed up.
    params = vary(params, _varying(tokens))
    n = number_of_rows(tokens)
    chunks = -(-n // chunk_size)
    if chunks < 2:
        return jax.checkpoint(encode)(params, tokens, key=keys)
    _check_explicit_axes(tokens, chunks)

    def split(x: Array) -> Array:  # [n, …] -> [chunks, rows, …]
        """Chunk i takes the rows i, i + chunks, …, so that rows spread over devices stay so."""
        padded = jnp.concatenate([x, x[: -n % chunks]]) if n % chunks else x
        return padded.reshape(-1, chunks, *x.shape[1:]).swapaxes(0, 1)

    def encode_chunk(chunk: tuple[Any, Array | None]) -> Array:
        return encode(params, chunk[0], key=chunk[1])

    # Nothing outside of the loop computes what a turn does, so XLA cannot share it.
    step = jax.checkpoint(encode_chunk, prevent_cse=False)
    embeddings = lax.map(step, jax.tree.map(split, (tokens, keys)))
    return embeddings.swapaxes(0, 1).reshape(-1, *embeddings.shape[2:])[:n]


def _varying(tree: Any) -> tuple[str, ...]:
    """The axes of `shard_map` along which devices hold different values."""
    return tuple(sorted(frozenset().union(*map(varying_axes, jax.tree.leaves(tree)))))


def _check_key(tokens: Any, key: Array | None) -> None:
    """Refuses, in a `shard_map`, a key that is or may be the same on every device."""
    axes = _varying(tokens)
    if key is None or ({*axes} <= varying_axes(key) and (axes or key.ndim)):
        return
    raise ValueError(
        "in a shard_map with this key all devices would drop the same; make one key per row"
        " outside, row_keys(key, n), and shard them like the rows"
    )


def _check_explicit_axes(tokens: Any, chunks: int) -> None:
    """Refuses rows on Explicit axes that do not split evenly, as JAX would, but with a remedy."""
    for entry in jax.tree.leaves(tokens):
        sharding = jax.typeof(entry).sharding
        names = sharding.spec[0] if sharding.spec else None
        names = names if isinstance(names, tuple) else (names,)
        devices = math.prod(sharding.mesh.shape[name] for name in names if name is not None)
        if devices > 1 and entry.shape[0] % (chunks * devices):
            raise ValueError(
                f"{entry.shape[0]} rows on the Explicit axes {names} do not make {chunks} chunks of"
                f" equal size on {devices} devices; pass mesh, or choose another chunk_size"
            )
