"""Training embeddings that survive quantisation: the loss sees what an index would store.

Rounding has slope 0 almost everywhere, so gradients go straight through it (Bengio et al.,
Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation, 2013):
the value is that of the stored embedding, the gradient that of the embedding itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from jaxembed.calls import checks_call
from jaxembed.mesh_axes import Axis, name_of_axis
from jaxembed.similarity import as_float32, unit
from jaxembed.transforms.columns import Columns, bind, name_of, without_partial, wraps_and_takes
from jaxembed.typing import LossFn

PRECISIONS = ("int8", "binary")
TOKEN_MASKS = {"queries": "query_mask", "documents": "document_mask"}

Vectors = Float[Array, "*rows d"]
Ranges = Float[Array, "2 d"]


@checks_call
def ranges_of(embeddings: Vectors, where: Bool[Array, "*rows"] | None = None) -> Ranges:
    """Returns the least and the greatest value of every feature, over the rows that are real.

    What is not real may hold anything. Without any real row the range is 0 to 0. `where` may lack
    axes at its end: `[n]` for embeddings `[n k d]`.

    >>> ranges_of(jnp.array([[1.0, -2.0], [0.5, 7.0], [9.0, 9.0]]), jnp.array([True, True, False]))
    Array([[ 0.5, -2. ],
           [ 1. ,  7. ]], dtype=float32)
    """
    real = jnp.ones((), bool) if where is None else jnp.asarray(where)
    return _as_ranges(*_extremes(embeddings, _expand(real, embeddings.ndim)))


@checks_call
def int8_levels(embeddings: Vectors, ranges: Ranges) -> Vectors:
    """Computes the values that embeddings keep as 8-bit integers; gradients go straight through.

    With the range `(low, high)` of a feature, cut into 256 buckets from low on,

        step = (high - low) / 255
        code = clip(floor((x - low) / step), 0, 255) - 128
        value = low + (code + 128.5) step

    The codes are those of `quantize_embeddings` in sentence-transformers 6.2, up to rounding at the
    edge of a bucket; older versions neither floor nor clip. The value is the middle of the bucket,
    not its edge: so it is right on average, at most half a step off within the range, and has the
    same code again. A feature whose range is empty keeps `low`.

    The gradient is 1 within the range, its ends included, and 0 outside, where the value is
    clipped. The ranges are constants.

    Args:
        ranges: `[2 d]`, least and greatest value per feature, of a calibration set or by
            `ranges_of`.

    Returns:
        The values, in float32 (float64 for such embeddings).

    Raises:
        ValueError: ranges that are not `[2 d]`.

    Source: Jacob et al., Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference, 2018.

    >>> ranges = jnp.array([[0.0], [255.0]])  # steps of 1
    >>> int8_levels(jnp.array([[0.0], [12.7], [300.0]]), ranges)[:, 0]
    Array([  0.5,  12.5, 255.5], dtype=float32)
    """
    x = as_float32(embeddings)
    if ranges.shape != (2, x.shape[-1]):
        raise ValueError(f"ranges must be [2 d], {(2, x.shape[-1])}; got {ranges.shape}")
    ranges = jnp.asarray(ranges, x.dtype)
    low, high = jnp.expand_dims(ranges, tuple(range(1, x.ndim)))  # [1 d] each
    step = (high - low) / 255
    bucket = jnp.floor((x - low) / jnp.where(step == 0, 1, step))
    bucket = jnp.where(x >= high, 255, bucket)  # the greatest value itself, whatever the rounding
    value = low + (jnp.clip(bucket, 0, 255) + 0.5) * step
    clipped = (x < low) | (x > high)
    return _straight_through(value, jnp.where(clipped, 0, x))


@checks_call
def binary_levels(embeddings: Vectors) -> Vectors:
    """Computes the unit vectors that embeddings keep as one bit per feature.

        value = ±1 / √d        + where x > 0, as `packbits(x > 0)` stores it

    They have length 1 like the embeddings they stand for, so that a scale or a margin means the
    same for both; their dot product is their cosine, `1 - 2 h / d` at the Hamming distance h.

    The gradient is that of the unit vector `x / |x|`: a bit does not know the length of the
    embedding, so the gradient is orthogonal to it, and shrinks with it like that of a cosine. So a
    loss of bits and one of floats keep their proportion at any length. The usual clip, no gradient
    where `|x| > 1` (Courbariaux et al., Binarized Neural Networks, 2016), keeps values near the
    threshold; those of a unit vector always are. A zero vector passes no gradient.

    >>> binary_levels(jnp.array([[0.3, -2.0, 0.0, 1.0]]))
    Array([[ 0.5, -0.5, -0.5,  0.5]], dtype=float32)
    """
    x = as_float32(embeddings)
    signs = jnp.where(x > 0, 1, -1).astype(x.dtype)
    return _straight_through(signs * x.shape[-1] ** -0.5, unit(x))


@checks_call
def quantized(
    loss: LossFn, precision: str = "int8", columns: Sequence[str] | None = None
) -> LossFn:
    """Returns the loss of quantised embeddings: `int8_levels` or `binary_levels` of its columns.

    It is usually added to the loss of the floats, so that one model serves both:

        loss(a, p, **rest) + quantized(loss, "binary")(a, p, **rest)

    An "int8" loss takes one more keyword, `ranges=None`: `[2 d]` from a calibration set, constant,
    best those that the index will use. None takes the ranges of the batch: of all quantised columns
    and their leading axes together, from what is real by the loss's masks (and from all devices
    along its `axis_name`). A few rows span less than a corpus does, so that the steps are finer.
    Leave it None where the loss gets several widths, as in `matryoshka(quantized(loss), dims)`.

    Args:
        columns: the names of the positional arguments to quantise; None takes all. With
            ("positives", "negatives") float queries search quantised documents.

    Raises:
        ValueError: an unknown precision or column, a loss without named columns or one that is
            "int8" already; and when called, ranges that are not `[2 d]`, or without ranges columns
            of different widths.

    >>> def loss(left, right, *, where=None):
    ...     return jnp.mean(jnp.sum(left * right, axis=-1), where=where)
    >>> left, right = jnp.array([[0.6, 0.8]]), jnp.array([[0.8, -0.6]])
    >>> quantized(loss, "binary")(left, right)
    Array(0., dtype=float32)
    >>> quantized(loss, "binary", columns=("right",))(left, right).round(4)
    Array(-0.1414, dtype=float32)
    """
    parameters = list(inspect.signature(loss).parameters.values())
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    chosen = tuple(names) if columns is None else columns
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {list(PRECISIONS)}; got {precision!r}")
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            raise ValueError(
                f"{name_of(loss)} has columns without names, *{p.name}: quantise its loss_fn"
            )
        if p.name == "ranges" and precision == "int8":
            raise ValueError(
                f"{name_of(loss)} is quantised to int8 already: name all columns in one call"
            )
    if isinstance(chosen, str) or not chosen or not set(chosen) <= set(names):
        raise ValueError(f"columns must be some of {name_of(loss)}'s, {names}; got {chosen!r}")

    def quantized_loss(*args: Any, **keywords: Any) -> Array:
        ranges = keywords.pop("ranges", None) if precision == "int8" else None
        inner, keywords = without_partial(loss, keywords)
        columns, call = bind(inner, args, keywords)
        new = {name: columns[name] for name in chosen if columns.get(name) is not None}
        real = {name: _real(column, name, keywords) for name, column in new.items()}
        levels = binary_levels
        if precision == "int8" and new:
            if ranges is None:
                ranges = _common_ranges(new, real, keywords.get("axis_name"))
            levels = partial(int8_levels, ranges=ranges)
        for name, column in new.items():
            # Ones, so that no NaN of a row that is not real meets the slope of a norm.
            new[name] = levels(jnp.where(real[name], column, jnp.ones((), column.dtype)))
        return call(columns | new)

    if precision == "int8":
        return wraps_and_takes(loss, "ranges", "Ranges | None")(quantized_loss)
    return cast(LossFn, functools.wraps(loss)(quantized_loss))


def _straight_through(value: Array, x: Array) -> Array:
    """Returns the value, with the gradient of x."""
    return lax.stop_gradient(value) + (x - lax.stop_gradient(x))


def _expand(mask: Array, ndim: int) -> Array:
    return jnp.expand_dims(mask, tuple(range(mask.ndim, ndim)))


def _real(column: Array, name: str, keywords: Mapping[str, Any]) -> Array:
    """Joins the masks of a column; one that does not fit is the loss's to refuse."""
    real = jnp.ones((1,) * column.ndim, bool)
    for mask in ("where", f"{name}_where", TOKEN_MASKS.get(name, "")):
        mask = keywords.get(mask)
        if mask is not None and mask.shape == column.shape[: mask.ndim]:
            real &= _expand(jnp.asarray(mask, bool), column.ndim)
    return real


