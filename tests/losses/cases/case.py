"""A case: one loss with one choice of settings and the inputs it is tested on.

A case makes asymmetric random inputs in NumPy. `embeddings` go in by position; `rows` are the
keywords that have one entry per row; `parameters` are the keywords that are the loss's own
parameters; `settings` are the others.

For a new case add a row to `CASES` of its family's file; for a new loss, first a line with
`cases_of`, which is at the end of this file.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from types import ModuleType
from typing import Any

import numpy as np

from jaxembed import losses

Arrays = dict[str, np.ndarray]
Inputs = tuple[tuple[np.ndarray, ...], Arrays]


@dataclass(frozen=True, eq=False)
class Case:
    """One loss with one choice of its settings."""

    name: str
    loss: Callable[..., Any]
    reference: Callable[..., Any]
    embeddings: Callable[[np.random.Generator, int], tuple[np.ndarray, ...]]
    rows: Callable[[np.random.Generator, int], Arrays] = lambda rng, n: {}
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: Callable[[np.random.Generator], Arrays] = lambda rng: {}  # differentiated too
    reduction: str | None = "mean"  # "mean" or "total" by default; None: takes no reduce_fn
    differentiable: bool = True  # False: parts are constants to the gradient by definition
    expand_where: Callable[[np.ndarray, Inputs], np.ndarray] = lambda where, inputs: where
    """A mask of rows [n] and the inputs to the loss's argument `where`."""

    def inputs(self, n: int, seed: int = 0) -> Inputs:
        rng = np.random.default_rng(seed)
        return self.embeddings(rng, n), self.rows(rng, n)


D = 6


def pair(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    left = rng.normal(size=(n, D))
    return left, 0.7 * left + rng.normal(size=(n, D)) + 0.2


def no_rows(rng: np.random.Generator, n: int) -> Arrays:
    return {}


def column(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    return (rng.normal(size=(n, D)) + 0.4,)


def with_negatives(k: int):
    def make(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
        anchors, positives = pair(rng, n)
        return anchors, positives, 0.3 * anchors[:, None] + rng.normal(size=(n, k, D))

    return make


def scores(rng: np.random.Generator, n: int) -> Arrays:
    return {"scores": rng.uniform(-1, 1, size=n)}


def binary_labels(rng: np.random.Generator, n: int) -> Arrays:
    return {"labels": rng.integers(0, 2, size=n)}


def mask_of_negatives(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """Every row has a real negative but the last of several, which has none."""
    mask = rng.random((n, k)) < 0.7
    mask[:, 0] |= ~mask.any(axis=1)
    mask[1:][-1:] = False
    return mask


def ids(rng: np.random.Generator, n: int) -> Arrays:
    """Few distinct ids, so that false negatives occur."""
    words = rng.integers(0, 2**32, size=(max(2, n // 2), 2), dtype=np.uint32)
    words[1:, 0] = words[0, 0]  # ids that differ in one word only
    pick = rng.integers(0, len(words), size=(2, n))
    return {"ids": words[pick[0]], "anchor_ids": words[pick[1]]}


def text_ids(rng: np.random.Generator, n: int) -> Arrays:
    return {"ids": ids(rng, n)["ids"]}


def ids_of_negatives(k: int):
    def make(rng: np.random.Generator, n: int) -> Arrays:
        arrays = ids(rng, n)
        choice = rng.integers(0, n, size=(n, k))
        return {
            **arrays,
            "negative_ids": arrays["ids"][choice],
            "negatives_where": rng.random((n, k)) < 0.7,
        }

    return make


def cases_of(
    references: ModuleType,
    name: str,
    *,
    loss: Callable[..., Any] | None = None,
    reference: Callable[..., Any] | None = None,
    embeddings=pair,
    rows=no_rows,
    **fixed,
) -> Callable[..., Case]:
    """Returns a function that makes the cases of one loss, named as below `jaxembed.losses`.

        gist = cases_of(references, "gist_embed_loss", rows=guide)
        CASES = [gist("default"), gist("all", with_negatives(2), guide_with_two, margin=0.1)]

    The reference has the loss's name in `references`; `loss` and `reference` replace the two by
    what a test puts together. Keywords that are fields of `Case` (`parameters`, `reduction`,
    `differentiable`, ...) are those fields, all others the loss's settings. What is given here
    holds for every case that does not say otherwise.
    """
    loss = loss or attrgetter(name)(losses)
    reference = reference or getattr(references, name.split(".")[-1])

    def case(what: str, embeddings=embeddings, rows=rows, **own) -> Case:
        settings = {"loss": loss, "reference": reference, **fixed, **own}
        of_case = {x.name: settings.pop(x.name) for x in fields(Case) if x.name in settings}
        return Case(
            f"{name}-{what}", embeddings=embeddings, rows=rows, settings=settings, **of_case
        )

    return case
