"""What the devices of a mesh tell each other about the rows of a loss, inside `jax.shard_map`.

Every device holds equally many rows, in the order of the devices. `Alone` is one device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import jax
from jax import Array, lax

from jaxembed.mesh_axes import Axis, AxisName, name_of_axis, vary

Tree = TypeVar("Tree")


class Alone:
    """There is one device, which holds all rows and all candidates."""

    size = 1
    index = 0

    def vary(self, tree: Tree) -> Tree:
        return tree

    def gather(self, tree: Tree) -> Tree:
        return tree

    def scatter(self, tree: Tree) -> Tree:
        return tree

    def mine(self, x: Array) -> Array:
        return x

    def total(self, x: Any) -> Any:
        return x

    def greatest(self, x: Array) -> Array:
        return x

    def least(self, x: Array) -> Array:
        return x

    def agree(self, x: Any) -> Any:
        return x


@dataclass(frozen=True)
class Devices:
    """The devices along one axis of the mesh, or several as one."""

    axis_name: AxisName

    @property
    def size(self) -> int:
        return lax.psum(1, self.axis_name)

    @property
    def index(self) -> Array:
        return lax.axis_index(self.axis_name)

    def vary(self, tree: Tree) -> Tree:
        """Makes all arrays varying, so that their gradients stay on their device."""
        return vary(tree, self.axis_name)

    def gather(self, tree: Tree) -> Tree:
        """Joins the rows of all devices."""
        return jax.tree.map(lambda x: lax.all_gather(x, self.axis_name, tiled=True), tree)

    def scatter(self, tree: Tree) -> Tree:
        """Sums over the devices and returns this device's rows; the transpose of `gather`."""
        return jax.tree.map(lambda x: lax.psum_scatter(x, self.axis_name, tiled=True), tree)

    def mine(self, x: Array) -> Array:
        """Returns this device's rows of what `gather` returned."""
        rows = x.shape[0] // self.size
        return lax.dynamic_slice_in_dim(x, self.index * rows, rows)

    def total(self, x: Any) -> Any:
        return lax.psum(x, self.axis_name)

    def greatest(self, x: Array) -> Array:
        return lax.pmax(x, self.axis_name)

    def least(self, x: Array) -> Array:
        return lax.pmin(x, self.axis_name)

    def onward(self, tree: Tree) -> Tree:
        """Sends arrays to the next device and returns those of the one before."""
        shift = [(device, (device + 1) % self.size) for device in range(self.size)]
        return jax.tree.map(lambda x: lax.ppermute(x, self.axis_name, shift), tree)

    def agree(self, x: Any) -> Any:
        """Makes a number that is the same on all devices one that does not vary."""
        return lax.pmean(x, self.axis_name)


Across = Alone | Devices


def across_of(axis: Axis | None) -> Across:
    """Returns the devices that an `axis_name` of a loss stands for."""
    return Alone() if axis is None else Devices(name_of_axis(axis))
