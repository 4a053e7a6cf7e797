"""Records the cross-encoder losses: scores [q k], a mask for lists of different lengths.

    python tests/goldens/losses/reranking.py

What masked places hold is arbitrary. The library sees the real documents only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from record import Recorder
from sentence_transformers.cross_encoder import CrossEncoder, losses
from torch import Tensor, nn

ROWS, CLASSES = 6, 4
ACTIVATIONS = {"identity": nn.Identity, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
WEIGHTINGS: dict[str, Any] = {
    "no_weighting": losses.NoWeightingScheme,
    "ndcg_loss1": losses.NDCGLoss1Scheme,
    "ndcg_loss2": losses.NDCGLoss2Scheme,
    "lambda_rank": losses.LambdaRankScheme,
    "ndcg_loss2pp": losses.NDCGLoss2PPScheme,
}

# Keyword of the labels, and how they are drawn for scores of a shape.
TARGETS: dict[str, tuple[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]]] = {
    "binary": ("labels", lambda rng, shape: rng.integers(0, 2, shape).astype(float)),
    "soft": ("labels", lambda rng, shape: rng.random(shape)),
    "classes": ("labels", lambda rng, shape: rng.integers(0, CLASSES, shape[:1])),
    "margins": ("margins", lambda rng, shape: rng.normal(size=(shape[0], shape[1] - 1))),
    "teacher": ("teacher_scores", lambda rng, shape: rng.normal(size=shape)),
}
BCE = (losses.BinaryCrossEntropyLoss, "binary_cross_entropy_loss")
CROSS_ENTROPY = (losses.CrossEntropyLoss, "cross_entropy_loss")
MSE = (losses.MSELoss, "mse_loss")
MARGIN_MSE = (losses.MarginMSELoss, "margin_mse_loss")
# Name, class and loss, shape of the scores, what the labels are, settings.
POINTWISE: list[tuple[str, tuple[Any, str], tuple[int, ...], str, dict[str, Any]]] = [
    ("bce", BCE, (ROWS,), "binary", {}),
    ("bce_pos_weight", BCE, (ROWS,), "binary", {"pos_weight": 2.5}),
    ("bce_soft_labels", BCE, (ROWS,), "soft", {"pos_weight": 0.4}),
    ("bce_tanh", BCE, (ROWS,), "binary", {"activation_fn": "tanh"}),
    ("cross_entropy", CROSS_ENTROPY, (ROWS, CLASSES), "classes", {}),
    ("cross_entropy_tanh", CROSS_ENTROPY, (ROWS, CLASSES), "classes", {"activation_fn": "tanh"}),
    ("mse", MSE, (ROWS,), "soft", {}),
    ("mse_sigmoid", MSE, (ROWS,), "soft", {"activation_fn": "sigmoid"}),
    ("margins_1", MARGIN_MSE, (ROWS, 2), "margins", {}),
    ("margins_3", MARGIN_MSE, (ROWS, 4), "margins", {}),
    ("margins_sigmoid", MARGIN_MSE, (ROWS, 3), "margins", {"activation_fn": "sigmoid"}),
    ("teacher_scores_1", MARGIN_MSE, (ROWS, 2), "teacher", {}),
    ("teacher_scores_3", MARGIN_MSE, (ROWS, 4), "teacher", {}),
]

IN_BATCH = losses.MultipleNegativesRankingLoss
# Name, class, columns of documents, settings.
RANKING: list[tuple[str, Any, int, dict[str, Any]]] = [
    ("ranking", IN_BATCH, 1, {}),
    ("ranking_1_negative", IN_BATCH, 2, {"scale": 3.0}),
    ("ranking_2_negatives", IN_BATCH, 3, {"activation_fn": "sigmoid"}),
    ("ranking_identity", IN_BATCH, 2, {"scale": 1.5, "activation_fn": "identity"}),
    ("ranking_tanh", IN_BATCH, 1, {"scale": 5.0, "activation_fn": "tanh"}),
    ("ranking_cached", losses.CachedMultipleNegativesRankingLoss, 2, {"scale": 7.0}),
]

# Documents of each query.
LISTS = {
    "full": [5, 5, 5],
    "ragged": [5, 3, 1, 7, 2],
    "singles": [1, 1],
    "one query": [8],
    "holes": [4, 6, 2, 5],
}
LISTNET = (losses.ListNetLoss, "listnet_loss")
LISTMLE = (losses.ListMLELoss, "listmle_loss")
P_LISTMLE = (losses.PListMLELoss, "p_listmle_loss")
ADR_MSE = (losses.ADRMSELoss, "adr_mse_loss")
RANKNET = (losses.RankNetLoss, "ranknet_loss")
LAMBDA = (losses.LambdaLoss, "lambda_loss")
NATURAL = {"reduction_log": "natural", "sigma": 0.5}
# Name, classes and losses, which documents are real, what the labels are, settings.
EVERY = [LISTNET, LISTMLE, P_LISTMLE, ADR_MSE, RANKNET, LAMBDA]
LISTWISE: list[tuple[str, list[tuple[Any, str]], str, str | None, dict[str, Any]]] = [
    ("full", EVERY, "full", "distinct", {}),
    ("ragged", EVERY, "ragged", "distinct", {}),
    ("holes", EVERY, "holes", "distinct", {}),
    ("singles", EVERY, "singles", "distinct", {}),
    ("sigmoid", EVERY, "ragged", "distinct", {"activation_fn": "sigmoid"}),
    ("without_labels", [LISTMLE, P_LISTMLE], "ragged", None, {}),
    *[
        (
            f"by_labels_{kind}",
            [LISTMLE, P_LISTMLE],
            kind,
            "distinct",
            {"respect_input_order": False},
        )
        for kind in ["full", "ragged", "holes"]
    ],
    ("tied", [LISTNET, ADR_MSE, RANKNET, LAMBDA], "ragged", "grades", {}),
    ("flat", [ADR_MSE], "holes", "grades", {"alpha": 0.5}),
    ("steep", [ADR_MSE], "one query", "grades", {"alpha": 4.0}),
    ("k", [RANKNET], "ragged", "grades", {"k": 2}),
    ("natural", [RANKNET], "ragged", "grades", NATURAL),
    ("one_query", [RANKNET], "one query", "grades", {"k": 3, "sigma": 2.0}),
    ("equal_labels", [RANKNET, LAMBDA], "ragged", "equal", {}),
    ("mu", [LAMBDA], "ragged", "grades", {"weighting": ["ndcg_loss2pp", {"mu": 3.0}], "k": 3}),
    *[
        (f"{weighting}_{name}", [LAMBDA], lists, labels, {"weighting": weighting} | settings)
        for weighting in WEIGHTINGS
        for name, lists, labels, settings in [
            ("ragged", "ragged", "grades", {}),
            ("k", "holes", "grades", {"k": 2}),
            ("k_too_large", "ragged", "grades", {"k": 50}),
            ("natural", "full", "grades", NATURAL),
            ("one_query", "one query", "grades", {"k": 3, "sigma": 2.0}),
            ("below_zero", "ragged", "grades below zero", {"k": 4}),
            ("epsilon", "ragged", "binary", {"epsilon": 1.5}),
        ]
    ],
]


class StoredScores(CrossEncoder):
    """A model whose score of row i with document j is stored at `[i, places[i, j]]`, or `[i, j]`.

    A text is its number.
    """

    num_labels = 1
    device = torch.device("cpu")

    def __init__(self, scores: Tensor, places: Tensor | None = None):
        nn.Module.__init__(self)
        self.scores = scores
        self.places = places

    def preprocess(self, pairs: list[tuple[int, int]], **_: Any) -> dict[str, Tensor]:
        return {"pairs": torch.tensor(pairs)}

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        rows, columns = features["pairs"].T
        if self.places is not None:
            columns = self.places[rows, columns]
        scores = self.scores[rows, columns]
        return {"scores": scores[:, None] if scores.ndim == 1 else scores}


def library_keywords(settings: dict[str, Any]) -> dict[str, Any]:
    keywords = dict(settings)
    if "activation_fn" in settings:
        keywords["activation_fn"] = ACTIVATIONS[settings["activation_fn"]]()
    if "pos_weight" in settings:
        keywords["pos_weight"] = torch.tensor(settings["pos_weight"])
    if "epsilon" in settings:
        keywords["eps"] = keywords.pop("epsilon")
    match keywords.pop("weighting", None):
        case [name, options]:
            keywords["weighting_scheme"] = WEIGHTINGS[name](**options)
        case str(name):
            keywords["weighting_scheme"] = WEIGHTINGS[name]()
    return keywords


def add_pointwise(recorder: Recorder, rng: np.random.Generator) -> None:
    for name, (loss, function), shape, kind, settings in POINTWISE:
        keyword, draw = TARGETS[kind]
        documents = shape[1] if loss is losses.MarginMSELoss else 1

        def compute(
            tensors: dict[str, Tensor],
            loss: Any = loss,
            keyword: str = keyword,
            documents: int = documents,
            settings: dict[str, Any] = settings,
        ) -> Tensor:
            scores = tensors["scores"]
            model = StoredScores(scores if documents > 1 else scores[:, None])
            inputs = [[*range(ROWS)], *([document] * ROWS for document in range(documents))]
            return loss(model, **library_keywords(settings))(inputs, tensors[keyword])

        recorder.add(
            name,
            f"reranking.{function}",
            compute,
            embeddings={"scores": 2 * rng.normal(size=shape)},
            keywords={keyword: draw(rng, shape)},
            settings=settings,
        )


def candidates(columns: int) -> np.ndarray:
    """The documents of each row in the library's order: positive, others' documents, own negatives.

    Document c · ROWS + j is column c of row j.
    """
    documents = range(ROWS * columns)
    return np.array(
        [
            [row, *(j for j in documents if j % ROWS != row), *documents[row + ROWS :: ROWS]]
            for row in range(ROWS)
        ]
    )


def add_ranking(recorder: Recorder, rng: np.random.Generator) -> None:
    for name, loss, columns, settings in RANKING:

        def compute(
            tensors: dict[str, Tensor],
            loss: Any = loss,
            columns: int = columns,
            settings: dict[str, Any] = settings,
        ) -> Tensor:
            places = torch.tensor(candidates(columns).argsort(1))
            model = StoredScores(tensors["scores"], places)
            documents = [[*range(c * ROWS, (c + 1) * ROWS)] for c in range(columns)]
            function = loss(model, num_negatives=None, **library_keywords(settings))
            return function([[*range(ROWS)], *documents], None)

        recorder.add(
            name,
            "reranking.multiple_negatives_ranking_loss",
            compute,
            embeddings={"scores": rng.normal(size=(ROWS, ROWS * columns))},
            settings=settings,
        )


def real_documents(rng: np.random.Generator, lists: str) -> np.ndarray:
    counts = np.array(LISTS[lists])
    where = np.arange(counts.max() + (lists == "holes")) < counts[:, None]
    return rng.permuted(where, axis=1) if lists == "holes" else where


def list_labels(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> np.ndarray:
    match kind:
        case "distinct":
            order = np.tile(np.arange(shape[1]), (shape[0], 1))
            return 0.5 * rng.permuted(order, axis=1) + 0.25
        case "grades":
            return rng.integers(0, 4, shape).astype(float)
        case "grades below zero":
            return rng.integers(-2, 3, shape).astype(float)
        case "binary":
            return rng.integers(0, 2, shape).astype(float)
        case _:
            return np.full(shape, 2.0)


def add_listwise(recorder: Recorder, rng: np.random.Generator) -> None:
    for case, pairs, lists, kind, settings in LISTWISE:
        for loss, function in pairs:
            where = real_documents(rng, lists)
            labels = {} if kind is None else {"labels": list_labels(rng, kind, where.shape)}

            def compute(
                tensors: dict[str, Tensor], loss: Any = loss, settings: dict[str, Any] = settings
            ) -> Tensor:
                where = tensors["where"]
                labels = tensors.get("labels", torch.zeros(where.shape))
                documents = [real.nonzero()[:, 0].tolist() for real in where]
                return loss(StoredScores(tensors["scores"]), **library_keywords(settings))(
                    [[*range(len(where))], documents],
                    [row[real] for row, real in zip(labels, where, strict=True)],
                )

            recorder.add(
                f"{function.removesuffix('_loss')}_{case}",
                f"reranking.{function}",
                compute,
                embeddings={"scores": 2 * rng.normal(size=where.shape)},
                keywords=labels | {"where": where},
                settings=settings,
            )


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    recorder, rng = Recorder("reranking"), np.random.default_rng(62)
    add_pointwise(recorder, rng)
    add_ranking(recorder, rng)
    add_listwise(recorder, rng)
    recorder.save()
