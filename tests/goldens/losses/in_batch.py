"""Makes the goldens of the losses whose negatives are the other rows of the batch."""

from itertools import combinations
from unittest import mock

import numpy as np
import torch
from record import Columns, Recorder, batch, draw
from sentence_transformers import util
from sentence_transformers.sentence_transformer import losses
from torch import Tensor
from transformers import PreTrainedTokenizerBase

SIMILARITIES = {
    "cosine": util.cos_sim,
    "dot": util.dot_score,
    "euclidean": util.euclidean_sim,
    "manhattan": util.manhattan_sim,
}
DIRECTIONS = ["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"]
SUBSETS = [
    ["query_to_doc", *rest] for size in range(4) for rest in combinations(DIRECTIONS[1:], size)
]
BOTH_WAYS = {"directions": ["query_to_doc", "doc_to_query"], "partition_mode": "per_direction"}

# name: (n, d, k negatives, settings)
RANKING = {
    "one_row": (1, 4, 0, {}),
    "one_row_with_negatives": (1, 4, 2, {"scale": 2.0}),
    "one_row_in_all_directions": (1, 3, 1, {"directions": DIRECTIONS}),
    "two_rows": (2, 3, 0, {}),
    "two_rows_with_negatives": (2, 5, 3, {"directions": DIRECTIONS, "scale": 5.0}),
    "many_rows": (64, 8, 1, {"directions": DIRECTIONS}),
    "many_rows_euclidean": (64, 7, 0, {"similarity_fn": "euclidean", "scale": 1.0}),
    "small_scale": (7, 6, 1, {"scale": 0.05}),
    "large_scale": (7, 6, 1, {"scale": 100.0}),
    **{
        f"{'+'.join(directions)}-{k}_negatives": (6, 5, k, {"directions": directions})
        for directions in SUBSETS
        for k in (0, 2)
    },
    **{
        f"per_direction-{len(directions)}-{k}_negatives": (
            *(6, 5, k),
            {"directions": directions, "partition_mode": "per_direction", "scale": 10.0},
        )
        for directions in (["query_to_doc"], BOTH_WAYS["directions"])
        for k in (0, 3)
    },
    **{
        f"{mode}-{strength}-{k}_negatives": (
            *(5, 6, k),
            {"hardness_mode": mode, "hardness_strength": strength, "directions": directions},
        )
        for mode in ("in_batch_negatives", "hard_negatives", "all_negatives")
        for k, strength, directions in (
            (0, 9.0, ["query_to_doc"]),
            (1, 0.0, ["query_to_doc"]),
            (1, 5.0, DIRECTIONS),
            (3, 9.0, ["query_to_doc"]),
        )
    },
    "hardness_per_direction": (
        *(5, 6, 2),
        {**BOTH_WAYS, "hardness_mode": "all_negatives", "hardness_strength": 2.5},
    ),
    **{
        f"{similarity}-{k}_negatives": (
            *(6, 7, k),
            {"similarity_fn": similarity, "scale": scale, "directions": DIRECTIONS},
        )
        for similarity, scale in (("dot", 0.5), ("euclidean", 1.5), ("manhattan", 0.7))
        for k in (0, 2)
    },
}
SYMMETRIC = {
    "default": (6, 5, 0, {}),
    "one_row": (1, 5, 1, {}),
    "negatives": (5, 6, 2, {"scale": 7.0}),
    "dot": (4, 3, 1, {"scale": 1.0, "similarity_fn": "dot"}),
    "euclidean": (4, 3, 0, {"scale": 2.0, "similarity_fn": "euclidean"}),
}
# From two negatives on, the cached class: the other one takes a single negative.
GUIDED = {
    "default": (7, 6, 0, {}),
    "one_row": (1, 4, 0, {"temperature": 0.1}),
    "one_row_with_negative": (1, 4, 1, {"temperature": 0.1}),
    "two_rows": (2, 3, 1, {"temperature": 0.2}),
    "negative": (8, 5, 1, {}),
    "many_rows": (64, 8, 1, {"temperature": 0.05}),
    **{
        f"{strategy}-{margin}-{k}_negatives": (
            *(8, 6, k),
            {"temperature": 0.1, "margin_strategy": strategy, "margin": margin},
        )
        for strategy in ("absolute", "relative")
        for margin in (0.0, 0.05, 0.1, -0.5)
        for k in (0, 1, 3)
    },
    **{
        f"anchors_{anchors}-positives_{positives}-{k}_negatives": (
            *(7, 5, k),
            {
                "temperature": 0.05,
                "contrast_anchors": anchors,
                "contrast_positives": positives,
            },
        )
        for anchors, positives in ((False, True), (True, False), (False, False))
        for k in (0, 2)
    },
}
MARGIN = {
    "default": (8, 5, {}),
    "two_rows": (2, 3, {}),
    "one_row": (1, 3, {}),
    "wide": (8, 5, {"positive_margin": 0.99, "negative_margin": -0.9}),
    "narrow": (9, 4, {"positive_margin": -0.2, "negative_margin": 0.6}),
    "closed": (4, 8, {"positive_margin": -1.5, "negative_margin": 1.5}),
}
TENSION = {
    "mixed": (6, 5, [1, 0, 0, 1, 0, 0]),
    "positives": (3, 4, [1, 1, 1]),
    "negatives": (3, 4, [0, 0, 0]),
    "one_row": (1, 7, [1]),
}
TENSION_IN_BATCH = {
    "default": (6, 5, 20.0, {}),
    "one_row": (1, 5, 20.0, {}),
    "two_rows": (2, 3, 3.0, {}),
    "dot": (7, 4, 0.8, {"similarity_fn": "dot"}),
    "euclidean": (5, 6, 1.5, {"similarity_fn": "euclidean"}),
}
ORTHOGONAL = {
    "default": (8, 5, {}),
    "weights": (7, 6, {"mean_weight": 0.3, "second_moment_weight": 2.5}),
    "mean_alone": (7, 6, {"mean_weight": 1.5, "second_moment_weight": 0.0}),
    "second_moment_alone": (7, 6, {"mean_weight": 0.0, "second_moment_weight": 0.7}),
    "dot": (6, 5, {"similarity_fn": "dot"}),
    "one_row": (1, 5, {}),
    "two_rows": (2, 2, {}),
    "many_rows": (64, 4, {}),
}


