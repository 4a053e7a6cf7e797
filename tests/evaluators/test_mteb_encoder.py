"""The encoder as mteb calls it: batches of dicts, prompts by task and role, similarities."""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

import jaxembed
from jaxembed.evaluators.mteb import MtebEncoder

TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"


class PromptType(StrEnum):
    query = "query"
    document = "document"


@dataclass
class Task:
    name: str = "Fruits"
    type: str = "Retrieval"


@pytest.fixture(scope="module")
def encoder():
    return jaxembed.load(TINY)


def encode(model, *batches, **options):
    settings = {"task_metadata": Task(), "hf_split": "test", "hf_subset": "default"}
    return model.encode([{"text": list(batch)} for batch in batches], **settings, **options)


def test_batches_come_back_as_one_array_in_their_order(encoder):
    texts = ["a bank", "of the river", "money"]
    embeddings = encode(MtebEncoder(encoder), texts[:2], texts[2:], batch_size=8)
    np.testing.assert_array_equal(embeddings, encoder.encode(texts))


def test_options_are_those_of_encode(encoder):
    assert encode(MtebEncoder(encoder, truncate_dim=8), ["a"]).shape == (1, 8)


@pytest.mark.parametrize(
    ("prompts", "role", "expected"),
    [
        ({}, PromptType.query, None),
        ({"query": "q: "}, PromptType.query, "q: "),
        ({"query": "q: "}, None, None),
        ({"passage": "p: "}, PromptType.document, "p: "),
        ({"query": "q: ", "Retrieval": "r: "}, PromptType.query, "r: "),
        ({"Retrieval": "r: ", "Retrieval-query": "rq: "}, PromptType.query, "rq: "),
        ({"Fruits": "f: ", "Retrieval-query": "rq: "}, PromptType.query, "f: "),
        ({"Fruits": "f: ", "Fruits-document": "fd: "}, "passage", "fd: "),
    ],
)
def test_the_most_particular_prompt_is_taken(prompts, role, expected):
    taken = []

    class Encoder:
        name, similarity, dimension = "x", "cosine", 1

        def __init__(self):
            self.prompts = prompts

        def encode(self, texts, *, prompt=None, **options):
            taken.append(prompt)
            return np.zeros((len(texts), 1))

    encode(MtebEncoder(Encoder()), ["a"], prompt_type=role)
    assert taken == [expected]


def test_similarities_are_cosines(encoder):
    model = MtebEncoder(encoder)
    x = np.array([[3.0, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(model.similarity(x, x), np.eye(2), atol=1e-7)
    np.testing.assert_allclose(model.similarity_pairwise(x, x[::-1]), [0, 0], atol=1e-7)
    np.testing.assert_allclose(model.similarity(x[0], x), [[1, 0]], atol=1e-7)


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        ("dot", [[9.0, 0.0], [0.0, 4.0]]),
        ("euclidean", [[0.0, -(13**0.5)], [-(13**0.5), 0.0]]),
        ("manhattan", [[0.0, -5.0], [-5.0, 0.0]]),
    ],
)
def test_the_models_own_similarity_compares(encoder, similarity, expected):
    model = MtebEncoder(dataclasses.replace(encoder, similarity=similarity))
    x = np.array([[3.0, 0.0], [0.0, 2.0]], np.float32)
    np.testing.assert_allclose(model.similarity(x, x), expected, atol=2e-3)
    np.testing.assert_allclose(model.similarity_pairwise(x, x[::-1]), [expected[0][1]] * 2)


def test_results_are_filed_under_the_folder_of_the_model(encoder):
    assert MtebEncoder(encoder).name == "jaxembed/tiny"
    assert MtebEncoder(encoder, "me/mine").name == "me/mine"
