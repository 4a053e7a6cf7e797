"""Makes the goldens of the losses of two texts and a label or score."""

import numpy as np
import torch
from record import Columns, Recorder, batch, draw
from sentence_transformers import util
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.losses.contrastive import SiameseDistanceMetric
from torch import nn

COSINE, EUCLIDEAN, MANHATTAN = "cosine", "euclidean", "manhattan"
DISTANCES = {
    COSINE: (SiameseDistanceMetric.COSINE_DISTANCE, "paired_cosine_distance"),
    EUCLIDEAN: (
        SiameseDistanceMetric.EUCLIDEAN,
        ["paired_euclidean_distance", {"epsilon": 1e-6}],
    ),
    MANHATTAN: (
        SiameseDistanceMetric.MANHATTAN,
        ["paired_manhattan_distance", {"epsilon": 1e-6}],
    ),
}
SIMILARITIES = {
    "paired_cosine": util.pairwise_cos_sim,
    "paired_dot": util.pairwise_dot_score,
    "paired_euclidean": util.pairwise_euclidean_sim,
    "paired_manhattan": util.pairwise_manhattan_sim,
}
BINARY = [1, 0, 0, 1, 1, 0, 1, 0]
SOFT = [1.0, 0.25, 0.0, 0.5, 0.75, 0.1, 0.9, 0.0]