def _extremes(embeddings: Vectors, real: Array) -> tuple[Array, Array]:
    """Returns least and greatest values `[d]`, infinite where nothing is real."""
    x = lax.stop_gradient(as_float32(embeddings))
    axes = tuple(range(x.ndim - 1))
    low = jnp.min(x, axis=axes, where=real, initial=jnp.inf)
    return low, jnp.max(x, axis=axes, where=real, initial=-jnp.inf)


def _as_ranges(low: Array, high: Array) -> Ranges:
    ranges = jnp.stack([low, high])
    return jnp.where(low > high, 0, ranges)


def _common_ranges(columns: Columns, real: Columns, axis_name: Axis | None) -> Ranges:
    """Returns the ranges over all columns, and over all devices where the rows are spread."""
    widths = {name: column.shape[-1] for name, column in columns.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"columns of different widths need ranges of their own; got {widths}")
    extremes = [_extremes(column, real[name]) for name, column in columns.items()]
    low = functools.reduce(jnp.minimum, (low for low, _ in extremes))
    high = functools.reduce(jnp.maximum, (high for _, high in extremes))
    if axis_name is not None:
        name = name_of_axis(axis_name)
        low, high = lax.pmin(low, name), lax.pmax(high, name)
    return _as_ranges(low, high)
