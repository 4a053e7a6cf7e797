"""Cut and quantised embeddings against sentence-transformers, and what is embedded and refused."""

from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from scipy.stats import spearmanr

from jaxembed.encoders.inference import quantize_embeddings
from jaxembed.evaluators import RetrievalEvaluator, SimilarityEvaluator, TripletEvaluator
from jaxembed.evaluators.protocols import Evaluator
from jaxembed.evaluators.shortened import BLOCK, at_dims, at_precisions
from jaxembed.evaluators.suite import Suite
from jaxembed.search import Similarity
from tests.goldens.evaluators.models import read_models
from tests.goldens.evaluators.pairs import named

PRECISIONS = ["float32", "int8", "uint8", "binary", "ubinary"]
SIMILARITIES = get_args(Similarity)


@pytest.fixture(scope="module")
def models():
    return read_models()


def similarity_of(stored, similarity: Similarity = "cosine"):
    left, right = named(stored["left"]), named(stored["right"])
    return SimilarityEvaluator(left, right, stored["scores"].tolist(), similarity=similarity)


def retrieval_of(tables):
    qrels = {}
    for query, document in zip(*tables["qrels"].values(), strict=True):
        qrels.setdefault(query, {})[document] = 1
    corpus = dict(zip(*tables["corpus"].values(), strict=True))
    del corpus["d100"]  # without a text
    return RetrievalEvaluator(corpus, dict(zip(*tables["queries"].values(), strict=True)), qrels)


class Watched:
    """An embed function that remembers its calls."""

    def __init__(self, embed):
        self.embed, self.calls = embed, []

    def __call__(self, texts, *, role):
        self.calls.append((texts, role))
        return self.embed(texts, role=role)


@pytest.mark.parametrize("similarity", ["cosine", "manhattan"])
def test_cut_embeddings_have_the_values_of_sentence_transformers(models, similarity):
    stored, embed, expected = models
    evaluator: Evaluator = at_dims(similarity_of(stored, similarity), (5, 28, 16))
    found = evaluator.evaluate(embed)
    assert evaluator.main_metric == "spearman_dim_28"
    assert found == pytest.approx(
        {
            f"{metric}_dim_{dim}": expected["similarity"][str(dim)][f"{metric}_{similarity}"]
            for dim in (5, 28, 16)
            for metric in ("pearson", "spearman")
        },
        rel=1e-6,
    )


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_quantised_embeddings_have_the_values_of_sentence_transformers(models, similarity):
    stored, embed, expected = models
    evaluator: Evaluator = at_precisions(
        similarity_of(stored, similarity), PRECISIONS, quantize_embeddings
    )
    found = evaluator.evaluate(embed)
    assert evaluator.main_metric == "spearman_float32"
    assert len(found) == 10
    for name, value in found.items():
        metric, _, precision = name.partition("_")
        # Equal cosines of bits differ by rounding there, and Spearman sees it.
        ties = metric == "spearman" and similarity == "cosine" and "binary" in precision
        theirs = expected["similarity"][precision][f"{metric}_{similarity}"]
        assert value == pytest.approx(theirs, rel=1e-3 if ties else 1e-6), name


def test_cosines_of_bits_rank_as_exact_fractions_do(models):
    stored, embed, _ = models
    bits = [embed(named(stored[side]), role=None) > 0 for side in ("left", "right")]
    both, left, right = (np.sum(x, axis=1) for x in (bits[0] & bits[1], *bits))
    squares = [Fraction(int(x) ** 2, int(y * z)) for x, y, z in zip(both, left, right, strict=True)]
    expected, _ = spearmanr(stored["scores"], [float(square) for square in squares])
    evaluator = at_precisions(similarity_of(stored), ["ubinary"], quantize_embeddings)
    assert evaluator.evaluate(embed)["spearman_ubinary"] == pytest.approx(expected, rel=1e-6)


def test_cut_retrieval_has_the_values_of_sentence_transformers(models):
    _, embed, expected = models
    found = at_dims(retrieval_of(expected["tables"]["NanoNQ"]), [16]).evaluate(embed)
    for name in ("ndcg@10", "mrr@10", "map@100", "recall@3", "precision@5", "accuracy@1"):
        theirs = expected["retrieval_dim_16"][f"cosine_{name}"]
        assert found[f"{name}_dim_16"] == pytest.approx(theirs, rel=1e-6)


