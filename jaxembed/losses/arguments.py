"""Checks of what is known while tracing: shapes, choices, Python numbers. Traced values pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool


def check_shapes(reference: str, /, **arrays: Array | None) -> None:
    """Raises ValueError unless all given arrays have the shape of the one named `reference`."""
    expected = arrays[reference]
    assert expected is not None
    for name, array in arrays.items():
        if array is not None and array.shape != expected.shape:
            raise ValueError(
                f"{name} must have the shape of {reference}, {expected.shape}; got {array.shape}"
            )


def check_leading(size: tuple[int, ...], /, **arrays: Array | None) -> None:
    """Raises ValueError unless all given arrays start with the axes `size`."""
    for name, array in arrays.items():
        if array is not None and array.shape[: len(size)] != size:
            raise ValueError(f"{name} must start with the axes {size}; got shape {array.shape}")


def check_positive(**numbers: object) -> None:
    """Raises ValueError for a Python number that is not above 0."""
    for name, number in numbers.items():
        if isinstance(number, int | float) and not number > 0:
            raise ValueError(f"{name} must be above 0; got {number}")


def check_not_negative(**numbers: object) -> None:
    """Raises ValueError for a Python number below 0 (or not a number)."""
    for name, number in numbers.items():
        if isinstance(number, int | float) and not number >= 0:
            raise ValueError(f"{name} must not be below 0; got {number}")


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raises ValueError for a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}; got {value!r}")


def clean(where: Bool[Array, "..."] | None, *arrays: Array) -> Sequence[Array]:
    """Puts ones where a row is not real, whatever it holds (NaN too): its gradient is exactly 0.

    Ones and not zeros: a cosine has its steepest slope near the zero vector.
    """
    if where is None:
        return arrays
    return [
        jnp.where(jnp.expand_dims(where, tuple(range(where.ndim, array.ndim))), array, 1)
        for array in arrays
    ]