class Entry(torch.nn.Sequential):
    """A stand-in that hands back one entry of the features, with all that classes look at."""

    tokenizer = mock.Mock(PreTrainedTokenizerBase)
    max_seq_length = 1

    def __init__(self, key: str = "sentence_embedding"):
        super().__init__(Columns())
        self.key = key

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features[self.key]}


def translate(settings: dict) -> dict:
    """Writes the settings as the classes name them."""
    settings = dict(settings)
    if "similarity_fn" in settings:
        settings["similarity_fct"] = SIMILARITIES[settings.pop("similarity_fn")]
    return settings


def shapes(n: int, d: int, k: int, prefix: str = "") -> dict[str, tuple[int, ...]]:
    columns = {"anchors": (n, d), "positives": (n, d), "negatives": (n, k, d)}
    return {prefix + key: shape for key, shape in columns.items() if 0 not in shape}


def ranking(record: Recorder, loss: str, library: type, cases: dict) -> None:
    for name, (n, d, k, settings) in cases.items():

        def compute(tensors, settings=settings):
            loss = library(Columns(), **translate(settings))
            return loss(batch(*tensors.values()), None)

        name = f"{loss}-{name}"
        record.add(name, loss, compute, embeddings=draw(name, **shapes(n, d, k)), settings=settings)


