"""Makes the goldens of the triplet loss and of the losses that mine triplets in a batch."""

import numpy as np
from record import Arrays, Columns, Recorder, batch, draw
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.losses.triplet import TripletDistanceMetric

METRICS = {
    "paired_euclidean_distance": TripletDistanceMetric.EUCLIDEAN,
    "paired_manhattan_distance": TripletDistanceMetric.MANHATTAN,
    "paired_cosine_distance": TripletDistanceMetric.COSINE,
}
# name: (n, d, margin, metric)
TRIPLETS = {
    "default": (6, 5, 5.0, "paired_euclidean_distance"),
    "euclidean": (8, 5, 0.5, "paired_euclidean_distance"),
    "manhattan": (7, 4, 1.0, "paired_manhattan_distance"),
    "manhattan_wide": (7, 4, 9.0, "paired_manhattan_distance"),
    "cosine": (8, 6, 0.2, "paired_cosine_distance"),
    "cosine_wide": (8, 6, 2.5, "paired_cosine_distance"),
    "no_margin": (8, 5, 0.0, "paired_euclidean_distance"),
    "one_row": (1, 3, 4.0, "paired_euclidean_distance"),
    "many_rows": (64, 4, 1.0, "paired_euclidean_distance"),
}

MINING = {
    "batch_hard_triplet_loss": losses.BatchHardTripletLoss,
    "batch_semi_hard_triplet_loss": losses.BatchSemiHardTripletLoss,
    "batch_all_triplet_loss": losses.BatchAllTripletLoss,
    "batch_hard_soft_margin_triplet_loss": losses.BatchHardSoftMarginTripletLoss,
}
DISTANCES = {
    "euclidean_distance": losses.BatchHardTripletLossDistanceFunction.euclidean_distance,
    "cosine_distance": losses.BatchHardTripletLossDistanceFunction.cosine_distance,
}
# name: (labels, margins with Euclidean distances, margins with cosine distances)
LABELS = {
    "four_classes": ([0, 1, 1, 2, 0, 3, 2, 3], [0.1, 0.5, 5.0], [0.1, 0.5, 5.0]),
    "two_classes": ([9, -1, 9, -1, -1, 9, 9], [0.5], []),
    "singletons": ([4, 4, 4, 1, 2, 3, 3], [0.1, 5.0], [0.5]),
    "all_distinct": ([3, 2, 0, 1, 4], [0.5, 5.0], []),
    "one_class": ([2, 2, 2, 2], [0.5], [0.5]),
    "one_row": ([7], [0.5], [0.5]),
    "two_rows_of_one_class": ([1, 1], [0.5], []),
    "two_rows_of_two_classes": ([0, 1], [5.0], []),
    "many_rows": ([i * i % 16 for i in range(64)], [0.5], []),
}
# Integers, so that equal rows have distance 0 and equal distances are equal to the last digit.
# name: (embeddings, labels, margins)
INTEGERS = {
    "duplicates_in_a_class": (
        [[1, 2], [1, 2], [4, 6], [4, 6], [-2, 3], [-2, 3]],
        [0, 0, 1, 1, 2, 2],
        [0.5, 5.0],
    ),
    "duplicates_across_classes": (
        [[1, 2], [4, 6], [1, 2], [4, 6], [-3, 1], [1, 2]],
        [0, 0, 1, 1, 1, 2],
        [0.5, 5.0],
    ),
    "equal_distances": (
        [[1, 1], [3, 1], [1, 3], [3, 3], [5, 1], [1, 5]],
        [0, 0, 0, 1, 1, 1],
        [0.5, 4.0],
    ),
    "all_equal": ([[1, 2, 3]] * 4, [0, 0, 1, 1], [0.5]),
    "all_equal_in_one_class": ([[1, 2, 3]] * 3, [0, 0, 0], [0.5]),
    # A hinge that is exactly at 0, where batch-hard and batch-all have slope 1, semi-hard a half.
    "at_the_hinge": ([[1, 1], [3, 1], [6, 1], [8, 1]], [0, 0, 1, 1], [3.0]),
    "at_the_hinge_of_the_hardest": ([[1, 1], [4, 1], [8, 1], [9, 1]], [0, 0, 1, 1], [1.0]),
}
# No triplet is above 0 here, and the class divides the gradient of one at 0 by 1e-16.
NOTHING_TO_DIVIDE_BY = ("batch_all_triplet_loss", "at_the_hinge_of_the_hardest")


def triplets(record: Recorder) -> None:
    cases: dict[str, tuple[Arrays, float, str]] = {}
    for name, (n, d, margin, metric) in TRIPLETS.items():
        shapes = dict.fromkeys(("anchors", "positives", "negatives"), (n, d))
        cases[name] = draw(name, **shapes), margin, metric
    # Rows: positive equals anchor, negative equals anchor, both do, single coordinates do.
    rows = {
        "anchors": [[1, 2, 3], [2, 1, -1], [1, 1, 1], [3, 2, 1]],
        "positives": [[1, 2, 3], [0, 1, 1], [1, 1, 1], [3, 2, 4]],
        "negatives": [[2, 2, 2], [2, 1, -1], [1, 1, 1], [3, 3, 1]],
    }
    equal = {key: np.array(value, float) for key, value in rows.items()}
    cases |= {f"equal_rows-{metric}": (equal, 1.5, metric) for metric in METRICS}
    hinge = {"anchors": [[1, 1]], "positives": [[3, 2]], "negatives": [[4, 3]]}
    cases["at_the_hinge"] = (
        {key: np.array(value, float) for key, value in hinge.items()},
        2.0,
        "paired_manhattan_distance",
    )
    for name, (embeddings, margin, metric) in cases.items():

        def compute(tensors, margin=margin, metric=metric):
            loss = losses.TripletLoss(Columns(), METRICS[metric], margin)
            return loss(batch(*tensors.values()), None)

        record.add(
            f"triplet_loss-{name}",
            "triplet_loss",
            compute,
            embeddings=embeddings,
            settings={"distance_fn": metric, "margin": margin},
        )


def mined(record: Recorder) -> None:
    cases = []
    for name, (labels, *all_margins) in LABELS.items():
        rows = draw(name, rows=(len(labels), 4))["rows"]
        for distance, margins in zip(DISTANCES, all_margins, strict=True):
            cases.append((f"{name}-{distance.split('_')[0]}", rows, labels, distance, margins))
    cases += [
        (name, np.array(embeddings, float), labels, "euclidean_distance", margins)
        for name, (embeddings, labels, margins) in INTEGERS.items()
    ]
    for loss, library in MINING.items():
        for name, embeddings, labels, distance, margins in cases:
            if (loss, name) == NOTHING_TO_DIVIDE_BY:
                continue
            settings = [{"distance_fn": distance, "margin": margin} for margin in margins]
            if loss == "batch_hard_soft_margin_triplet_loss":
                settings = [{"distance_fn": distance}] if margins else []
            for setting in settings:

                def compute(tensors, library=library, setting=setting):
                    choices = {"distance_metric": DISTANCES[setting["distance_fn"]], **setting}
                    del choices["distance_fn"]
                    columns = batch(tensors["embeddings"])
                    return library(Columns(), **choices)(columns, tensors["labels"])

                margin = f"-{setting['margin']}" if "margin" in setting else ""
                record.add(
                    f"{loss}-{name}{margin}",
                    loss,
                    compute,
                    embeddings={"embeddings": embeddings},
                    keywords={"labels": np.array(labels)},
                    settings=setting,
                )


if __name__ == "__main__":
    record = Recorder("triplets")
    triplets(record)
    mined(record)
    record.save()