def test_one_precision_alone_has_the_value_that_it_has_among_others(models):
    stored, embed, _ = models
    together = at_precisions(similarity_of(stored), PRECISIONS, quantize_embeddings).evaluate(embed)
    for precision in PRECISIONS:
        alone = at_precisions(similarity_of(stored), [precision], quantize_embeddings)
        assert alone.main_metric == f"spearman_{precision}"
        assert alone.evaluate(embed).items() <= together.items()


@pytest.mark.parametrize(
    "shorten",
    [
        lambda evaluator: at_dims(evaluator, (4, 28, 7)),
        lambda evaluator: at_precisions(evaluator, PRECISIONS, quantize_embeddings),
    ],
)
def test_texts_are_embedded_once_per_evaluation(models, shorten):
    _, embed, expected = models
    retrieval, watched = retrieval_of(expected["tables"]["NanoNQ"]), Watched(embed)
    for times in (1, 2):
        shorten(retrieval).evaluate(watched)
        assert watched.calls == times * [
            (list(retrieval.queries.values()), "query"),
            (list(retrieval.corpus.values()), "document"),
        ]


def test_queries_are_quantised_by_the_ranges_of_the_documents(models):
    _, embed, expected = models
    retrieval, calls = retrieval_of(expected["tables"]["NanoNQ"]), []

    def quantize(embeddings, precision, ranges):
        calls.append((len(embeddings), ranges))
        return quantize_embeddings(embeddings, precision, ranges)

    at_precisions(retrieval, ["uint8", "binary"], quantize).evaluate(embed)
    documents = embed(list(retrieval.corpus.values()), role="document")
    units = documents / np.linalg.norm(documents, axis=1, keepdims=True)
    assert [n for n, _ in calls] == [12, 100, 12, 100]
    for _, ranges in calls[:2]:
        np.testing.assert_allclose(ranges, [units.min(axis=0), units.max(axis=0)], rtol=1e-6)
    assert [ranges for _, ranges in calls[2:]] == [None, None]


