"""Deleted words: the published rate, one word left, and the same noise on every host."""

import time

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jaxembed.data import DataError
from jaxembed.data.noise import delete_words

LONG = " ".join(f"w{i}" for i in range(1000))
TEXTS = ["the bank of the river", "money in the bank", LONG, "one"]


def is_part(words, of):
    remaining = iter(of)
    return all(word in remaining for word in words)


@given(
    texts=st.lists(st.text(), max_size=5),
    seed=st.integers(0),
    step=st.integers(0, 2**40),
    ratio=st.floats(0, 1, exclude_max=True),
)
def test_some_words_of_each_text_stay_in_their_order(texts, seed, step, ratio):
    noisy = delete_words(texts, np.arange(len(texts)), seed=seed, step=step, ratio=ratio)
    assert len(noisy) == len(texts)
    for text, left in zip(texts, noisy, strict=True):
        assert bool(left.split()) == bool(text.split())
        assert is_part(left.split(), text.split())
        assert left == " ".join(left.split())


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.6, 0.9])
def test_words_go_with_the_probability_of_the_ratio(ratio):
    noisy = delete_words([LONG] * 100, np.arange(100), seed=0, step=0, ratio=ratio)
    kept = np.array([len(text.split()) for text in noisy]) / 1000
    np.testing.assert_allclose(kept.mean(), 1 - ratio, atol=0.007)  # 4.5 standard deviations
    np.testing.assert_allclose(kept, 1 - ratio, atol=0.08)


def test_the_published_ratio_is_the_default():
    rows = np.arange(len(TEXTS))
    published = delete_words(TEXTS, rows, seed=0, step=0, ratio=0.6)
    assert delete_words(TEXTS, rows, seed=0, step=0) == published


def test_any_word_may_be_the_last_one_left():
    noisy = delete_words(["a b c d"] * 4000, np.arange(4000), seed=0, step=0, ratio=0.999999)
    values, counts = np.unique(noisy, return_counts=True)
    assert values.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_allclose(counts / 4000, 0.25, atol=0.03)  # 4.4 standard deviations


def test_a_text_without_a_word_stays_empty():
    assert delete_words(["", " \n", "one"], np.arange(3), seed=0, step=0) == ["", "", "one"]


def test_the_noise_of_a_text_depends_on_its_row_alone():
    noisy = delete_words(TEXTS, np.array([5, 9, 2, -1]), seed=1, step=8)
    for text, row, expected in zip(TEXTS, (5, 9, 2, -1), noisy, strict=True):
        assert delete_words([text], np.array([row]), seed=1, step=8) == [expected]
    assert delete_words(TEXTS[2:], np.array([2, -1]), seed=1, step=8) == noisy[2:]


def test_seed_step_and_row_change_the_noise():
    cases = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, -1)]
    noisy = [delete_words([LONG], np.array([row]), seed=s, step=t)[0] for s, t, row in cases]
    assert len(set(noisy)) == len(cases)


def test_rows_do_not_share_their_noise():
    """Not even shifted: the words that two rows keep agree as often as chance has it."""
    words = LONG.split()
    kept = [
        np.isin(words, delete_words([LONG], np.array([row]), seed=0, step=0, ratio=0.5)[0].split())
        for row in range(4)
    ]
    for other in kept[1:]:
        for shift in range(20):
            agree = (kept[0][shift:] == other[: len(words) - shift]).mean()
            np.testing.assert_allclose(agree, 0.5, atol=0.075)  # 4.7 standard deviations


def test_noise_is_the_same_for_ever():
    """Recorded values: a change here would make every saved run resume with other texts."""
    text = "it was the best of times it was the worst of times"
    noisy = delete_words([text] * 3, np.array([0, 1, 123_456]), seed=7, step=2)
    assert noisy == ["it best of it was the", "times was the times", "was the of times was of"]


def test_a_thousand_texts_take_milliseconds():
    texts = ["the quick brown fox jumps over the lazy dog"] * 1000
    start = time.monotonic()
    delete_words(texts, np.arange(1000), seed=0, step=0)
    assert time.monotonic() - start < 1  # 0.016 s; loose, for busy machines


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_the_ratio_is_a_probability_below_one(ratio):
    with pytest.raises(DataError, match=rf"ratio must lie in \[0, 1\); got {ratio}"):
        delete_words(["a b"], np.array([0]), seed=0, step=0, ratio=ratio)
