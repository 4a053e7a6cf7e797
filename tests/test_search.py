"""Blocked search against a full sort, its ties, and what it compiles and holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import search
from jaxembed.search import merge, top_k_search

BLOCKS = [(1024, 8192), (1, 1), (3, 7), (5, 64), (64, 5), (13, 101), (14, 102)]


def reference(queries, corpus, k, similarity):
    """Sorts all scores; of equal ones the first document stands first."""
    scores = np.zeros((len(queries), len(corpus)))
    for i, query in enumerate(queries.astype(np.float64)):
        for j, document in enumerate(corpus.astype(np.float64)):
            scores[i, j] = query @ document
            if similarity == "cosine":
                scores[i, j] /= np.linalg.norm(query) * np.linalg.norm(document)
    indices = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, indices, axis=1), indices


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(13, 6)).astype(np.float32), rng.normal(size=(101, 6)).astype(np.float32)


@pytest.fixture
def tied_vectors():
    """Whole numbers: scores are exact and many of them equal."""
    rng = np.random.default_rng(1)
    return (
        rng.integers(-1, 2, (13, 6)).astype(np.float32),
        rng.integers(-1, 2, (101, 6)).astype(np.float32),
    )


@pytest.mark.parametrize(("query_block", "corpus_block"), BLOCKS)
@pytest.mark.parametrize("k", [1, 10, 101])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_any_blocks_find_what_a_full_sort_finds(vectors, similarity, k, query_block, corpus_block):
    queries, corpus = vectors
    scores, indices = top_k_search(
        queries,
        corpus,
        k=k,
        similarity=similarity,
        query_block=query_block,
        corpus_block=corpus_block,
    )
    expected_scores, expected_indices = reference(queries, corpus, k, similarity)
    assert (scores.dtype, indices.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(scores, expected_scores, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("query_block", "corpus_block"), BLOCKS)
def test_equal_scores_rank_in_corpus_order(tied_vectors, query_block, corpus_block):
    queries, corpus = tied_vectors
    scores, indices = top_k_search(
        queries, corpus, k=60, similarity="dot", query_block=query_block, corpus_block=corpus_block
    )
    expected_scores, expected_indices = reference(queries, corpus, 60, "dot")
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.parametrize("corpus_block", [2, 8])
def test_more_than_the_corpus_has_is_filled_with_no_document(vectors, corpus_block):
    queries, corpus = vectors[0], vectors[1][:5]
    scores, indices = top_k_search(queries, corpus, k=9, corpus_block=corpus_block)
    np.testing.assert_array_equal(indices[:, :5], reference(queries, corpus, 5, "cosine")[1])
    assert (indices[:, 5:] == -1).all()
    assert (scores[:, 5:] == -np.inf).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float64, np.int8])
def test_other_types_are_compared_in_float32(tied_vectors, dtype):
    expected = top_k_search(*tied_vectors, k=4)
    found = top_k_search(*(array.astype(dtype) for array in tied_vectors), k=4)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_jax_arrays_are_taken_too(vectors):
    expected = top_k_search(*vectors, k=4)
    np.testing.assert_array_equal(top_k_search(*map(jnp.array, vectors), k=4)[1], expected[1])


def test_all_sizes_share_the_program_of_one_block_with_one_block(vectors, monkeypatch):
    shapes = set()

    def watched(best, queries, documents, indices, **options):
        shapes.add((queries.shape, documents.shape, indices.shape, best[0].shape))
        return merge(best, queries, documents, indices, **options)

    monkeypatch.setattr(search, "merge", watched)
    queries, corpus = vectors
    for n_queries, n_documents in [(5, 9), (8, 16), (6, 12), (13, 101), (9, 70)]:
        top_k_search(queries[:n_queries], corpus[:n_documents], k=3, query_block=8, corpus_block=16)
    assert shapes == {((8, 6), (16, 6), (16,), (8, 3))}


def test_a_block_needs_the_memory_of_its_own_scores():
    best = (
        jax.ShapeDtypeStruct((512, 100), jnp.float32),
        jax.ShapeDtypeStruct((512, 100), jnp.int32),
    )
    memory = (
        merge.lower(
            best,
            jax.ShapeDtypeStruct((512, 32), jnp.float32),
            jax.ShapeDtypeStruct((4096, 32), jnp.float32),
            jax.ShapeDtypeStruct((4096,), jnp.int32),
            similarity="cosine",
        )
        .compile()
        .memory_analysis()
    )
    assert memory is not None
    assert memory.temp_size_in_bytes < 2.5 * 512 * 4096 * 4


def test_products_are_full_float32_on_every_platform(vectors):
    queries, corpus = map(jnp.array, vectors)
    best = (jnp.zeros((13, 2)), jnp.zeros((13, 2), jnp.int32))
    text = merge.lower(
        best, queries, corpus, jnp.arange(101, dtype=jnp.int32), similarity="dot"
    ).as_text()
    assert "precision = [HIGHEST, HIGHEST]" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"corpus_block": -3}, "corpus_block must be at least 1, got -3"),
        ({"query_block": 0}, "query_block must be at least 1, got 0"),
        ({"similarity": "manhattan"}, r"one of \['cosine', 'dot'\], got 'manhattan'"),
        ({"corpus": np.zeros((4, 5))}, r"the same d, got \[3, 2\] and \[4, 5\]"),
        ({"corpus": np.zeros((0, 2))}, "at least one query and one document, got 3 and 0"),
    ],
)
def test_wrong_arguments_are_refused(changes, message, monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    arguments = {"queries": np.zeros((3, 2)), "corpus": np.zeros((4, 2)), "k": 1} | changes
    with pytest.raises(ValueError, match=message):
        top_k_search(**arguments)