@pytest.mark.parametrize(
    ("roles", "counted"), [(["document", "query", "document"], [0, 2]), ([None, "query"], [0, 1])]
)
def test_ranges_are_those_of_all_documents_or_without_one_of_all_texts(roles, counted):
    vectors = np.random.default_rng(0).normal(size=(len(roles), 40, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    given = []

    class Asking:
        main_metric = "nothing"

        def evaluate(self, embed):
            for call, role in enumerate(roles):
                embed([str(call)] * 40, role=role)
            return {"nothing": 0.0}

    def quantize(embeddings, precision, ranges):
        given.append(ranges)
        return quantize_embeddings(embeddings, precision, ranges)

    at_precisions(Asking(), ["int8"], quantize).evaluate(
        lambda texts, *, role: vectors[int(texts[0])]
    )
    rows = vectors[counted].reshape(-1, 3)
    expected = [rows.min(axis=0), rows.max(axis=0)]
    assert len(given) == len(roles)
    for ranges in given:
        np.testing.assert_allclose(ranges, expected, rtol=1e-6)


@pytest.mark.parametrize("precision", ["uint8", "binary"])
def test_a_block_of_embeddings_at_a_time_is_quantised(precision):
    vectors = np.random.default_rng(0).normal(size=(BLOCK + 5, 12)).astype(np.float32)
    asked, sizes = [], []

    class Asking:
        main_metric = "length"

        def evaluate(self, embed):
            asked.append(embed(named(range(len(vectors))), role="document"))
            return {"length": float(len(asked[-1]))}

    def quantize(embeddings, precision, ranges):
        sizes.append(len(embeddings))
        return quantize_embeddings(embeddings, precision, ranges)

    at_precisions(Asking(), [precision], quantize).evaluate(lambda texts, *, role: vectors)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = quantize_embeddings(units, precision) if precision == "uint8" else units > 0
    np.testing.assert_array_equal(asked[-1], expected)
    assert sizes == [BLOCK, 5]


def test_given_ranges_are_taken_and_nothing_is_searched_for_them(models):
    stored, embed, _ = models
    ranges, asked, given = np.stack([-np.ones(28), np.ones(28)]), [], []

    class Counting:
        main_metric = "spearman"

        def evaluate(self, embed):
            asked.append(1)
            return similarity_of(stored).evaluate(embed)

    def quantize(embeddings, precision, ranges):
        given.append(ranges)
        return quantize_embeddings(embeddings, precision, ranges)

    at_precisions(Counting(), ["int8"], quantize, ranges=ranges).evaluate(embed)
    assert len(asked) == 1
    assert given == [ranges]


def test_members_of_a_suite_are_shortened_by_themselves_and_means_follow(models):
    stored, embed, expected = models
    evaluators = {"sts": similarity_of(stored)}
    evaluators |= {name: retrieval_of(expected["tables"][name]) for name in ("NanoNQ",)}
    for shorten, ending in (
        (
            lambda evaluator: at_precisions(evaluator, ["int8", "binary"], quantize_embeddings),
            "int8",
        ),
        (lambda evaluator: at_dims(evaluator, (5, 16)), "dim_16"),
    ):
        suite = shorten(Suite(evaluators))
        assert suite.main_metric == f"sts/spearman_{ending}"
        found = suite.evaluate(embed)
        for name, evaluator in evaluators.items():
            alone = shorten(evaluator).evaluate(embed)
            assert {f"{name}/{metric}": value for metric, value in alone.items()}.items() <= (
                found.items()
            )
        twice = shorten(Suite({"a": evaluators["sts"], "b": evaluators["sts"]}))
        assert twice.main_metric == f"mean/spearman_{ending}"
        assert twice.evaluate(embed)[f"mean/spearman_{ending}"] == found[f"sts/spearman_{ending}"]


def test_cut_and_quantised_in_turn(models):
    stored, embed, _ = models
    evaluator = at_dims(
        at_precisions(similarity_of(stored), ["binary"], quantize_embeddings), [28, 9]
    )
    assert evaluator.main_metric == "spearman_binary_dim_28"
    found = evaluator.evaluate(embed)

    def nine(texts, *, role):
        return np.sign(embed(texts, role=role)[:, :9]) / 2 + 0.5

    expected = similarity_of(stored).evaluate(nine)["spearman"]
    assert found["spearman_binary_dim_9"] == pytest.approx(expected, rel=1e-6)


TRIPLET = TripletEvaluator(["a"], ["b"], ["abcd"])


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((), r"dims must be different numbers of 1 or more, such as \(256, 128\), got \(\)"),
        ((4, 0), r"got \(4, 0\)"),
        ((4, 4), r"got \(4, 4\)"),
    ],
)
@pytest.mark.parametrize("evaluator", [TRIPLET, Suite({"t": TRIPLET})])
def test_wrong_dims_are_refused(evaluator, dims, message):
    with pytest.raises(ValueError, match=message):
        at_dims(evaluator, dims)


def test_more_dims_than_the_model_has_are_refused():
    with pytest.raises(ValueError, match="embeds to 2 features, which cannot be cut to 3"):
        at_dims(TRIPLET, (1, 3)).evaluate(lambda texts, *, role: np.ones((len(texts), 2)))


@pytest.mark.parametrize(
    ("precisions", "message"),
    [
        ((), r"precisions must be different ones of .*'ubinary'\), got \(\)"),
        ("int8", "precisions must be different ones of .*, got 'int8'"),
        (("int8", "int8"), "precisions must be different ones"),
        (("int8", "int4"), "precision must be one of .*'uint8'.*, got 'int4'"),
    ],
)
@pytest.mark.parametrize("evaluator", [TRIPLET, Suite({"t": TRIPLET})])
def test_wrong_precisions_are_refused(evaluator, precisions, message):
    with pytest.raises(ValueError, match=message):
        at_precisions(evaluator, precisions, quantize_embeddings)


def test_a_model_that_diverged_is_refused():
    with pytest.raises(ValueError, match="NaN or infinity for 1 of 1 texts"):
        at_precisions(TRIPLET, ["binary"], quantize_embeddings).evaluate(
            lambda texts, *, role: np.full((len(texts), 2), np.nan)
        )
