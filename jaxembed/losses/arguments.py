"""Checks of what is known while tracing: shapes, choices, Python numbers. Traced values pass."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Sequence
from typing import ParamSpec, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec
from jaxtyping import Bool

from jaxembed.calls import checked_call

P = ParamSpec("P")


def takes_columns(loss: Callable[P, Array]) -> Callable[P, Array]:
    """Makes a loss refuse a wrong number of arrays by position, with the names of those it takes.

    And what `checked_call` refuses: unknown keywords, values of another kind, similarities of the
    wrong form. NumPy arrays become JAX's, and masks have to be booleans. Under a mesh with Explicit
    axes (`jax.set_mesh`) the compiler shards the inside of the loss as it does under Auto axes: all
    pairs of rows have no sharding that the types could say. There a function among the arguments
    must not close over traced arrays.

    >>> @takes_columns
    ... def loss(left, right, negatives=None, *, scale=1.0): ...
    >>> loss(jnp.zeros((2, 3)))
    Traceback (most recent call last):
    ValueError: loss takes the arrays left, right, negatives (optional); got 1
    """
    parameters = inspect.signature(loss).parameters.values()
    columns = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    least = sum(column.default is column.empty for column in columns)
    names = [c.name if c.default is c.empty else f"{c.name} (optional)" for c in columns]

    @functools.wraps(loss)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Array:
        given = len(args) + sum(column.name in kwargs for column in columns)
        if not least <= given <= len(columns):
            takes = f"{getattr(loss, '__name__', 'this loss')} takes the arrays {', '.join(names)}"
            raise ValueError(f"{takes}; got {given}")
        kwargs = checked_call(loss, args, kwargs)  # pyright: ignore[reportAssignmentType]
        as_jax = lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x  # noqa: E731
        args, kwargs = jax.tree.map(as_jax, (args, kwargs))
        for name, value in kwargs.items():
            kind = str(getattr(value, "dtype", "bool"))
            if name.endswith(("where", "_mask")) and kind != "bool":
                raise ValueError(f"{name} must be booleans; got {kind}")
        explicit = jax.sharding.get_abstract_mesh().explicit_axes
        if not explicit:
            return loss(*args, **kwargs)
        arrays = {name: value for name, value in kwargs.items() if isinstance(value, jax.Array)}
        rest = {name: value for name, value in kwargs.items() if name not in arrays}
        call = lambda args, arrays: cast(Callable, loss)(*args, **arrays, **rest)  # noqa: E731
        auto = cast(Callable, jax.sharding.auto_axes)
        return auto(call, axes=explicit, out_sharding=PartitionSpec())(args, arrays)

    return checked


def check_shapes(reference: str, /, **arrays: Array | None) -> None:
    """Raises ValueError unless all given arrays have the shape of the one named `reference`."""
    shapes = {name: array.shape for name, array in arrays.items() if array is not None}
    for name, shape in shapes.items():
        if shape != shapes[reference]:
            raise ValueError(
                f"{name} must have the shape of {reference}, {shapes[reference]}; got {shape}"
            )


def check_shape(shape: tuple[int, ...], /, **arrays: Array | None) -> None:
    """Raises ValueError unless all given arrays have this shape."""
    for name, array in arrays.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"{name} must have the shape {shape}; got {array.shape}")


def check_leading(size: tuple[int, ...], /, **arrays: Array | None) -> None:
    """Raises ValueError unless all given arrays start with the axes `size`."""
    for name, array in arrays.items():
        if array is not None and array.shape[: len(size)] != size:
            raise ValueError(f"{name} must start with the axes {size}; got shape {array.shape}")


def check_positive(**numbers: object) -> None:
    """Raises ValueError for a Python number that is not above 0."""
    for name, number in numbers.items():
        if isinstance(number, float) and number == math.inf:
            raise ValueError(f"{name} must be finite; got {number}")
        if isinstance(number, int | float) and not number > 0:
            raise ValueError(f"{name} must be above 0; got {number}")


def check_not_negative(**numbers: object) -> None:
    """Raises ValueError for a Python number below 0 (or not a number)."""
    for name, number in numbers.items():
        if isinstance(number, float) and number == math.inf:
            raise ValueError(f"{name} must be finite; got {number}")
        if isinstance(number, int | float) and not number >= 0:
            raise ValueError(f"{name} must not be below 0; got {number}")


def is_zero(weight: object) -> bool:
    """Returns True if a weight is the Python number 0, so that its term need not be computed."""
    return isinstance(weight, int | float) and weight == 0


def check_integers(**arrays: Array) -> None:
    """Raises ValueError for an array that does not hold integers."""
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise ValueError(f"{name} must be integers; got {array.dtype}")


def check_one_of(**arrays: Array | None) -> None:
    """Raises ValueError unless exactly one of the arrays is given."""
    given = [name for name, array in arrays.items() if array is not None]
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(arrays)}; got {given or 'none'}")


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raises ValueError for a value that is none of the choices."""
    if value not in list(choices):
        raise ValueError(f"{name} must be one of {list(choices)}; got {value!r}")


def clean(where: Bool[Array, "..."] | None, *arrays: Array) -> Sequence[Array]:
    """Puts ones where a row is not real, whatever it holds (NaN too): its gradient is exactly 0.

    Ones and not zeros: a cosine has its steepest slope near the zero vector.
    """
    if where is None:
        return arrays

    def one(array):
        real = jnp.expand_dims(where, tuple(range(where.ndim, array.ndim)))
        return jnp.where(real, array, jnp.ones((), array.dtype))

    return [one(array) for array in arrays]
