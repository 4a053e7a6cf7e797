"""Paraphrase mining against sentence-transformers and a loop, its bounds, and what it refuses."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest

from jaxembed.evaluators import Evaluator, paraphrase_mining
from jaxembed.evaluators.paraphrase_mining import (
    ParaphraseMiningEvaluator,
    closure,
    list_pairs,
    pair_numbers,
)
from jaxembed.search import top_k_search
from tests.goldens.evaluators.pairs import read_pairs

TEXTS = {"a": "ox", "b": "ape", "c": "elephant", "d": "hippopotamus"}
ALL = ("random", 500_000, 100), ("signs", 500_000, 100)
CUT = ("random", 150, 100), ("random", 500_000, 2)  # of equal pairs any may be cut off
LISTS = [(3, 1000), (3, 20), (39, 1000), (50, 100), (1, 1)]


def embed_lengths(texts, *, role):
    return np.array([[len(text), 2] for text in texts], np.float32)


def evaluator_of(data, **options):
    texts = {f"id{row}": f"t{row}" for row in range(96)}
    pairs = [(f"id{left}", f"id{right}") for left, right in data["duplicates"]]
    return ParaphraseMiningEvaluator(texts, pairs, **options)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(("kind", "max_pairs", "top_k"), [*ALL, *CUT])
def test_all_values_equal_sentence_transformers(kind, max_pairs, top_k, closed):
    data, embed, expected = read_pairs("mining", kind)
    evaluator: Evaluator = evaluator_of(
        data, add_transitive_closure=closed, max_pairs=max_pairs, top_k=top_k
    )
    found = evaluator.evaluate(embed)
    assert found.keys() == {"average_precision", "f1", "precision", "recall", "threshold"}
    assert found == pytest.approx(expected[f"{closed} {max_pairs} {top_k}"], rel=1e-6)
    assert evaluator.main_metric == "average_precision"


def test_the_order_of_texts_and_duplicates_does_not_count():
    data, embed, _ = read_pairs("mining", "signs")
    given = evaluator_of(data)
    texts = dict(reversed(list(given.texts.items())))
    pairs = [(right, left) for left, right in reversed(given.duplicates)]
    turned = ParaphraseMiningEvaluator(texts, pairs)
    assert turned.evaluate(embed) == given.evaluate(embed)


def test_a_model_that_finds_all_texts_equal_lists_all_pairs_at_one_similarity():
    evaluator = ParaphraseMiningEvaluator(TEXTS, [("a", "b")])
    values = evaluator.evaluate(lambda texts, *, role: np.ones((len(texts), 4)))
    assert values["average_precision"] == values["precision"] == pytest.approx(1 / 6)
    assert (values["recall"], values["threshold"]) == (1, 1)


def test_a_duplicate_that_is_not_listed_is_not_found():
    duplicates = [("a", "b"), ("a", "d")]
    values = ParaphraseMiningEvaluator(TEXTS, duplicates, max_pairs=3).evaluate(embed_lengths)
    assert values["recall"] == 0.5
    values = ParaphraseMiningEvaluator(TEXTS, duplicates, max_pairs=6).evaluate(embed_lengths)
    assert values["average_precision"] == pytest.approx((1 / 2 + 2 / 6) / 2)


def listed_in_a_loop(scores, neighbours, top_k, max_pairs):
    best = {}
    for row, found in enumerate(neighbours.tolist()):
        others = [(column, other) for column, other in enumerate(found) if other != row][:top_k]
        for column, other in others:
            best.setdefault((min(row, other), max(row, other)), scores[row, column])
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:max_pairs]
    return [score for _, score in ranked], [i * len(scores) + j for (i, j), _ in ranked]


@pytest.mark.parametrize("block", [1, 7, 40, 8192])
@pytest.mark.parametrize(("top_k", "max_pairs"), LISTS)
def test_any_blocks_list_what_a_loop_lists(top_k, max_pairs, block):
    vectors = np.random.default_rng(0).integers(-1, 2, (40, 6)).astype(np.float32)
    vectors[30:] = vectors[:10]  # a text may find a copy before itself
    found = top_k_search(vectors, vectors, k=min(top_k + 1, 40), similarity="dot")
    scores, pairs = list_pairs(*found, top_k=top_k, max_pairs=max_pairs, block=block)
    expected_scores, expected_pairs = listed_in_a_loop(*found, top_k, max_pairs)
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(pairs, expected_pairs)
    assert len(pairs) == len(set(pairs.tolist()))


def test_every_pair_has_a_number_of_its_own():
    left, right = np.array(list(combinations(range(12), 2))).T
    numbers = pair_numbers(left, right, 12)
    assert len(set(numbers.tolist())) == 66
    np.testing.assert_array_equal(pair_numbers(right, left, 12), numbers)


def test_the_closure_pairs_all_that_a_chain_links():
    rng = np.random.default_rng(0)
    for n_pairs in (1, 5, 20, 60):
        pairs = rng.integers(0, 40, (n_pairs, 2))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        linked = np.eye(40, dtype=bool)
        linked[pairs[:, 0], pairs[:, 1]] = linked[pairs[:, 1], pairs[:, 0]] = True
        for _ in range(6):
            linked = linked @ linked
        expected = {(i, j) for i, j in combinations(range(40), 2) if linked[i, j]}
        found = [tuple(sorted(pair)) for pair in closure(pairs).tolist()]
        assert set(found) == expected
        assert len(found) == len(expected)


def test_merging_in_blocks_holds_the_best_pairs_and_one_block():
    n, top_k, max_pairs = 6000, 20, 1000
    rng = np.random.default_rng(0)
    scores = -np.sort(-rng.random((n, top_k + 1)), axis=1).astype(np.float32)
    neighbours = rng.integers(0, n, (n, top_k + 1), np.int32)
    tracemalloc.start()
    list_pairs(scores, neighbours, top_k=top_k, max_pairs=max_pairs, block=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * (max_pairs + 100 * (top_k + 1))  # bytes a pair; the lists hold 126 000


def test_the_texts_meet_in_blocks_of_the_search_alone(monkeypatch):
    searches = []

    def watched(queries, corpus, *, k):
        searches.append((queries.shape, corpus.shape, k))
        return top_k_search(queries, corpus, k=k)

    monkeypatch.setattr(paraphrase_mining, "top_k_search", watched)
    for top_k in (2, 100):
        ParaphraseMiningEvaluator(TEXTS, [("a", "b")], top_k=top_k).evaluate(embed_lengths)
    assert searches == [((4, 2), (4, 2), 3), ((4, 2), (4, 2), 4)]


def test_all_texts_are_embedded_in_one_call_without_a_role():
    calls = []

    def embed(texts, *, role):
        calls.append((texts, role))
        return embed_lengths(texts, role=role)

    ParaphraseMiningEvaluator(TEXTS, [("a", "b")]).evaluate(embed)
    assert calls == [(["ox", "ape", "elephant", "hippopotamus"], None)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": {"a": "ox"}}, "among them, got 1 texts and 1 duplicates"),
        ({"duplicates": []}, "among them, got 4 texts and 0 duplicates"),
        ({"texts": TEXTS | {"c": None}}, "texts must be texts, but that of 'c' is None"),
        ({"duplicates": [("a", "b"), ("a", "x")]}, r"\('a', 'x'\) name 'x', which is not in texts"),
        ({"duplicates": [("b", "b")]}, r"duplicates \('b', 'b'\) are not two texts: drop the pair"),
        ({"duplicates": [("a", "b", "c")]}, r"\('a', 'b', 'c'\) are not two texts"),
        ({"max_pairs": 0}, "max_pairs must be at least 1, got 0"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_embedded(changes, message):
    with pytest.raises(ValueError, match=message):
        ParaphraseMiningEvaluator(**{"texts": TEXTS, "duplicates": [("a", "b")]} | changes)
