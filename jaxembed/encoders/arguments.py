"""Arguments of calls in Python: checked against the forms that data of files has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxembed.encoders.errors import EncoderError
from jaxembed.forms import Form, FormError, check_form


def check_arguments(call: str, form: Mapping[str, Form], **values: Any) -> dict[str, Any]:
    """Returns arguments that have the form of each, scalars of NumPy as those of Python.

    Raises:
        EncoderError: the call, its argument, what is due and what came.
    """
    plain = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in values.items()
    }
    try:
        return check_form(plain, dict(form), call)
    except FormError as error:
        raise EncoderError(" ".join(str(error).split())) from None


def check_float(dtype: Any) -> None:
    """Refuses what is no type of floats.

    Raises:
        EncoderError: names what came.
    """
    try:
        floating = dtype is not None and jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        raise EncoderError(f"dtype must be one of floats, such as jnp.bfloat16; got {dtype!r}")


def check_numbers(name: str, values: Any) -> None:
    """Refuses what is no array of numbers.

    Raises:
        EncoderError: names the argument.
    """
    try:
        np.asarray(values, np.float32)
    except (TypeError, ValueError):
        raise EncoderError(f"{name} must hold numbers; got {type(values).__name__}") from None
