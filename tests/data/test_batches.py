"""Batches have the keys, shapes and types that objectives read, padding included."""

import numpy as np
import pytest
from datasets import Dataset

from jaxembed.data import bind_columns, make_batch, split_words, text_hashes
from jaxembed.typing import Roles

COLUMNS = {
    "query": ["q0", "q1", "q2"],
    "positive": ["pos 0", "pos 1", "pos 2"],
    "negatives": [["n 00", "n 01"], ["n 10"], []],
    "score": [0.0, 0.5, 1.0],
}
RANKED = Roles(("anchors", "positives"), negatives=True, ids=True)


def tokenize(texts, role):
    """Character codes, padded to the longest: of the role only the first letter is added."""
    width = max(map(len, texts))
    codes = [[ord(role[0]), *map(ord, text.ljust(width, "\0"))] for text in texts]
    return {"input_ids": np.array(codes, np.int32), "attention_mask": np.ones((len(texts), width))}


def texts_of(tokens):
    return ["".join(map(chr, row[1:])).rstrip("\0") for row in tokens["input_ids"]]


def batch_of(roles, indices, **keywords):
    rows = bind_columns(Dataset.from_dict(COLUMNS), roles, **keywords)
    return make_batch(rows, roles, np.array(indices), tokenize)


def test_texts_are_tokenized_by_role_in_the_order_of_the_indices():
    batch = batch_of(RANKED, [2, 0])
    assert set(batch) == {"anchors", "positives", "where", "ids", "anchor_ids"}
    assert texts_of(batch["anchors"]) == ["q2", "q0"]
    assert texts_of(batch["positives"]) == ["pos 2", "pos 0"]
    assert batch["positives"]["input_ids"][:, 0].tolist() == [ord("p")] * 2
    assert batch["where"].tolist() == [True, True]


def test_ids_are_the_hashes_of_positives_anchors_and_negatives():
    batch = batch_of(RANKED, [0, 1], use_negatives=True)
    for name, texts in (("anchor_ids", ["q0", "q1"]), ("ids", ["pos 0", "pos 1"])):
        assert batch[name].dtype == np.uint32
        np.testing.assert_array_equal(batch[name], split_words(text_hashes(texts)))
    words = split_words(text_hashes(["n 00", "n 01", "n 10", ""]))
    np.testing.assert_array_equal(batch["negative_ids"], words.reshape(2, 2, 2))


def test_one_text_has_its_own_id():
    batch = batch_of(Roles(("embeddings",), ids=True), [1], columns="query")
    np.testing.assert_array_equal(batch["ids"], split_words(text_hashes(["q1"])))


def test_negatives_are_ragged_under_a_mask():
    batch = batch_of(RANKED, [1, 2, 0], use_negatives=True)
    negatives = batch["negatives"]["input_ids"]
    assert (negatives.shape, batch["negatives"]["attention_mask"].shape) == ((3, 2, 5), (3, 2, 4))
    flat = {"input_ids": negatives.reshape(6, 5)}
    assert texts_of(flat) == ["n 10", "", "", "", "n 00", "n 01"]
    assert negatives[..., 0].tolist() == [[ord("n")] * 2] * 3
    assert batch["negatives_where"].tolist() == [[True, False], [False, False], [True, True]]


def test_the_number_of_negatives_is_that_of_the_data_set():
    batch = batch_of(RANKED, [2, 1], use_negatives=True)
    assert batch["negatives_where"].shape == (2, 2)


@pytest.mark.parametrize(("kind", "dtype"), [(float, np.float32), (int, np.int32)])
def test_labels_have_32_bits(kind, dtype):
    roles = Roles(("left", "right"), {"targets": kind})
    data = Dataset.from_dict({"left": ["a", "b"], "right": ["c", "d"], "targets": [3, 4]})
    batch = make_batch(bind_columns(data, roles), roles, np.array([1, 0]), tokenize)
    assert batch["targets"].dtype == dtype
    assert batch["targets"].tolist() == [4, 3]
    assert "ids" not in batch


def test_padding_repeats_a_real_row_under_the_mask():
    roles = Roles(("anchors", "positives"), {"scores": float}, negatives=True, ids=True)
    padded = batch_of(roles, [1, -1, -1], use_negatives=True)
    repeated = batch_of(roles, [1, 1, 1], use_negatives=True)
    assert padded.pop("where").tolist() == [True, False, False]
    repeated.pop("where")
    np.testing.assert_equal(padded, repeated)


def test_a_slice_may_be_all_padding():
    batch = batch_of(RANKED, [-1, -1])
    assert batch["where"].tolist() == [False, False]
    assert batch["anchors"]["input_ids"].shape == (2, 3)