# name: (labels, distance, margin, mean over the rows?)
CONTRASTIVE = {
    "default": (BINARY, COSINE, 0.5, True),
    "cosine_total": (BINARY, COSINE, 1.2, False),
    "cosine_soft": (SOFT, COSINE, 1.0, True),
    "euclidean": (BINARY, EUCLIDEAN, 4.0, True),
    "euclidean_soft_total": (SOFT, EUCLIDEAN, 3.0, False),
    "euclidean_closed": (BINARY, EUCLIDEAN, 0.1, True),
    "manhattan": (BINARY, MANHATTAN, 7.0, True),
    "manhattan_soft_total": (SOFT, MANHATTAN, 6.0, False),
    "positives": ([1, 1, 1], COSINE, 0.5, True),
    "negatives": ([0, 0, 0], COSINE, 1.5, True),
    "one_row": ([0], EUCLIDEAN, 9.0, True),
}
# name: (labels, distance, margin)
ONLINE = {
    "default": (BINARY, COSINE, 0.5),
    "wide": (BINARY, COSINE, 1.7),
    "euclidean": (BINARY, EUCLIDEAN, 4.0),
    "manhattan": (BINARY, MANHATTAN, 8.0),
    "positives": ([1, 1, 1, 1], COSINE, 0.5),
    "negatives": ([0, 0, 0, 0], COSINE, 1.5),
    "one_positive_among_negatives": ([0, 0, 1, 0], EUCLIDEAN, 5.0),
    "other_labels_are_ignored": ([1, 0, 2, 1, 0, -1, 0], COSINE, 1.2),
    "one_positive": ([1], COSINE, 0.5),
    "one_negative": ([0], COSINE, 1.5),
}
# name: (library, ours)
ERRORS = {
    "squared": (nn.MSELoss(), "squared_error"),
    "absolute": (nn.L1Loss(), "absolute_error"),
    "huber": (nn.HuberLoss(), "huber_error"),
    "huber_narrow": (nn.HuberLoss(delta=0.2), ["huber_error", {"delta": 0.2}]),
    "smooth_l1": (nn.SmoothL1Loss(), "smooth_l1_error"),
    "smooth_l1_narrow": (nn.SmoothL1Loss(beta=0.2), ["smooth_l1_error", {"beta": 0.2}]),
    "cross_entropy": (nn.BCEWithLogitsLoss(), "binary_cross_entropy"),
}
TRANSFORMS = {
    "identity": nn.Identity(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "relu": nn.ReLU(),
}
# name: (scores, similarity, scale)
COSENT = {
    "default": ([0.1, 0.9, 0.4, 0.6, 0.2, 0.8], "paired_cosine", 20.0),
    "ties": ([0.5, 0.9, 0.5, 0.1, 0.9, 0.5, 0.1], "paired_cosine", 5.0),
    "integers": ([3, 1, 2, 5, 1, 3, -2], "paired_cosine", 20.0),
    "binary": ([0, 1, 1, 0, 1], "paired_cosine", 1.0),
    "booleans": ([False, True, True, False, True], "paired_cosine", 3.0),
    "equal": ([0.5, 0.5, 0.5, 0.5], "paired_cosine", 20.0),
    "one_row": ([0.5], "paired_cosine", 20.0),
    "two_rows": ([0.5, -0.5], "paired_cosine", 20.0),
    "dot": ([0.1, 0.9, 0.4, 0.6, 0.4], "paired_dot", 1.0),
    "euclidean": ([0.1, 0.9, 0.4, 0.6, 0.4], "paired_euclidean", 2.0),
    "manhattan": ([0.1, 0.9, 0.4, 0.6, 0.4], "paired_manhattan", 0.5),
    "many_rows": ([i % 7 / 7 for i in range(64)], "paired_cosine", 20.0),
}
# name: (scores or None, d, k negatives, scale)
ANGLE = {
    "even": ([0.1, 0.9, 0.4, 0.6, 0.4], 6, 0, 20.0),
    "odd": ([0.1, 0.9, 0.4, 0.6, 0.4], 5, 0, 20.0),
    "width_one": ([0.1, 0.9, 0.4], 1, 0, 1.0),
    "width_two": ([0.1, 0.9, 0.4], 2, 0, 3.0),
    "integers": ([3, 0, 1, 2, 1], 6, 0, 2.0),
    "one_row": ([0.7], 4, 0, 20.0),
    "negative": (None, 6, 1, 20.0),
    "negatives": (None, 7, 3, 4.0),
    "negatives_of_one_row": (None, 4, 2, 20.0),
    "negative_with_scores": ([0.1, 0.9, 0.4, 0.6, 0.4], 6, 1, 20.0),
    "negatives_with_scores": ([1.0, 0.75, 0.5, 1.0], 5, 2, 8.0),
}
# name: (representations, difference, product)
FEATURES = {
    "default": (True, True, False),
    "all": (True, True, True),
    "representations": (True, False, False),
    "difference": (False, True, False),
    "product": (False, False, True),
    "difference_and_product": (False, True, True),
}


def pair(name: str, n: int, d: int = 5) -> dict[str, np.ndarray]:
    """Draws pairs that are somewhat alike."""
    drawn = draw(name, left=(n, d), right=(n, d))
    return {"left": drawn["left"], "right": 0.5 * drawn["left"] + drawn["right"]}


def ascending(name: str, apart: list[float]) -> dict[str, np.ndarray]:
    """Makes pairs whose angles (in degrees) are given, of different lengths."""
    angles = np.deg2rad(apart)[:, None]
    lengths = 0.5 + np.abs(draw(name, lengths=(len(apart), 1))["lengths"])
    right = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return {"left": np.tile([[2.0, 0.0]], (len(apart), 1)), "right": lengths * right}


def contrastive(record: Recorder) -> None:
    cases = {
        name: (pair(name, len(labels)), np.array(labels), *settings)
        for name, (labels, *settings) in CONTRASTIVE.items()
    }
    integers = np.array([[1.0, 2.0, -3.0], [2.0, 0.0, 1.0], [4.0, 1.0, 1.0]])
    equal = {"left": integers, "right": integers * [[1], [1], [-1]]}
    for distance, margin in ((EUCLIDEAN, 5.0), (MANHATTAN, 6.0)):
        cases[f"equal_texts_{distance}"] = equal, np.array([1, 0, 0]), distance, margin, True
    for name, (embeddings, labels, distance, margin, average) in cases.items():
        library, ours = DISTANCES[distance]

        def compute(tensors, library=library, margin=margin, average=average):
            loss = losses.ContrastiveLoss(Columns(), library, margin, average)
            return loss(batch(tensors["left"], tensors["right"]), tensors["labels"])

        record.add(
            f"contrastive_loss-{name}",
            "contrastive_loss",
            compute,
            embeddings=embeddings,
            keywords={"labels": labels},
            settings={
                "distance_fn": ours,
                "margin": margin,
                "reduce_fn": "mean" if average else "total",
            },
        )


def online_contrastive(record: Recorder) -> None:
    cases = {
        name: (pair(name, len(labels)), labels, *settings)
        for name, (labels, *settings) in ONLINE.items()
    }
    apart = [10, 20, 30, 70, 100, 130]
    cases["separated"] = ascending("separated", apart), [1, 1, 1, 0, 0, 0], COSINE, 1.8
    cases["reversed"] = ascending("reversed", apart), [0, 0, 0, 1, 1, 1], COSINE, 0.1
    cases["overlapping"] = ascending("overlapping", apart), [1, 0, 0, 1, 1, 0], COSINE, 0.3
    for name, (embeddings, labels, distance, margin) in cases.items():
        library, ours = DISTANCES[distance]

        def compute(tensors, library=library, margin=margin):
            loss = losses.OnlineContrastiveLoss(Columns(), library, margin)
            return loss(batch(tensors["left"], tensors["right"]), tensors["labels"])

        record.add(
            f"online_contrastive_loss-{name}",
            "online_contrastive_loss",
            compute,
            embeddings=embeddings,
            keywords={"labels": np.array(labels)},
            settings={"distance_fn": ours, "margin": margin},
        )


def cosine_similarity(record: Recorder) -> None:
    cases = {name: (name, "identity") for name in ERRORS}
    cases |= {
        f"{error}-{transform}": (error, transform)
        for transform in TRANSFORMS
        if transform != "identity"
        for error in ("squared", "cross_entropy")
    }
    for name, (error, transform) in cases.items():
        library, ours = ERRORS[error]

        def compute(tensors, library=library, transform=transform):
            loss = losses.CosineSimilarityLoss(Columns(), library, TRANSFORMS[transform])
            return loss(batch(tensors["left"], tensors["right"]), tensors["scores"])

        scores = np.linspace(0, 1, 7) if error == "cross_entropy" else np.linspace(-1, 1, 7)
        record.add(
            f"cosine_similarity_loss-{name}",
            "cosine_similarity_loss",
            compute,
            embeddings=pair(name, 7),
            keywords={"scores": scores},
            settings={"loss_fn": ours, "score_transform": transform},
        )


def cosent(record: Recorder) -> None:
    for name, (scores, similarity, scale) in COSENT.items():

        def compute(tensors, similarity=similarity, scale=scale):
            loss = losses.CoSENTLoss(Columns(), scale, SIMILARITIES[similarity])
            return loss(batch(tensors["left"], tensors["right"]), tensors["scores"])

        record.add(
            f"cosent_loss-{name}",
            "cosent_loss",
            compute,
            embeddings=pair(name, len(scores)),
            keywords={"scores": np.array(scores)},
            settings={"similarity_fn": similarity, "scale": scale},
        )


def angle(record: Recorder) -> None:
    for name, (scores, d, k, scale) in ANGLE.items():
        n = len(scores) if scores else 1 if "one_row" in name else 4
        embeddings = pair(name, n, d)
        if k:
            embeddings |= draw(name + "-negatives", negatives=(n, k, d))

        def compute(tensors, names=tuple(embeddings), scale=scale):
            loss = losses.AnglELoss(Columns(), scale)
            return loss(batch(*(tensors[key] for key in names)), tensors.get("scores"))

        record.add(
            f"angle_loss-{name}",
            "angle_loss",
            compute,
            embeddings=embeddings,
            keywords={"scores": np.array(scores)} if scores else {},
            settings={"scale": scale},
        )


def classification(record: Recorder) -> None:
    n, d, classes = 6, 4, 3
    cases = {name: (pair(name, n, d), *parts) for name, parts in FEATURES.items()}
    left = np.array([[1.0, 2.0, -3.0, 1.0], [2.0, 0.0, 1.0, -1.0]])
    equal = {"left": left, "right": np.add(left, [[0, 0, 0, 0], [0, 1, 0, -2]])}
    cases["equal_texts"] = equal, True, True, True
    for name, (embeddings, *parts) in cases.items():
        settings = {
            "concatenation_sent_rep": parts[0],
            "concatenation_sent_difference": parts[1],
            "concatenation_sent_multiplication": parts[2],
        }
        width = d * (2 * parts[0] + parts[1] + parts[2])

        def compute(tensors, settings=settings):
            model = Columns()
            model.device = None
            loss = losses.SoftmaxLoss(model, d, classes, **settings)
            classifier = {f"classifier.{key}": tensors[key] for key in ("weight", "bias")}
            columns = batch(tensors["left"], tensors["right"])
            return torch.func.functional_call(loss, classifier, (columns, tensors["labels"]))

        record.add(
            f"softmax_loss-{name}",
            "pair_classification",
            compute,
            embeddings=embeddings,
            keywords={"labels": np.arange(len(embeddings["left"])) % classes},
            parameters=draw(name, weight=(classes, width), bias=(classes,)),
            settings=settings,
        )


if __name__ == "__main__":
    record = Recorder("pairs")
    contrastive(record)
    online_contrastive(record)
    cosine_similarity(record)
    cosent(record)
    angle(record)
    classification(record)
    record.save()
