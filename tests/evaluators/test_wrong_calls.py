"""Evaluators that are called wrongly say what is due, what came, and which argument it is."""

# pyright: reportArgumentType=false, reportCallIssue=false
# The calls are wrong on purpose.

import numpy as np
import pytest

from jaxembed.evaluators import (
    BinaryClassificationEvaluator,
    ClassificationEvaluator,
    ClusteringEvaluator,
    LabelAccuracyEvaluator,
    MSEEvaluator,
    ParaphraseMiningEvaluator,
    RerankingEvaluator,
    RetrievalEvaluator,
    SimilarityEvaluator,
    Suite,
    TranslationEvaluator,
    TripletEvaluator,
    at_dims,
    at_precisions,
    nano_beir,
)

TEXTS = ["a", "b", "c", "d"]
BY_ID = dict(zip(TEXTS, TEXTS, strict=True))
SCORES = [1, 2, 3, 4]
CORPUS, QUERIES, QRELS = {"d1": "x", "d2": "y"}, {"q": "x"}, {"q": {"d1": 1}}
SAMPLE = {"query": "a", "positive": ["b"], "negative": ["c"]}


def retrieval(corpus=CORPUS, queries=QUERIES, qrels=QRELS, **options):
    return RetrievalEvaluator(corpus, queries, qrels, **options)


