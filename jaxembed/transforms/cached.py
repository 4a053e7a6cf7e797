"""Encoding many rows with the memory of a few: GradCache by `jax.checkpoint`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxembed.mesh_axes import AxisName, vary, varying_axes
from jaxembed.randomness import row_keys
from jaxembed.typing import EncodeFn, Params


def cached(
    encode: EncodeFn,
    chunk_size: int,
    *,
    mesh: Mesh | None = None,
    axis_name: AxisName = "data",
) -> EncodeFn:
    """Returns an encode function that keeps the activations of `chunk_size` rows at a time.

    The rows are encoded chunk by chunk and only their embeddings stay; the gradient encodes every
    chunk once more. Values and gradients are those of `encode`, with dropout too, as every row has
    a key of its own. So a loss over a large batch takes the memory of a small one, for a third more
    floating-point operations.

    Chunks are of equal size: 100 rows with `chunk_size=32` are four times 25. Where the rows do not
    suffice, the first ones are encoded a second time and dropped, with gradient 0.

    Over a mesh, pass it: every device encodes its own rows, `chunk_size` of them at a time, and the
    gradients are reduced once per call, after the loop. The rows are spread over `axis_name`, an
    axis of the mesh or several. Parameters may be sharded over the others.

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
    axes = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
    if mesh is not None and not set(axes) <= set(mesh.axis_names):
        raise ValueError(f"axis_name must be of the mesh, {mesh.axis_names}; got {axis_name!r}")

    def encode_chunks(params: Params, tokens: Any, keys: Array | None) -> Array:
        return _encode_chunks(encode, chunk_size, params, tokens, keys)

    @functools.wraps(encode)
    def encode_cached(params: Params, tokens: Any, *, key: Array | None = None) -> Array:
        manual = jax.sharding.get_abstract_mesh().manual_axes
        if mesh is None and manual:
            _check_key(tokens, key)
        if mesh is not None and set(axes) & set(manual):
            raise ValueError(f"mesh is for use outside of a shard_map over {manual}; leave it out")
        keys = None if key is None else row_keys(key, _number_of_rows(tokens))
        if mesh is None:
            return encode_chunks(params, tokens, keys)
        return _over_mesh(encode_chunks, mesh, axes, params, tokens, keys)

    return encode_cached


def _encode_chunks(
    encode: EncodeFn, chunk_size: int, params: Params, tokens: Any, keys: Array | None
) -> Array:
    # Before the loop, for where this is done the gradients of the devices are summed up.
    params = vary(params, _varying(tokens))
    n = _number_of_rows(tokens)
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


def _over_mesh(
    encode_rows: Callable[[Params, Any, Array | None], Array],
    mesh: Mesh,
    axes: tuple[str, ...],
    params: Params,
    tokens: Any,
    keys: Array | None,
) -> Array:
    """Encodes on every device the rows that lie there."""
    # An axis of one device changes nothing, and beside axes that are left to XLA it makes it fail.
    axes = tuple(axis for axis in axes if mesh.shape[axis] > 1)
    if not axes:
        return encode_rows(params, tokens, keys)
    n, devices = _number_of_rows(tokens), math.prod(mesh.shape[axis] for axis in axes)
    if n % devices:
        raise ValueError(
            f"{n} rows cannot be shared evenly by the {devices} devices of {axes}; pad them to"
            f" {n + -n % devices} with rows that `where` leaves out"
        )
    types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if explicit := tuple(axis for axis in axes if types[axis] == AxisType.Explicit):
        sharding = NamedSharding(mesh, PartitionSpec(explicit))
        tokens, keys = jax.sharding.reshard((tokens, keys), sharding)
    rows = PartitionSpec(axes)
    specs = (PartitionSpec(), rows, rows)
    shards = jax.shard_map(
        encode_rows, mesh=mesh, in_specs=specs, out_specs=rows, axis_names=set(axes)
    )
    return shards(params, tokens, keys)


def _number_of_rows(tokens: Any) -> int:
    sizes = {entry.shape[0] for entry in jax.tree.leaves(tokens)}
    if len(sizes) != 1:
        raise ValueError(
            f"the entries of tokens must have the same number of rows; got {sorted(sizes)};"
            " columns split by length are encoded by by_length(cached(encode, chunk_size))"
        )
    return sizes.pop()


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
