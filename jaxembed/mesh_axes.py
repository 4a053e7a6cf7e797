"""Axes of a mesh inside `jax.shard_map`: how they are named, and which arrays differ along them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import jax
from jax import lax
from jax.sharding import Mesh

Tree = TypeVar("Tree")
AxisName = str | tuple[str, ...]
ROWS = ("data", "fsdp")


@dataclass(frozen=True)
class Ring:
    """An axis, or several as one, along which candidates of a loss travel rather than its rows.

    Costs a third more than gathering rows, in few large messages rather than many small ones.
    """

    axis_name: AxisName


Axis = AxisName | Ring


def name_of_axis(axis: Axis) -> AxisName:
    """Returns the name by which collectives know an axis."""
    return axis.axis_name if isinstance(axis, Ring) else axis


def row_axes(mesh: Mesh) -> tuple[str, ...]:
    """Returns the axes of a mesh that the rows of a batch are spread over."""
    return tuple(axis for axis in ROWS if axis in mesh.axis_names)


def varying_axes(x: Any) -> frozenset[str]:
    """Returns the mesh axes along which an array may differ, none outside `jax.shard_map`."""
    kind = jax.typeof(x)
    manual = getattr(kind, "manual_axis_type", None)
    return frozenset(getattr(kind, "vma", ()) if manual is None else manual.varying)


def vary(tree: Tree, axis_name: AxisName) -> Tree:
    """Makes every array of a tree a varying one, which leaves the numbers as they are.

    A derivative with respect to a varying array stays on its device; that of this function sums
    them up. Done once before a loop, it keeps the sums out of the loop.
    """
    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)

    def one(x):
        missing = tuple(name for name in names if name not in varying_axes(x))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(one, tree)
