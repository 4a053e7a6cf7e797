"""Encoding over a mesh: every device encodes its own rows, with parameters gathered once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxembed.calls import checks_call
from jaxembed.mesh_axes import AxisName, vary
from jaxembed.randomness import row_keys
from jaxembed.typing import EncodeFn, Params


@checks_call
def by_device(
    encode: EncodeFn,
    mesh: Mesh,
    *,
    axis_name: AxisName = "data",
    param_specs: Callable[[Params], Any] | None = None,
) -> EncodeFn:
    """Returns an encode function whose rows are spread over a mesh: no token leaves its device.

    Parameters that are spread over the axes of the rows, too, are gathered once per call, in front
    of whatever loops `encode` has, and their gradients are summed once and scattered behind them.
    Values and gradients are those of `encode`, with dropout too, as every row has its own key.

    Args:
        axis_name: the axis of the mesh over which rows are spread, or several.
        param_specs: gives the `PartitionSpec` of every parameter of a tree; None: all are whole on
            every device. Other axes of the mesh are left to XLA.

    Raises:
        ValueError: an axis that the mesh lacks; when called, rows that the devices cannot share
            evenly, entries of `tokens` with different numbers of rows, or a call in a `shard_map`
            over these axes.

    Source: Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter
    Models, 2020.

    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> encode = lambda params, tokens, *, key=None: tokens["input_ids"] @ params
    >>> by_device(encode, mesh)(jnp.ones(2), {"input_ids": jnp.ones((3, 2))})
    Array([2., 2., 2.], dtype=float32)
    """
    axes = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
    if not set(axes) <= set(mesh.axis_names):
        raise ValueError(f"axis_name must be of the mesh, {mesh.axis_names}; got {axis_name!r}")
    # An axis of one device changes nothing, and beside axes that are left to XLA it makes it fail.
    shared = tuple(axis for axis in axes if mesh.shape[axis] > 1)
    rows = PartitionSpec(shared)

    @functools.wraps(encode)
    def encode_own_rows(params: Params, tokens: Any, *, key: Array | None = None) -> Array:
        manual = jax.sharding.get_abstract_mesh().manual_axes
        if set(axes) & set(manual):
            raise ValueError(f"mesh is for use outside of a shard_map over {manual}; leave it out")
        n = number_of_rows(tokens)
        keys = None if key is None else row_keys(key, n)
        if not shared:
            return encode(params, tokens, key=keys)
        devices = math.prod(mesh.shape[axis] for axis in shared)
        if n % devices:
            raise ValueError(
                f"{n} rows cannot be shared evenly by the {devices} devices of {shared}; pad them"
                f" to {n + -n % devices} with rows that `where` leaves out"
            )
        types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
        if explicit := tuple(axis for axis in shared if types[axis] == AxisType.Explicit):
            sharding = NamedSharding(mesh, PartitionSpec(explicit))
            tokens, keys = jax.sharding.reshard((tokens, keys), sharding)
        specs = jax.tree.map(lambda _: PartitionSpec(), params)
        if param_specs is not None:
            specs = jax.tree.map(
                lambda spec: PartitionSpec(*(axis if axis in shared else None for axis in spec)),
                param_specs(params),
                is_leaf=lambda leaf: isinstance(leaf, PartitionSpec),
            )

        def of_this_device(params: Params, tokens: Any, keys: Array | None) -> Array:
            whole = vary(jax.tree.map(_gathered, params, specs), shared)
            return encode(whole, tokens, key=keys)

        encoded = jax.shard_map(
            of_this_device,
            mesh=mesh,
            in_specs=(specs, rows, rows),
            out_specs=rows,
            axis_names=set(shared),
        )
        return encoded(params, tokens, keys)

    return encode_own_rows


def number_of_rows(tokens: Any) -> int:
    """Returns the number of rows that all entries of tokens have."""
    sizes = {entry.shape[0] for entry in jax.tree.leaves(tokens)}
    if len(sizes) != 1:
        raise ValueError(
            f"the entries of tokens must have the same number of rows; got {sorted(sizes)};"
            " columns split by length are encoded by by_length(cached(encode, chunk_size))"
        )
    return sizes.pop()


def _gathered(part: Array, spec: PartitionSpec) -> Array:
    """Joins the parts that devices have of a parameter."""
    for axis, name in enumerate(spec):
        if name is not None:
            part = lax.all_gather(part, name, axis=axis, tiled=True)
    return part