def reranking(**changes):
    return RerankingEvaluator([SAMPLE | changes])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: retrieval(["x"]), r"corpus must map ids to texts, .*; got list \['x'\]"),
        (lambda: retrieval(queries={"q": None}), "queries must be texts, but that of 'q' is None"),
        (lambda: retrieval({"d1": {"text": "x"}}), "corpus must be texts, but that of 'd1' is {"),
        (lambda: retrieval(qrels=None), "qrels must map query ids to scores by document"),
        (lambda: retrieval(qrels={"q": "d1"}), "'q' must be a dict of scores .*; got str 'd1'"),
        (lambda: retrieval(qrels={"q": {"d1": np.inf}}), "'d1' by a finite number; got inf"),
        (lambda: retrieval(ks=10), r"ks must be ranks of 1 or more, such as \(1, 10\), got 10"),
        (lambda: retrieval(ks=(1.5,)), "ks must be ranks of 1 or more"),
        (lambda: retrieval(similarity=np.dot), "similarity must be one of .*got <function dot"),
        (lambda: retrieval(similarity=["dot"]), r"similarity must be one of .*got \['dot'\]"),
        (lambda: retrieval(exclude_same_id=1), "exclude_same_id must be True or False, got 1"),
        (lambda: SimilarityEvaluator("abcd", TEXTS, SCORES), "left must be .*got the text 'abcd'"),
        (lambda: SimilarityEvaluator(["a", None], ["a", "b"], [1, 2]), "left .* row 1 is None"),
        (lambda: SimilarityEvaluator(iter(TEXTS), TEXTS, SCORES), "left must be a sequence of"),
        (lambda: SimilarityEvaluator(TEXTS, TEXTS, None), "scores must be .*got NoneType None"),
        (lambda: SimilarityEvaluator(TEXTS, TEXTS, [1, "x", 2, 3]), "but score 1 is 'x'"),
        (lambda: SimilarityEvaluator(TEXTS, TEXTS, np.ones((4, 1))), r"got shape \[4, 1\]"),
        (lambda: BinaryClassificationEvaluator(TEXTS, TEXTS, None), "labels must be a sequence"),
        (lambda: TripletEvaluator(TEXTS, TEXTS, TEXTS, margin="1"), "finite number, got '1'"),
        (lambda: TripletEvaluator(TEXTS, {"a": "b"}, TEXTS), "positives must be a sequence of"),
        (lambda: RerankingEvaluator({"a": SAMPLE}), "samples must be a sequence of dicts"),
        (lambda: RerankingEvaluator([["a", "b"]]), r"sample 0 must map .*got list \['a', 'b'\]"),
        (lambda: reranking(positive=5), "the positive of sample 0 must be a sequence .* int 5"),
        (lambda: RerankingEvaluator([SAMPLE], k=2.5), "k must be a rank of 1 or more, got 2.5"),
        (lambda: ParaphraseMiningEvaluator(TEXTS, [("a", "b")]), "texts must map ids to texts"),
        (lambda: ParaphraseMiningEvaluator(BY_ID, ["ab"]), "pairs of ids, but row 0 is str 'ab'"),
        (lambda: ParaphraseMiningEvaluator(BY_ID, [("a", "b")], top_k="3"), "top_k .* got '3'"),
        (lambda: TranslationEvaluator(None, TEXTS), "source must be a sequence of texts"),
        (lambda: MSEEvaluator(TEXTS, [[1.0]] * 4), r"teacher must be an array \[n d\], got list"),
        (lambda: MSEEvaluator(TEXTS, np.array([["a"]] * 4)), "teacher must hold numbers, got <U1"),
        (lambda: LabelAccuracyEvaluator(TEXTS, TEXTS, [0] * 4, None), "classify must be a funct"),
        (lambda: ClusteringEvaluator(TEXTS, None), "labels must be a sequence of labels"),
        (lambda: ClassificationEvaluator(TEXTS, [0, 1] * 2, TEXTS, None), "test_labels must be"),
        (
            lambda: ClassificationEvaluator(TEXTS, [0, 1] * 2, TEXTS, [0] * 4, experiments=None),
            "experiments must be at least 1, got None",
        ),
        (lambda: Suite([retrieval()]), "evaluators must map names to evaluators; got list"),
        (lambda: Suite({"a": RetrievalEvaluator}), "a is <class .*, not an evaluator"),
        (lambda: Suite({"a": retrieval()}, 5), "main_metric must be the name of one, got 5"),
        (lambda: at_dims(retrieval(), 8), r"dims must be different .* \(256, 128\), got 8"),
        (lambda: at_dims(Suite({"a": retrieval()}), ["8"]), "dims must be different numbers"),
        (lambda: at_dims("model", [2]), "an evaluator is needed, got str 'model'"),
        (lambda: at_precisions(retrieval(), None, np.sign), "precisions must be different ones"),
        (lambda: at_precisions(retrieval(), ["int8"], None), "quantize must be a function"),
        (lambda: nano_beir([5]), "names must be texts, got int 5"),
        (lambda: RetrievalEvaluator.from_beir([1], {}, {}), "corpus must be a file or a table"),
        (lambda: RetrievalEvaluator.from_folder(None), "a folder is needed; got NoneType"),
    ],
)
def test_wrong_data_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("embed", "message"),
    [
        ("model", "embed must be a function of texts and role, such as .*; got str 'model'"),
        (lambda texts: np.ones((len(texts), 2)), "embed must be a function of texts and role"),
        (lambda texts, *, role: None, r"array of real numbers \(role 'query'\); got NoneType None"),
        (lambda texts, *, role: [["a", "b"]], "array of real numbers .* got list"),
        (lambda texts, *, role: [[1.0], [2.0, 3.0]], "array of real numbers .* got list"),
        (lambda texts, *, role: np.ones((1, 2), complex), "array of real numbers"),
        (lambda texts, *, role: np.ones((1, 0)), r"one row for each .*got shape \[1, 0\]"),
    ],
)
def test_what_does_not_embed_is_refused_in_one_line(embed, message):
    with pytest.raises(ValueError, match=message) as refusal:
        retrieval().evaluate(embed)
    assert "\n" not in str(refusal.value)


def test_arrays_and_numbers_of_numpy_are_taken():
    scores = np.array([0.5, 0.1, 0.7, 0.2], np.float32)
    evaluator = SimilarityEvaluator(np.array(TEXTS), TEXTS[::-1], scores)
    rng = np.random.default_rng(0)
    assert len(evaluator.evaluate(lambda texts, *, role: rng.normal(size=(len(texts), 3)))) == 2
    retrieval(ks=np.array([1, 2]), qrels={"q": {"d1": np.int64(1), "d2": True}})
    RerankingEvaluator([SAMPLE | {"positive": "b"}], k=np.int64(3))
