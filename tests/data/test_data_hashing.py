"""Hashes are the published ones, and rows hash to what the plans need."""

import numpy as np
from datasets import Dataset

from jaxembed.data import bind_columns, row_hashes, split_words, text_hashes
from jaxembed.data.hashing import CHUNK
from jaxembed.typing import Roles

ROLES = Roles(("anchors", "positives"), negatives=True)


def test_the_hash_is_xxh3_of_utf8():
    # The first two are test vectors of the xxHash project.
    expected = np.array([0x2D06800538D394C2, 0xE6C632B61E964E1F], np.uint64)
    np.testing.assert_array_equal(text_hashes(["", "a"]), expected)
    assert text_hashes(["水"]) == text_hashes([b"\xe6\xb0\xb4".decode()])
    assert text_hashes([]).shape == (0,)


def test_words_are_the_high_and_the_low_half():
    hashes = text_hashes(["a", "b", "c", "d"]).reshape(2, 2)
    words = split_words(hashes)
    assert (words.shape, words.dtype) == ((2, 2, 2), np.uint32)
    joined = words[..., 0].astype(np.uint64) * np.uint64(2**32) + words[..., 1]
    np.testing.assert_array_equal(joined, hashes)


def test_row_hashes_cover_texts_and_negatives():
    columns = {
        "query": ["q0", "q1", "q2"],
        "positive": ["p0", "p1", "p0"],
        "negatives": [["n0", "q1"], [], ["n2"]],
    }
    rows = bind_columns(Dataset.from_dict(columns), ROLES, use_negatives=True)
    expected = [["q0", "p0", "n0", "q1"], ["q1", "p1", "q1", "q1"], ["q2", "p0", "n2", "q2"]]
    np.testing.assert_array_equal(row_hashes(rows), [text_hashes(row) for row in expected])


def test_many_rows_hash_as_one():
    n = CHUNK + 3
    columns = {"query": [f"q{i}" for i in range(n)], "positive": [f"p{i}" for i in range(n)]}
    hashes = row_hashes(bind_columns(Dataset.from_dict(columns), ROLES))
    np.testing.assert_array_equal(hashes[:, 0], text_hashes(columns["query"]))
    np.testing.assert_array_equal(hashes[:, 1], text_hashes(columns["positive"]))
