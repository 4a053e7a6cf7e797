"""The mesh, and where batches, parameters and optimizer states lie on it.

Its axes are `data`, `fsdp` and `tensor`. Rows are spread over `data` and `fsdp`; parameters over
`fsdp` by their shapes, and over `tensor` by what their axes are. A state is spread as its
parameters are. Everything else is whole on every device.

Source: Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models,
2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxembed.mesh_axes import row_axes

Tree = TypeVar("Tree")
TensorAxis = Callable[[tuple[str, ...], int], int | None]

AXES = ("data", "fsdp", "tensor")
SMALL = 2**13  # parameters with fewer elements are whole on every device
TILE = (8, 128)  # what TPUs round the last two axes up to


def no_tensor_axis(path: tuple[str, ...], ndim: int) -> None:
    """Says that no axis of a parameter is spread over `tensor`."""


def make_mesh(devices: Sequence[Any] | None = None, *, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """Builds the mesh over the devices (all of them if None); `data` gets what the others leave.

    Its axes are Auto on purpose: with Explicit ones an embedding look-up of sharded tokens raises.

    Raises:
        ValueError: the devices are no multiple of `fsdp` times `tensor`.

    >>> dict(make_mesh(jax.devices()[:2], fsdp=2).shape)
    {'data': 1, 'fsdp': 2, 'tensor': 1}
    """
    devices = jax.devices() if devices is None else devices
    if min(fsdp, tensor) < 1 or len(devices) % (fsdp * tensor):
        raise ValueError(
            f"fsdp {fsdp} times tensor {tensor} must divide the number of devices, {len(devices)}"
        )
    shape = len(devices) // (fsdp * tensor), fsdp, tensor
    types = (AxisType.Auto,) * 3
    try:
        return jax.make_mesh(shape, AXES, devices=devices, axis_types=types)
    except NotImplementedError:  # JAX's word for axes that are no product of the torus's sides
        array = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
        return Mesh(array, AXES, axis_types=types)


def row_parts(mesh: Mesh) -> int:
    """Counts the parts that the rows of a batch are spread into."""
    return math.prod(mesh.shape[axis] for axis in row_axes(mesh))


def own_row_parts(mesh: Mesh) -> tuple[int, ...]:
    """Returns which of these parts lie on devices of this process."""
    n = row_parts(mesh)
    indices = batch_sharding(mesh).addressable_devices_indices_map((n,)).values()
    return tuple(sorted({(index[0].start or 0) for index in indices if index is not None}))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows are spread over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(row_axes(mesh)))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds a whole copy."""
    return NamedSharding(mesh, PartitionSpec())


def state_specs(tree: Any, mesh: Mesh, tensor_axis: TensorAxis = no_tensor_axis) -> Any:
    """Says how each array of parameters, or of a state of parameters, is spread over the mesh.

    Of large arrays the axis that `tensor_axis(path, ndim)` names is spread over `tensor`, and over
    `fsdp` that one of the others which leaves the smallest part on each device, as TPUs store it;
    in doubt the longest. An axis that its devices do not divide is not spread.

    >>> mesh = jax.sharding.AbstractMesh((1, 4, 1), AXES)
    >>> state_specs({"kernel": jax.ShapeDtypeStruct((384, 1536), float)}, mesh)["kernel"]
    P(None, 'fsdp')
    """

    def of(path: tuple, leaf: Any) -> PartitionSpec:
        spec: list[str | None] = [None] * leaf.ndim
        if math.prod(leaf.shape) >= SMALL:
            _spread(spec, "tensor", tensor_axis(names_of(path), leaf.ndim), leaf.shape, mesh)
            _spread(spec, "fsdp", _smallest_part(spec, leaf.shape, mesh), leaf.shape, mesh)
        return PartitionSpec(*spec)

    return jax.tree_util.tree_map_with_path(of, tree)


def state_shardings(tree: Any, mesh: Mesh, tensor_axis: TensorAxis = no_tensor_axis) -> Any:
    """Says where each array lies, as `state_specs` spreads them."""
    specs = state_specs(tree, mesh, tensor_axis)
    is_spec = lambda leaf: isinstance(leaf, PartitionSpec)  # noqa: E731
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=is_spec)


def names_of(path: tuple) -> tuple[str, ...]:
    """Returns the names along a path through a tree, without positions in tuples."""
    entries = (getattr(entry, "key", getattr(entry, "name", None)) for entry in path)
    return tuple(str(entry) for entry in entries if entry is not None)


def _spread(
    spec: list[str | None], name: str, axis: int | None, shape: tuple[int, ...], mesh: Mesh
) -> None:
    size = mesh.shape.get(name, 1)
    if axis is not None and size > 1 and shape[axis] % size == 0:
        spec[axis] = name


def _smallest_part(spec: list[str | None], shape: tuple[int, ...], mesh: Mesh) -> int | None:
    size = mesh.shape.get("fsdp", 1)

    def stored(axis: int) -> int:
        part = [n // (size if i == axis else mesh.shape.get(spec[i], 1)) for i, n in
                enumerate(shape)]  # fmt: skip
        tiles = (1,) * (len(shape) - 2) + TILE[-len(shape) :]
        return math.prod(-(-n // tile) * tile for n, tile in zip(part, tiles, strict=True))

    fits = [i for i, n in enumerate(shape) if spec[i] is None and n % size == 0]
    return min(fits, key=lambda axis: (stored(axis), -shape[axis]), default=None)


def place(tree: Tree, shardings: Any) -> Tree:
    """Puts arrays that every process has whole where they belong, each device getting its part."""

    def one(leaf: Any, sharding: NamedSharding) -> Array:
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(one, tree, shardings)


def place_rows(tree: Tree, mesh: Mesh) -> Tree:
    """Joins the rows that each process has, those of its `own_row_parts`, to global arrays."""
    sharding, parts, own = batch_sharding(mesh), row_parts(mesh), own_row_parts(mesh)

    def one(rows: np.ndarray) -> Array:
        size = len(rows) // len(own)

        def part(index: Any) -> np.ndarray:
            position = own.index((index[0].start or 0) // size)
            return rows[position * size : (position + 1) * size]

        shape = (size * parts, *rows.shape[1:])
        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(one, tree)


def join_rows(rows: np.ndarray, n: int) -> np.ndarray:
    """Joins the rows that processes computed, of which every process has each so-manieth, to n.

    All processes must call it. Process 1 of 3 has the rows 1, 4, 7, …
    """
    from jax.experimental import multihost_utils

    processes = jax.process_count()
    if processes == 1:
        return rows
    padded = np.pad(rows, [(0, -(-n // processes) - len(rows)), *[(0, 0)] * (rows.ndim - 1)])
    gathered = np.asarray(multihost_utils.process_allgather(padded))
    return gathered.swapaxes(0, 1).reshape(-1, *rows.shape[1:])[:n]


def gather(tree: Tree) -> Tree:
    """Returns the arrays whole, as NumPy's, on every process; all processes must call it."""
    from jax.experimental import multihost_utils

    def one(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, Array) or leaf.is_fully_addressable:
            return np.asarray(leaf)
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(one, tree)
