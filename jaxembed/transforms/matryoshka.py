"""A loss at several widths of the embeddings, so that their first features can be used alone."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxembed.calls import checks_call
from jaxembed.similarity import as_float32, unit
from jaxembed.transforms.columns import (
    Columns,
    bind,
    draw,
    name_of,
    takes_key,
    without_partial,
    wraps_and_takes,
)
from jaxembed.typing import LossFn, Scalar


@checks_call
def matryoshka(
    loss: LossFn,
    dims: Sequence[int],
    weights: Sequence[Scalar] | None = None,
    n_dims_per_step: int = -1,
    truncate: Sequence[str] = (),
) -> LossFn:
    """Returns the loss summed over the first `k` features of the embeddings, for `k` in `dims`.

        Σ_k weight_k loss(first k features of every column, as unit vectors)

    Columns are the arrays `[... d]` that the loss takes by position, whatever their rank. They are
    unit vectors at every width, also at the full one. The sum is not divided by anything. All
    keywords go to the loss as they are, and what it returns, one number or one per row, is summed.

    Args:
        loss: any loss of embeddings, also a transformed one.
        dims: widths, from 1 to d, each once.
        weights: one for each width; None is 1 for all.
        n_dims_per_step: how many of the widths, drawn anew in every call; -1 for all. The weights
            of those drawn stay as they are. It takes `key=` in the call, and one compiled program
            computes only what was drawn (under `vmap` over keys: everything).
        truncate: keyword arrays in the space of the embeddings, such as ("teacher",). They are cut
            with them and not normalised.

    Returns:
        A loss with the arguments of the given one and `key`.

    Raises:
        ValueError: dims that are not positive, not distinct or beyond the width of the embeddings;
            weights or `n_dims_per_step` that do not go with them; a name in `truncate` that the
            loss does not take or whose array has another width; a draw without a key; and, for a
            loss of something else than embeddings or of the full width only, what to do about it.

    Source: Kusupati et al., Matryoshka Representation Learning, 2022 (without normalisation).

    >>> from jaxembed.losses import cosent_loss
    >>> left = jnp.array([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    >>> right = jnp.array([[0.6, 0.8, 0.0], [0.8, 0.6, 1.0]])
    >>> loss = matryoshka(cosent_loss, dims=(2, 3), weights=(1.0, 0.5))
    >>> loss(left, right, scores=jnp.array([0.9, 0.1])).round(4)
    Array(7.0194, dtype=float32)

    One width per step:

    >>> loss = matryoshka(cosent_loss, dims=(2, 3), n_dims_per_step=1)
    >>> loss(left, right, scores=jnp.array([0.9, 0.1]), key=jax.random.key(0)).shape
    ()
    """
    dims = _checked_dims(dims)
    factors = _checked_weights(weights, dims)
    draws = _draws(n_dims_per_step, dims)
    _check_names(loss, truncate)
    _check_takes_embeddings(loss)

    @wraps_and_takes(loss, "key", "Array | None")
    def at_dims(*args: Any, key: Array | None = None, **keywords: Any) -> Array:
        inner, keywords = without_partial(loss, keywords)
        columns, call = bind(inner, args, keywords)
        width = _width(loss, columns, dims)
        to_cut = _arrays_to_cut(truncate, keywords, width)
        draw_key, loss_key = (None, None) if key is None else jax.random.split(key)

        def at(k: int, position: int = 0) -> Array:
            cut: dict[str, Any] = {name: array[..., :k] for name, array in to_cut.items()}
            if loss_key is not None and takes_key(loss):
                cut["key"] = jax.random.fold_in(loss_key, position)
            return call({name: _unit(x[..., :k]) for name, x in columns.items()}, **cut)

        def term(position: int) -> Array:
            k = dims[position]
            try:
                return at(k, position) * factors[position]
            except (TypeError, ValueError) as error:
                failure = error
            jax.eval_shape(partial(at, width))  # what fails at the full width speaks for itself
            arrays = [
                name
                for name, x in keywords.items()
                if isinstance(x, jax.Array | np.ndarray) and name not in columns
            ]
            raise ValueError(
                f"{name_of(loss)} works on all {width} features but not on the first {k}: arrays in"
                " the embeddings' space go in truncate=, and parameters of the loss's own must not"
                f" depend on the width; its arrays by keyword: {', '.join(arrays) or 'none'}"
            ) from failure

        if draws is None:
            return sum((term(i) for i in range(1, len(dims))), start=term(0))
        message = f"matryoshka draws {draws} of {len(dims)} dims"
        positions = draw(draw_key, draws, len(dims), message)
        # Recomputed, as otherwise every branch would keep room for what all of them need.
        branches = [jax.checkpoint(partial(term, i), prevent_cse=False) for i in range(len(dims))]
        return jnp.sum(lax.map(lambda i: lax.switch(i, branches), positions), axis=0)

    return at_dims


def _unit(x: Array) -> Array:
    """Normalises the last axis; a vector that is not finite stays, with a gradient that is finite.

    So a masked row may hold anything, and one that is real shows in the loss.
    """
    x = as_float32(x)
    finite = jnp.all(jnp.isfinite(x), axis=-1, keepdims=True)
    return jnp.where(finite, unit(jnp.where(finite, x, 1)), x)


def _arrays_to_cut(
    truncate: Sequence[str], keywords: Mapping[str, Any], width: int
) -> dict[str, Any]:
    arrays = {name: keywords[name] for name in truncate if keywords.get(name) is not None}
    for name, array in arrays.items():
        if np.shape(array)[-1:] != (width,):
            raise ValueError(
                f"{name} is cut with the embeddings: its last axis must be {width}, as theirs;"
                f" got shape {np.shape(array)}"
            )
    return arrays


def _checked_dims(dims: Sequence[int]) -> tuple[int, ...]:
    try:
        checked = tuple(operator.index(k) for k in dims)
    except TypeError:
        checked = ()
    if not checked or min(checked) < 1 or len({*checked}) < len(checked):
        raise ValueError(f"dims must be distinct whole numbers of 1 or more; got {dims}")
    return checked


def _checked_weights(weights: Sequence[Scalar] | None, dims: tuple[int, ...]) -> tuple[Any, ...]:
    given: list[Any] = [1.0] * len(dims) if weights is None else list(weights)
    if len(given) != len(dims):
        raise ValueError(f"weights must be one for each of dims, {len(dims)}; got {len(given)}")
    for weight in given:
        if isinstance(weight, str) or not (isinstance(weight, jax.Array) or np.isfinite(weight)):
            raise ValueError(f"weights must be finite numbers; got {weight!r}")
    return tuple(w if isinstance(w, jax.Array) else float(w) for w in given)


def _draws(n_dims_per_step: int, dims: tuple[int, ...]) -> int | None:
    """Returns how many dims to draw, None for all of them."""
    if n_dims_per_step in (-1, len(dims)):
        return None
    if n_dims_per_step not in range(1, len(dims)):
        raise ValueError(
            f"n_dims_per_step must be from 1 to {len(dims)}, the number of dims, or -1 for all;"
            f" got {n_dims_per_step}"
        )
    return n_dims_per_step


def _check_names(loss: LossFn, truncate: Sequence[str]) -> None:
    if isinstance(truncate, str):
        raise ValueError(f'truncate must be a sequence such as ("teacher",); got {truncate!r}')
    parameters = inspect.signature(loss).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for name in truncate:
        if name not in names:
            raise ValueError(
                f"truncate must name keyword arrays of {name_of(loss)}, one of {', '.join(names)};"
                f" got {name!r}"
            )


def _check_takes_embeddings(loss: LossFn) -> None:
    for name, parameter in inspect.signature(loss).parameters.items():
        if name in ("logits", "scores") and parameter.kind is not parameter.KEYWORD_ONLY:
            raise ValueError(
                f"matryoshka cuts embeddings, and {name_of(loss)} takes {name}: wrap a function of"
                f" embeddings that makes the {name} and calls it"
            )


def _width(loss: LossFn, columns: Columns, dims: tuple[int, ...]) -> int:
    """Returns the width of the columns, which they share."""
    widths = {name: x.shape[-1] for name, x in columns.items()}
    if len({*widths.values()}) != 1:
        raise ValueError(f"{name_of(loss)} needs columns [... d] of one width; got {widths}")
    width = next(iter(widths.values()))
    if max(dims) > width:
        raise ValueError(
            f"dims must not exceed the width of the embeddings, {width}; got {max(dims)}"
        )
    return width
