"""The distance to a teacher against sentence-transformers, its memory, and what it refuses."""

import tracemalloc

import numpy as np
import pytest

from jaxembed.evaluators.protocols import Evaluator
from jaxembed.evaluators.teacher_distance import BLOCK, MSEEvaluator
from tests.goldens.evaluators.models import read_models
from tests.goldens.evaluators.pairs import named


def test_the_value_equals_sentence_transformers():
    stored, embed, expected = read_models()
    evaluator: Evaluator = MSEEvaluator(named(range(160)), stored["teacher"])
    assert evaluator.evaluate(embed) == pytest.approx(expected["mse"], rel=1e-6)
    assert evaluator.main_metric == "negative_mse"


def test_more_rows_than_a_block_of_a_mapped_file_need_the_memory_of_a_block(tmp_path):
    n, d = 5 * BLOCK + 7, 16
    teacher = np.lib.format.open_memmap(tmp_path / "teacher.npy", "w+", np.float16, (n, d))
    teacher[:] = np.arange(n)[:, None] % 1000
    differences = np.arange(n)[:, None] % 3
    embeddings = np.asarray(teacher + differences, np.float32)
    texts = ["a"] * n
    tracemalloc.start()
    found = MSEEvaluator(texts, teacher).evaluate(lambda texts, *, role: embeddings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["negative_mse"] == pytest.approx(-100 * np.mean(differences**2), rel=1e-12)
    # The check of what is embedded needs a boolean for each number, the list a pointer for each.
    assert peak < n * (d + 8) + 3 * BLOCK * d * 8


def test_texts_are_embedded_in_order_without_a_role():
    calls = []

    def embed(texts, *, role):
        calls.append((texts, role))
        return np.zeros((len(texts), 1))

    MSEEvaluator(["b", "a", "b"], np.ones((3, 1))).evaluate(embed)
    assert calls == [(["b", "a", "b"], None)]


@pytest.mark.parametrize(
    ("texts", "teacher", "message"),
    [
        ([], np.ones((0, 2)), "texts must have the same length, 1 or more"),
        (["a", None], np.ones((2, 2)), "texts must be texts, but row 1 is None"),
        (["a", "b"], np.ones((3, 2)), r"each of the 2 texts, \[2 d\]; got shape \[3, 2\]"),
        (["a", "b"], np.ones(2), r"\[2 d\]; got shape \[2\]"),
        (["a"], np.ones((1, 0)), r"\[1 d\]; got shape \[1, 0\]"),
        (["a", "b"], np.array([[1.0], [np.inf]]), "row 1 of teacher holds NaN or infinity"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_embedded(texts, teacher, message):
    with pytest.raises(ValueError, match=message):
        MSEEvaluator(texts, teacher)


def test_a_broken_row_is_named_in_any_block():
    teacher = np.ones((BLOCK + 3, 1))
    teacher[BLOCK + 1] = np.nan
    with pytest.raises(ValueError, match=f"row {BLOCK + 1} of teacher holds NaN or infinity"):
        MSEEvaluator(["a"] * len(teacher), teacher)


def test_another_width_than_the_teacher_is_refused():
    evaluator = MSEEvaluator(["a"], np.ones((1, 3)))
    with pytest.raises(ValueError, match="the model embeds to 1 features and its teacher to 3"):
        evaluator.evaluate(lambda texts, *, role: np.ones((1, 1)))
