"""Writes what mteb's tasks of clustering and classification say about stored vectors.

Run from the root of the repository in an environment with mteb 2:

    python tests/goldens/evaluators/make_probes.py

The tests read `probes.npz` and `probes.json`; they need no mteb.
"""

import json
from importlib.metadata import version
from pathlib import Path

import datasets
import mteb
import numpy as np
from mteb.abstasks import AbsTaskClassification, AbsTaskClusteringLegacy
from mteb.abstasks.task_metadata import TaskMetadata

FOLDER = Path(__file__).parent
N, D = 240, 16  # texts, of which the last 100 are for tests


def metadata(name, kind, score):
    return TaskMetadata(
        name=name,
        type=kind,
        main_score=score,
        dataset={"path": "local/vectors", "revision": "1"},
        description="Random vectors.",
        category="t2c",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        date=("2026-01-01", "2026-01-02"),
        domains=["Written"],
        task_subtypes=[],
        license="mit",
        annotations_creators="derived",
        dialect=[],
        sample_creation="found",
        bibtex_citation="",
        reference=None,
    )


class StoredVectors:
    """What mteb asks of a model: the text `t7` is vector 7."""

    def __init__(self, vectors):
        self.vectors = vectors
        self.mteb_model_meta = mteb.models.model_meta.ModelMeta.create_empty(
            {"name": "local/vectors", "revision": "1"}
        )

    def encode(self, inputs, **ignored):
        rows = [int(text[1:]) for batch in inputs for text in batch["text"]]
        return self.vectors[rows]

    def similarity(self, left, right):
        return left @ right.T

    def similarity_pairwise(self, left, right):
        return np.sum(left * right, axis=1)


class Clusters(AbsTaskClusteringLegacy):
    metadata = metadata("Clusters", "Clustering", "v_measure")

    def load_data(self, **ignored):
        columns = {"sentences": [named(range(N))], "labels": [LABELS["noisy"].tolist()]}
        self.dataset = {"test": datasets.Dataset.from_dict(columns)}
        self.data_loaded = True


class Classes(AbsTaskClassification):
    metadata = metadata("Classes", "Classification", "accuracy")

    def load_data(self, **ignored):
        parts = {"train": range(N - 100), "test": range(N - 100, N)}
        columns = {
            name: {"text": named(part), "label": LABELS["near"][part].tolist()}
            for name, part in parts.items()
        }
        tables = {name: datasets.Dataset.from_dict(column) for name, column in columns.items()}
        self.dataset = datasets.DatasetDict(tables)
        self.data_loaded = True


def named(rows):
    return [f"t{row}" for row in rows]


def main():
    rng = np.random.default_rng(0)
    groups = rng.choice(5, N, p=[0.35, 0.25, 0.2, 0.15, 0.05])
    far = 6 * rng.normal(size=(5, D))[groups] + rng.normal(size=(N, D))
    wrong = rng.random(N) < 0.2
    LABELS["noisy"] = np.where(wrong, rng.integers(0, 5, N), groups)
    near = 0.5 * rng.normal(size=(5, D))[groups] + rng.normal(size=(N, D))
    LABELS["near"] = groups
    expected = {"mteb": version("mteb"), "scikit-learn": version("scikit-learn")}
    vectors = {"clusters": far.astype(np.float32), "classes": near.astype(np.float32)}
    for task in (Clusters(), Classes()):
        name = task.metadata.name.lower()
        model = StoredVectors(vectors[name])
        found = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
        scores = found.task_results[0].scores["test"][0]
        names = ("v_measure", "accuracy", "f1")
        expected[name] = {metric: scores[metric] for metric in names if metric in scores}
    np.savez_compressed(
        FOLDER / "probes.npz", **vectors, noisy=LABELS["noisy"], near=LABELS["near"]
    )
    (FOLDER / "probes.json").write_text(json.dumps(expected, indent=1, default=float) + "\n")


LABELS = {}

if __name__ == "__main__":
    main()
