"""All pairs or row by row: a similarity or distance of the wrong form is refused by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed import late_interaction as tokens, similarity as s
from jaxembed.typing import PairedFn, PairedTokensFn, SimilarityFn, TokensFn

Shape = tuple[int, ...]


class Form(NamedTuple):
    """What a function makes of a left and a right array."""

    words: str
    vector_axes: int  # of one text: [d], or [t d] for its tokens
    all_pairs: bool

    def result(self, left: Shape, right: Shape) -> Shape:
        """Returns the shape of the result."""
        left, right = left[: -self.vector_axes], right[: -self.vector_axes]
        return left + right if self.all_pairs else np.broadcast_shapes(left, right)


ALL_PAIRS = Form("all pairs, [n d] and [m d] to [n m]", 1, True)
ROW_BY_ROW = Form("row by row, [n d] and [n d] to [n]", 1, False)
ALL_TOKENS = Form("all pairs of texts by their tokens, [n t d] and [m s d] to [n m]", 2, True)
TOKENS_BY_ROW = Form("texts row by row by their tokens, [n t d] and [n s d] to [n]", 2, False)
DUE = {
    SimilarityFn: ALL_PAIRS,
    PairedFn: ROW_BY_ROW,
    TokensFn: ALL_TOKENS,
    PairedTokensFn: TOKENS_BY_ROW,
}

# Ours by form, those of one family in a line.
COLUMNS = (
    ("similarity", ALL_PAIRS),
    ("similarity", ROW_BY_ROW),
    ("distance", ALL_PAIRS),
    ("distance", ROW_BY_ROW),
    ("similarity", ALL_TOKENS),
    ("similarity", TOKENS_BY_ROW),
)
FAMILIES = (
    (s.dot, s.paired_dot, None, s.paired_dot_distance, None, None),
    (s.cosine, s.paired_cosine, s.cosine_distance, s.paired_cosine_distance, None, None),
    (s.clamped_cosine, s.paired_clamped_cosine, None, None, None, None),
    (
        *(s.euclidean, s.paired_euclidean),
        *(s.euclidean_distance, s.paired_euclidean_distance, None, None),
    ),
    (
        *(s.manhattan, s.paired_manhattan),
        *(s.manhattan_distance, s.paired_manhattan_distance, None, None),
    ),
    (None, s.paired_angle, None, None, None, None),
    (None, None, None, None, tokens.maxsim, tokens.paired_maxsim),
    (None, None, None, None, tokens.mean_maxsim, tokens.paired_mean_maxsim),
    (None, None, None, None, tokens.xtr, None),
)


def of_form(name: str, function: Any, form: Form, width: int = 8) -> Callable[..., Any]:
    """Returns a function of the form; one that is not ours looks at the shape of each result.

    Functions of others are traced with 3 rows against 5, so that a batch of one row or as many
    candidates as rows hides nothing.

    Args:
        name: of the argument, `similarity_fn` or `distance_fn`.
        width: the number of features that the function will see.

    Raises:
        ValueError: one of another form, or a distance for a similarity; it names the right one.
    """
    kind = name.removesuffix("_fn")
    due = f"{name} must be a {kind} that compares {form.words}"
    ours = function
    while isinstance(ours, functools.partial):
        ours = ours.func
    for row in FAMILIES:
        if ours in row:
            its_kind, its_form = COLUMNS[row.index(ours)]
            if (its_kind, its_form) == (kind, form):
                return function
            its = f"a {its_kind} that compares {its_form.words}"
            right = row[COLUMNS.index((kind, form))]
            remedy = f": pass {right.__name__}" if right else ""
            raise ValueError(f"{due}; got {ours.__name__}, {its}{remedy}")
    _try(due, function, form, width)

    @functools.wraps(function)
    def checked(left: Any, right: Any, **masks: Any) -> Any:
        shapes = left.shape, right.shape
        try:
            result = function(left, right, **masks)
        except (TypeError, ValueError) as error:
            fails = f"{_name(function)} fails on {shapes[0]} and {shapes[1]}"
            raise ValueError(f"{due}; {fails}: {str(error).splitlines()[0]}") from error
        _check(due, function, form, shapes, jnp.shape(result))
        return result

    return checked


def example_of(name: str, form: Form) -> str:
    """Returns the name of a function of ours for this argument."""
    column = COLUMNS.index((name.removesuffix("_fn"), form))
    return _name(next(filter(None, (row[column] for row in FAMILIES))))


def _try(due: str, function: Callable[..., Any], form: Form, width: int) -> None:
    """Traces a function with 3 rows against 5, or against 3 if it takes those alone.

    What raises both times depends on the shapes that the loss has, and is looked at there.
    """
    names = ("query_mask", "document_mask") if form.vector_axes > 1 else ()
    try:
        inspect.signature(function).bind(None, None, **dict.fromkeys(names))
    except TypeError as error:
        arguments = ", ".join(("left", "right", *names))
        raise ValueError(f"{due}; {_name(function)} cannot be called with {arguments}") from error
    except ValueError:  # the signature of a function of C is not known
        pass
    for rows in (5, 3) if form.all_pairs else (3,):
        shapes = [(n, *[4] * (form.vector_axes - 1), width) for n in (3, rows)]
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        masks = {
            key: jax.ShapeDtypeStruct(shape[:-1], bool)
            for key, shape in zip(names, shapes, strict=False)
        }
        try:
            found = jax.eval_shape(function, *arrays, **masks)
        except Exception:  # the loss calls it again and shows the error
            continue
        _check(due, function, form, (shapes[0], shapes[1]), jnp.shape(found))
        return


def _check(
    due: str, function: Callable[..., Any], form: Form, shapes: tuple[Shape, Shape], found: Shape
) -> None:
    if found != form.result(*shapes):
        made = f"which makes {found} of {shapes[0]} and {shapes[1]}"
        raise ValueError(f"{due}; got {_name(function)}, {made}")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)
