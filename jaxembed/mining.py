"""Hard negatives: which of the documents that a search found are near a query, but no answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxembed.calls import checks_call

REAL = int | float | np.integer | np.floating


@dataclass(frozen=True)
class Filters:
    """Which candidates are negatives, by the definitions of sentence-transformers 6.2.

    In this order: only the first `range_max` candidates count. Of these, one is removed whose score
    is

        > positive − absolute_margin
        > positive − relative_margin · |positive|
        > max_score
        < min_score

    Of what is left, the `range_min` of the greatest scores are skipped, as they may well be answers
    that nobody marked. "top" then takes the `num_negatives` greatest, "random" draws as many from
    all. None is no limit.

    Raises:
        ValueError: numbers out of range, or that leave no room for `num_negatives`.

    Source: de Souza Moreira et al., NV-Retriever: Improving text embedding models with effective
    hard-negative mining, 2024 (`relative_margin=0.05`).
    """

    num_negatives: int = 3
    range_min: int = 0
    range_max: int | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    sampling: Literal["top", "random"] = "top"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_negatives", "range_min", "range_max", "seed"):
            number = getattr(self, name)
            if number is not None and not isinstance(number, int | np.integer):
                raise ValueError(f"{name} must be a whole number; got {number!r}")
        for name in ("absolute_margin", "relative_margin", "max_score", "min_score"):
            limit = getattr(self, name)
            if limit is not None and not (isinstance(limit, REAL) and np.isfinite(limit)):
                raise ValueError(f"{name} must be a finite number; got {limit!r}")
        if self.relative_margin is not None and not 0 <= self.relative_margin <= 1:
            raise ValueError(
                f"relative_margin is a share of the positive's score, from 0 to 1;"
                f" got {self.relative_margin}"
            )
        if self.num_negatives < 1:
            raise ValueError(f"num_negatives must be at least 1; got {self.num_negatives}")
        if self.range_min < 0:
            raise ValueError(f"range_min must be at least 0; got {self.range_min}")
        if self.range_max is not None and self.range_max < self.range_min + self.num_negatives:
            raise ValueError(
                f"range_max must be at least range_min + num_negatives, "
                f"{self.range_min + self.num_negatives}; got {self.range_max}"
            )
        low, high = self.min_score, self.max_score
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_score {low} is above max_score {high}")
        if self.sampling not in ("top", "random"):
            raise ValueError(f"sampling must be 'top' or 'random'; got {self.sampling!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0; got {self.seed}")


class Mined(NamedTuple):
    """The negatives of each query, greatest score first, and how many each filter removed.

    Where there are too few, the last are -1, with the score -inf.
    """

    negatives: Int[np.ndarray, "q k"]
    scores: Float[np.ndarray, "q k"]
    removed: dict[str, int]


@checks_call
def mine(
    scores: Float[np.ndarray, "q m"],
    candidates: Int[np.ndarray, "q m"],
    positive_scores: Float[np.ndarray, " q"],
    filters: Filters,
    *,
    first_row: int = 0,
) -> Mined:
    """Picks the negatives of queries from what a search found for them.

    Args:
        scores: The similarity of each candidate, by whatever model.
        candidates: Rows of the corpus, most similar first, as `top_k_search` finds them; -1 is
            none. The answers are not among them: the search has excluded them.
        positive_scores: The similarity of each query's own answer, by the same model as `scores`;
            the least, if it has several.
        filters: Which candidates are negatives.
        first_row: The number of the first query among all. What is drawn depends on a query's
            number and the seed alone, not on what else is in these arrays.

    Raises:
        ValueError: the arrays do not fit.

    >>> scores, candidates = np.array([[0.9, 0.7, 0.6, 0.2]]), np.array([[8, 3, 5, 1]])
    >>> mined = mine(scores, candidates, np.array([0.85]), Filters(2, absolute_margin=0.1))
    >>> mined.negatives, mined.removed
    (array([[3, 5]]), {'absolute_margin': 1})
    """
    if scores.shape != candidates.shape or positive_scores.shape != scores.shape[:1]:
        raise ValueError(
            f"scores, candidates and positive_scores must be [q m], [q m] and [q]; "
            f"got {list(scores.shape)}, {list(candidates.shape)}, {list(positive_scores.shape)}"
        )
    found = scores[candidates >= 0]
    if np.isnan(found).any() or np.isnan(positive_scores).any():
        raise ValueError("scores must be numbers; got NaN, as of embeddings that are not finite")
    if found.size and not found.any() and not positive_scores.any():
        raise ValueError("all scores are 0, so none is a negative: are the embeddings all zero?")
    kept, removed = keep(scores, candidates, positive_scores, filters)
    n, m = filters.num_negatives, scores.shape[1]
    by_score = np.argsort(np.where(kept, -scores, np.inf), axis=1, kind="stable")
    n_left = kept.sum(axis=1, keepdims=True)
    if filters.range_min:
        removed["range_min"] = int(np.minimum(n_left, filters.range_min).sum())
    places = np.arange(m)  # in the order of the scores
    free = (places >= filters.range_min) & (places < n_left)
    order = places
    if filters.sampling == "random":
        drawn = draws(range(first_row, first_row + len(scores)), m, filters.seed)
        order = np.take_along_axis(drawn, by_score, axis=1)
    taken = np.argsort(np.where(free, order, np.inf), axis=1, kind="stable")[:, :n]
    there = np.take_along_axis(free, taken, axis=1)
    taken = np.sort(np.where(there, taken, m), axis=1)  # place m is none

    columns = np.take_along_axis(np.pad(by_score, ((0, 0), (0, 1))), taken, axis=1)
    negatives = np.where(taken < m, np.take_along_axis(candidates, columns, axis=1), -1)
    scores = np.where(taken < m, np.take_along_axis(scores, columns, axis=1), -np.inf)
    lacking = ((0, 0), (0, n - taken.shape[1]))
    return Mined(
        np.pad(negatives, lacking, constant_values=-1),
        np.pad(scores, lacking, constant_values=-np.inf),
        removed,
    )


def keep(
    scores: Float[np.ndarray, "q m"],
    candidates: Int[np.ndarray, "q m"],
    positive_scores: Float[np.ndarray, " q"],
    filters: Filters,
) -> tuple[Bool[np.ndarray, "q m"], dict[str, int]]:
    """Says which candidates no limit removes, and how many each limit does, one after the other."""
    kept, removed = candidates >= 0, {}
    positive = positive_scores[:, None]
    is_beyond = {
        "range_max": lambda limit: np.cumsum(candidates >= 0, axis=1) > limit,
        "absolute_margin": lambda margin: scores > positive - margin,
        "relative_margin": lambda margin: scores > positive - margin * np.abs(positive),
        "max_score": lambda limit: scores > limit,
        "min_score": lambda limit: scores < limit,
    }
    for name, beyond in is_beyond.items():
        if (limit := getattr(filters, name)) is not None:
            out = kept & beyond(limit)
            kept, removed[name] = kept & ~out, int(out.sum())
    return kept, removed


def draws(rows: range, n: int, seed: int) -> Float[np.ndarray, "q n"]:
    """Draws `n` uniform numbers in [0, 1) for every row, the same for a row wherever it stands.

    >>> np.array_equal(draws(range(5), 3, seed=1)[4:], draws(range(4, 5), 3, seed=1))
    True
    """
    # The bits of Philox are fixed for ever; the numbers that NumPy makes of them may change.
    sequences = (np.random.SeedSequence(seed, spawn_key=(row,)) for row in rows)
    bits = np.stack([np.random.Philox(sequence).random_raw(n) for sequence in sequences])
    return (bits >> np.uint64(11)) * 2.0**-53