def guided(record: Recorder) -> None:
    for name, (n, d, k, settings) in GUIDED.items():
        student, guide = shapes(n, d, k), shapes(n, d + 3, k, "guide_")

        def compute(tensors, student=student, guide=guide, k=k, settings=settings):
            embeddings = batch(*(tensors[key] for key in student))
            for features, of_guide in zip(
                embeddings, batch(*(tensors[key] for key in guide)), strict=True
            ):
                features["guide"] = of_guide["sentence_embedding"]
            models = Entry(), Entry("guide")
            if k < 2:
                return losses.GISTEmbedLoss(*models, **settings)(embeddings, None)
            return losses.CachedGISTEmbedLoss(*models, mini_batch_size=3, **settings)(
                embeddings, None
            )

        name = f"gist_embed_loss-{name}"
        record.add(
            name,
            "gist_embed_loss",
            compute,
            embeddings=draw(name, **student),
            keywords=draw(name + "-guide", **guide),
            settings=settings,
        )


def mega_batch(record: Recorder) -> None:
    for name, (n, d, settings) in MARGIN.items():
        for cached in (False, True):

            def compute(tensors, settings=settings, cached=cached):
                loss = losses.MegaBatchMarginLoss(
                    Entry(), use_mini_batched_version=cached, mini_batch_size=3, **settings
                )
                return loss(batch(*tensors.values()), None)

            record.add(
                f"mega_batch_margin_loss-{name}{'-cached' * cached}",
                "mega_batch_margin_loss",
                compute,
                embeddings=draw(name, **shapes(n, d, 0)),
                settings=settings,
            )


def contrastive_tension(record: Recorder) -> None:
    for name, (n, d, labels) in TENSION.items():

        def compute(tensors):
            loss = losses.ContrastiveTensionLoss(Columns())
            return loss(batch(tensors["first"], tensors["second"]), tensors["labels"])

        record.add(
            f"contrastive_tension_loss-{name}",
            "contrastive_tension_loss",
            compute,
            embeddings=draw(name, first=(n, d), second=(n, d)),
            keywords={"labels": np.array(labels)},
        )
    for name, (n, d, scale, settings) in TENSION_IN_BATCH.items():

        def compute(tensors, settings=settings):
            loss = losses.ContrastiveTensionLossInBatchNegatives(Columns(), **translate(settings))
            loss.model1, loss.model2 = Entry("first"), Entry("second")
            learnt = {"logit_scale": tensors["scale"].log()}
            return torch.func.functional_call(loss, learnt, ([tensors], None))

        record.add(
            f"contrastive_tension_in_batch_negatives_loss-{name}",
            "contrastive_tension_in_batch_negatives_loss",
            compute,
            embeddings=draw(name, first=(n, d), second=(n, d)),
            parameters={"scale": np.array(scale)},
            settings=settings,
        )


def orthogonal(record: Recorder) -> None:
    cases = {name: (draw(name, embeddings=(n, d)), s) for name, (n, d, s) in ORTHOGONAL.items()}
    nearly = {"embeddings": np.eye(3, 8) + 0.1 * draw("nearly", noise=(3, 8))["noise"]}
    cases["nearly_orthogonal"] = nearly, {}
    for name, (embeddings, settings) in cases.items():

        def compute(tensors, settings=settings):
            loss = losses.GlobalOrthogonalRegularizationLoss(Columns(), **translate(settings))
            return sum(loss(batch(tensors["embeddings"])).values())

        record.add(
            f"global_orthogonal_regularization_loss-{name}",
            "global_orthogonal_regularization_loss",
            compute,
            embeddings=embeddings,
            settings=settings,
        )


if __name__ == "__main__":
    record = Recorder("in_batch")
    ranking(record, "multiple_negatives_ranking_loss", losses.MultipleNegativesRankingLoss, RANKING)
    ranking(
        record,
        "multiple_negatives_symmetric_ranking_loss",
        losses.MultipleNegativesSymmetricRankingLoss,
        SYMMETRIC,
    )
    guided(record)
    mega_batch(record)
    contrastive_tension(record)
    orthogonal(record)
    record.save()
