"""In-batch losses over a mesh: every row against the candidates of all devices, none copied."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxembed.calls import checks_call
from jaxembed.mesh_axes import AxisName, Ring
from jaxembed.transforms.columns import Columns, bind, name_of, without_partial
from jaxembed.typing import LossFn


@checks_call
def over_mesh(
    loss: LossFn,
    mesh: Mesh,
    *,
    axis_name: AxisName = "data",
    block_size: int | None = None,
    ring: bool = False,
) -> LossFn:
    """Returns the loss for arrays whose rows are spread over a mesh: the same value and gradients.

    A block of rows at a time is gathered from all devices, past the candidates that each of them
    keeps, so that a device has no more than its own rows and `block_size` times its candidates in
    memory. With `ring` rows stay and candidates travel: a third more work in fewer and larger
    messages, for networks on which many small ones are slow.

    Takes what the loss takes: arrays with leading n, of all rows, and others, of no row. Other
    transforms of losses go inside or outside.

    Args:
        loss: an in-batch loss (one that takes `axis_name`). Any other runs on sharded arrays under
            `jax.jit` as it is.
        axis_name: the axis of the mesh over which rows are spread, or several.
        block_size: rows compared at once, over all devices; in a ring, on each device. None: as the
            call or a `partial` says, else all. A call's own `block_size` goes first.

    Raises:
        ValueError: a loss that is no in-batch loss, an axis that the mesh does not have, rows that
            do not divide over the devices, an `axis_name` of the loss's own.

    Sources: Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
    2021; Liu et al., Ring Attention with Blockwise Transformers for Near-Infinite Context, 2023.

    >>> from jaxembed.losses import multiple_negatives_ranking_loss
    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> loss = over_mesh(multiple_negatives_ranking_loss, mesh, block_size=1)
    >>> loss(jnp.eye(2), jnp.eye(2), scale=1.0).round(4)
    Array(0.3133, dtype=float32)
    """
    name = name_of(loss)
    takes = inspect.signature(loss).parameters
    if "axis_name" not in takes:
        raise ValueError(
            f"{name} takes no axis_name, so it cannot run device by device; under jax.jit it takes"
            " sharded arrays as it is"
        )
    axes = (axis_name,) if isinstance(axis_name, str) else axis_name
    if missing := [axis for axis in axes if axis not in mesh.axis_names]:
        raise ValueError(f"the mesh has the axes {mesh.axis_names}; got axis_name {missing[0]!r}")
    # An axis of one device changes nothing, and beside axes that are left to XLA it makes it fail.
    axes = tuple(axis for axis in axes if mesh.shape[axis] > 1)
    devices = int(np.prod([mesh.shape[axis] for axis in axes]))
    over = Ring(axes) if ring else axes
    rows, everywhere = PartitionSpec(axes), PartitionSpec()

    @functools.wraps(loss)
    def of_all_devices(*args: Any, **keywords: Any) -> Array:
        own_size = keywords.get("block_size") is not None
        function, keywords = without_partial(loss, keywords)
        if (own_axis := keywords.get("axis_name", takes["axis_name"].default)) is not None:
            raise ValueError(f"over_mesh sets the axis_name of {name}; got {own_axis!r}")
        columns, call = bind(function, args, keywords)
        if not columns:
            return call(columns)  # the loss says what it takes
        chosen = {} if block_size is None or own_size else {"block_size": block_size}
        if not axes:
            return call(columns, **chosen)
        n = next(iter(columns.values())).shape[0]
        if n % devices:
            raise ValueError(
                f"{name} over {devices} devices needs a multiple of {devices} rows, with where"
                f" False for those that fill up; got {n}"
            )
        arrays = {
            k: x
            for k, x in keywords.items()
            if k not in columns and isinstance(x, jax.Array | np.ndarray)
        }
        of_rows = {k: k != "key" and x.shape[:1] == (n,) for k, x in arrays.items()}
        specs = rows, {k: rows if of_rows[k] else everywhere for k in arrays}

        def of_this_device(columns: Columns, arrays: dict[str, Any]) -> Array:
            return call(columns, **arrays, **chosen, axis_name=over)

        if jax.sharding.get_abstract_mesh().explicit_axes:
            place = lambda x, spec: jax.sharding.reshard(x, NamedSharding(mesh, spec))  # noqa: E731
            columns = {k: place(x, rows) for k, x in columns.items()}
            arrays = {k: place(x, specs[1][k]) for k, x in arrays.items()}
        return jax.shard_map(
            of_this_device, mesh=mesh, in_specs=specs, out_specs=everywhere, axis_names=set(axes)
        )(columns, arrays)

    return of_all_devices
