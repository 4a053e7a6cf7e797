"""Filters of negatives against their statements, one by one, and against the PyTorch library."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxembed.mining import Filters, draws, mine
from jaxembed.search import top_k_search

GOLDENS = Path(__file__).parent / "goldens/mining"
MINED = json.loads((GOLDENS / "mined.json").read_text())
Q, M = 9, 20


@pytest.fixture
def found():
    """Candidates with falling scores, fewer for some queries, and what the answers score."""
    rng = np.random.default_rng(0)
    scores = -np.sort(-rng.uniform(-1, 1, (Q, M)).astype(np.float32), axis=1)
    candidates = np.stack([rng.permutation(100)[:M] for _ in range(Q)]).astype(np.int32)
    for query, n in enumerate([M, M, M, 12, 5, 1, 0, M, M]):
        scores[query, n:], candidates[query, n:] = -np.inf, -1
    return scores, candidates, rng.uniform(-0.3, 0.9, Q).astype(np.float32)


def negatives_of(found, filters, **options):
    scores, candidates, positive_scores = found
    return mine(scores, candidates, positive_scores, filters, **options)


def reference(scores, candidates, positive_scores, filters):
    """Walks through the candidates of each query and strikes them out one by one."""
    removed = dict.fromkeys(
        ("range_max", "absolute_margin", "relative_margin", "max_score", "min_score", "range_min"),
        0,
    )
    negatives = []
    for its_scores, its_candidates, positive in zip(
        scores.tolist(), candidates.tolist(), positive_scores.tolist(), strict=True
    ):
        left = []
        for rank, (score, candidate) in enumerate(zip(its_scores, its_candidates, strict=True)):
            if candidate < 0:
                continue
            if filters.range_max is not None and rank >= filters.range_max:
                removed["range_max"] += 1
            elif filters.absolute_margin is not None and score > positive - filters.absolute_margin:
                removed["absolute_margin"] += 1
            elif filters.relative_margin is not None and score > positive - (
                filters.relative_margin * abs(positive)
            ):
                removed["relative_margin"] += 1
            elif filters.max_score is not None and score > filters.max_score:
                removed["max_score"] += 1
            elif filters.min_score is not None and score < filters.min_score:
                removed["min_score"] += 1
            else:
                left.append((-score, rank, candidate))
        left.sort()
        removed["range_min"] += len(left[: filters.range_min])
        names = [candidate for _, _, candidate in left[filters.range_min :]]
        negatives.append((names + [-1] * filters.num_negatives)[: filters.num_negatives])
    return negatives, removed


CASES = [
    {},
    {"num_negatives": 25},
    {"range_max": 4},
    {"range_min": 3},
    {"range_min": 4, "range_max": 8, "num_negatives": 4},
    {"absolute_margin": 0.1},
    {"absolute_margin": -0.2},
    {"relative_margin": 0.05},
    {"relative_margin": 0.5},
    {"max_score": 0.3},
    {"min_score": 0.1},
    {"min_score": -0.2, "max_score": 0.4},
    {
        **{"range_min": 1, "range_max": 15, "absolute_margin": 0.1, "relative_margin": 0.2},
        **{"max_score": 0.6, "min_score": -0.9},
    },
]


@pytest.mark.parametrize("chosen", CASES, ids=str)
def test_filters_strike_out_what_they_say(found, chosen):
    filters = Filters(**chosen)
    mined = negatives_of(found, filters)
    scores, candidates, positive_scores = found
    negatives, removed = reference(scores, candidates, positive_scores, filters)
    np.testing.assert_array_equal(mined.negatives, negatives)
    assert {name: n for name, n in removed.items() if n} == {
        name: n for name, n in mined.removed.items() if n
    }
    assert (mined.scores == -np.inf).tolist() == (mined.negatives == -1).tolist()
    for query, candidate, score in zip(
        np.repeat(np.arange(Q), filters.num_negatives),
        mined.negatives.ravel(),
        mined.scores.ravel(),
        strict=True,
    ):
        if candidate >= 0:
            assert scores[query, candidates[query] == candidate] == score


@pytest.mark.parametrize(
    "limit",
    [{"max_score": 0.5}, {"min_score": 0.5}, {"absolute_margin": 0.25}, {"relative_margin": 0.5}],
    ids=str,
)
def test_a_score_at_a_limit_is_kept(limit):
    positive = 1.0 if "relative_margin" in limit else 0.75
    arrays = np.array([[0.5]]), np.array([[3]]), np.array([positive])
    assert negatives_of(arrays, Filters(1, **limit)).negatives == [[3]]


def test_another_models_scores_decide_the_order_but_not_the_rank(found):
    scores, candidates, positive_scores = found
    other = np.where(candidates < 0, -np.inf, np.roll(scores[::-1], 3, axis=1)).astype(np.float32)
    other[np.isinf(other) & (candidates >= 0)] = -0.7
    filters = Filters(range_min=1, range_max=10, max_score=0.5)
    mined = mine(other, candidates, positive_scores, filters)
    negatives, removed = reference(other, candidates, positive_scores, filters)
    np.testing.assert_array_equal(mined.negatives, negatives)
    assert mined.removed["range_max"] == removed["range_max"]
    assert (np.diff(mined.scores[:3], axis=1) <= 0).all()


@pytest.mark.parametrize("limits", [{}, {"range_min": 2, "range_max": 12, "max_score": 0.7}])
def test_random_draws_from_what_the_filters_leave(found, limits):
    every = negatives_of(found, Filters(limits.get("range_max", M + 2) - 2, **limits)).negatives
    seen = [set() for _ in range(Q)]
    for seed in range(60):
        mined = negatives_of(found, Filters(2, sampling="random", seed=seed, **limits))
        for query, row in enumerate(mined.negatives):
            there = row[row >= 0]
            assert len(there) == len(set(there)) == min(2, (every[query] >= 0).sum())
            seen[query] |= set(there.tolist())
        assert (mined.scores[:, 0] >= mined.scores[:, 1]).all()
    assert seen == [set(row[row >= 0].tolist()) for row in every]


def test_what_is_drawn_for_a_query_depends_on_its_number_and_the_seed_alone(found):
    filters = Filters(3, sampling="random", seed=4)
    whole = negatives_of(found, filters).negatives
    parts = [
        negatives_of([array[part] for array in found], filters, first_row=part.start).negatives
        for part in (slice(0, 2), slice(2, 7), slice(7, 9))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    narrow = [array[:, :12] for array in found[:2]]
    np.testing.assert_array_equal(
        negatives_of([*narrow, found[2]], filters).negatives,
        negatives_of(found, Filters(3, sampling="random", seed=4, range_max=12)).negatives,
    )
    assert (negatives_of(found, Filters(3, sampling="random", seed=5)).negatives != whole).any()


def test_draws_are_uniform_and_the_same_for_ever():
    numbers = draws(range(2000), 5, seed=0)
    assert abs(numbers.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.1
    np.testing.assert_allclose(draws(range(7, 8), 2, seed=3), [[0.80847375, 0.62069906]])


WRONG = [
    ({"num_negatives": 0}, "num_negatives must be at least 1; got 0"),
    ({"range_min": -1}, "range_min must be at least 0; got -1"),
    ({"range_min": 5, "range_max": 7}, r"range_min \+ num_negatives, 8; got 7"),
    ({"min_score": 0.5, "max_score": 0.4}, "min_score 0.5 is above max_score 0.4"),
    ({"sampling": "best"}, "sampling must be 'top' or 'random'; got 'best'"),
    ({"seed": -1}, "seed must be at least 0; got -1"),
]


@pytest.mark.parametrize(("chosen", "message"), WRONG)
def test_filters_that_cannot_work_are_refused(chosen, message):
    with pytest.raises(ValueError, match=message):
        Filters(**chosen)


def test_arrays_that_do_not_fit_are_refused(found):
    with pytest.raises(
        ValueError, match=r"\[q m\], \[q m\] and \[q\]; got \[9, 20\], \[9, 20\], \[8\]"
    ):
        mine(found[0], found[1], found[2][:8], Filters())


@pytest.mark.parametrize(
    "case",
    [case for case in MINED["cases"] if "scores" in case["rows"][0]],
    ids=lambda case: str(case["settings"]),
)
def test_negatives_and_scores_are_those_of_the_library(case):
    vectors = np.load(GOLDENS / "vectors.npz")
    answers: dict[str, list[int]] = {}
    for query, answer in zip(MINED["data"]["question"], MINED["data"]["answer"], strict=True):
        answers.setdefault(query, []).append(int(answer.split()[1]))
    queries = [int(name.split()[1]) for name in answers]
    exclude = np.full((len(answers), 4), -1)
    for row, rows in zip(exclude, answers.values(), strict=True):
        row[: len(rows)] = rows
    k = len(vectors["documents"])
    scores, candidates = top_k_search(
        vectors["queries"][queries], vectors["documents"], k=k, exclude=exclude
    )
    unit = {name: x / np.linalg.norm(x, axis=1, keepdims=True) for name, x in vectors.items()}
    similarities = unit["queries"] @ unit["documents"].T
    least = np.array([similarities[query, answers[f"query {query}"]].min() for query in queries])

    settings = dict(case["settings"])
    del settings["output_format"], settings["output_scores"]
    mined = mine(scores, candidates, least, Filters(**settings))
    by_query = dict(zip(answers, zip(mined.negatives, mined.scores, strict=True), strict=True))
    complete = [query for query in answers if (by_query[query][0] >= 0).all()]
    assert [row["question"] for row in case["rows"]] == [
        query for query in complete for _ in dict.fromkeys(answers[query])
    ]
    for row in case["rows"]:
        negatives, its_scores = by_query[row["question"]]
        names = [row[f"negative_{i + 1}"] for i in range(len(negatives))]
        assert names == [f"document {number}" for number in negatives]
        np.testing.assert_allclose(its_scores, row["scores"][1:], atol=1e-6)
