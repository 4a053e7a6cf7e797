"""Blocked search against a full sort, its ties, and what it compiles and holds."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxembed import search
from jaxembed.search import Similarity, merge, top_k_search
from jaxembed.training.compiled import program_cost

BLOCKS = [(512, 4096), (1, 1), (3, 7), (5, 64), (64, 5), (13, 101), (14, 102)]


def reference(queries, corpus, k, similarity, exclude=None):
    """Sorts all scores; of equal ones the first document stands first."""
    scores = np.zeros((len(queries), len(corpus)))
    for i, query in enumerate(queries.astype(np.float64)):
        for j, document in enumerate(corpus.astype(np.float64)):
            scores[i, j] = {
                "dot": query @ document,
                "cosine": query @ document / np.linalg.norm(query) / np.linalg.norm(document),
                "euclidean": -np.linalg.norm(query - document),
                "manhattan": -np.abs(query - document).sum(),
            }[similarity]
            if exclude is not None and j in exclude[i]:
                scores[i, j] = -np.inf
    indices = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    scores = np.take_along_axis(scores, indices, axis=1)
    return scores, np.where(scores == -np.inf, -1, indices)


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


@pytest.mark.parametrize(
    ("query_block", "corpus_block", "k", "similarity"),
    [(*block, 10, "cosine") for block in BLOCKS]
    + [(3, 7, k, similarity) for k in (1, 101) for similarity in get_args(Similarity)],
)
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


@pytest.mark.parametrize("similarity", ["euclidean", "manhattan"])
def test_distances_keep_their_digits_far_from_the_origin(vectors, similarity):
    far = [x + np.float32(4096) for x in vectors]
    scores, indices = top_k_search(far[0], far[1], k=9, similarity=similarity, corpus_block=32)
    expected_scores, expected_indices = reference(far[0], far[1], 9, similarity)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(scores, expected_scores, rtol=2e-5)


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

    def watched(*arrays, **options):
        shapes.add(tuple(str(array.shape) for array in jax.tree.leaves(arrays)))
        return merge(*arrays, **options)

    monkeypatch.setattr(search, "merge", watched)
    queries, corpus = vectors
    for n_queries, n_documents in [(7, 9), (8, 16), (6, 12), (13, 101), (9, 70)]:
        top_k_search(queries[:n_queries], corpus[:n_documents], k=3, query_block=4, corpus_block=16)
    assert shapes == {("(8, 3)", "(8, 3)", "(8, 6)", "(16, 6)", "(8, 0)", "()", "()")}


def lowered(rows, documents, k, n_excluded=0, d=32):
    """The program that compares a block of queries, on two devices, with one of documents."""
    mesh = jax.make_mesh((2,), ("queries",), axis_types=(jax.sharding.AxisType.Auto,))
    number = jax.ShapeDtypeStruct((), jnp.int32)
    best = [jax.ShapeDtypeStruct((rows, k), dtype) for dtype in (jnp.float32, jnp.int32)]
    return merge.lower(
        tuple(best),
        jax.ShapeDtypeStruct((rows, d), jnp.float32),
        jax.ShapeDtypeStruct((documents, d), jnp.float32),
        jax.ShapeDtypeStruct((rows, n_excluded), jnp.int32),
        number,
        number,
        similarity="cosine",
        mesh=mesh,
    )


def test_a_device_has_its_share_of_work_and_scores_and_says_no_word_to_others():
    cost = program_cost(lowered(1024, 4096, 100, n_excluded=4).compile())
    assert cost.flops == 2 * 512 * 4096 * 32
    assert cost.temporary_bytes < 2.5 * 512 * 4096 * 4
    assert not cost.collectives
    assert not cost.loop_collectives


def test_products_are_full_float32_on_every_platform():
    assert "precision = [HIGHEST, HIGHEST]" in lowered(8, 16, 3).as_text()


@pytest.mark.parametrize(("query_block", "corpus_block"), [(512, 4096), (3, 7), (5, 64)])
@pytest.mark.parametrize("n_excluded", [1, 4, 101])
def test_excluded_rows_are_not_found(tied_vectors, n_excluded, query_block, corpus_block):
    queries, corpus = tied_vectors
    rng = np.random.default_rng(2)
    best = reference(queries, corpus, 3, "dot")[1]  # at least these would be found
    exclude = np.concatenate([best, rng.integers(-1, 101, (13, 101))], axis=1)[:, :n_excluded]
    scores, indices = top_k_search(
        *(queries, corpus),
        k=60,
        similarity="dot",
        query_block=query_block,
        corpus_block=corpus_block,
        exclude=exclude,
    )
    expected_scores, expected_indices = reference(queries, corpus, 60, "dot", exclude)
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(indices, expected_indices)


def test_where_all_is_excluded_nothing_is_found(vectors):
    exclude = np.tile(np.arange(5), (13, 1))
    scores, indices = top_k_search(vectors[0], vectors[1][:5], k=2, exclude=exclude)
    assert (indices == -1).all()
    assert (scores == -np.inf).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_a_file_is_read_in_blocks(tied_vectors, tmp_path, dtype):
    expected = top_k_search(*tied_vectors, k=4)
    read = []

    class Watched(np.memmap):
        def __getitem__(self, rows):
            read.append((rows.start, rows.stop))
            return super().__getitem__(rows)

    files = []
    for name, array in zip(("queries", "corpus"), tied_vectors, strict=True):
        np.save(tmp_path / name, array.astype(dtype))
        files.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r").view(Watched))
    found = top_k_search(*files, k=4, query_block=8, corpus_block=40)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    assert read == [(0, 16), (0, 40), (40, 80), (80, 120)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k must be a whole number of at least 1, got 0"),
        ({"k": 2.0}, r"k of top_k_search must be an integer; got 2\.0"),
        ({"corpus_block": -3}, "corpus_block must be a whole number of at least 1, got -3"),
        ({"query_block": 0}, "query_block must be a whole number of at least 1, got 0"),
        ({"similarity": "l2"}, r"one of \['cosine', 'dot', 'euclidean', 'manhattan'\], got 'l2'"),
        ({"corpus": np.zeros((4, 5))}, r"the same d, got \[3, 2\] and \[4, 5\]"),
        ({"corpus": np.zeros((0, 2))}, "at least one query and one document, got 3 and 0"),
        ({"exclude": np.zeros((2, 1), int)}, r"exclude must be \[3 e\], got \[2, 1\]"),
        ({"exclude": np.array([[0], [4], [-1]])}, "below 4, or -1; got -1 to 4"),
    ],
)
def test_wrong_arguments_are_refused(changes, message, monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    arguments = {"queries": np.zeros((3, 2)), "corpus": np.zeros((4, 2)), "k": 1} | changes
    with pytest.raises(ValueError, match=message):
        top_k_search(**arguments)
