"""Whether embeddings fall into clusters that are the classes of their texts."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from jaxembed.evaluators.checking import check_column, check_texts
from jaxembed.evaluators.protocols import EmbedFn, embed_texts

Label = str | int
BATCH = 500  # texts that a step of k-means looks at, as in MTEB


@dataclass(frozen=True, eq=False, repr=False)
class ClusteringEvaluator:
    """Clusters the embeddings by k-means and compares the clusters with the labels.

    Gives `v_measure`, the harmonic mean of how far a cluster holds one label only and how far the
    texts of a label lie in one cluster. The clusters are those of scikit-learn's
    `MiniBatchKMeans`, as many as there are labels, with the settings of MTEB (whose seed is 42).

    Args:
        texts: Texts.
        labels: The class of each text: all strings or all integers.
        seed: Of the first centres.

    Raises:
        ValueError: scikit-learn is missing, the lengths differ or are 0, a text or a label is none,
            all labels are equal, or no two are.

    Source: Rosenberg and Hirschberg, "V-Measure: A Conditional Entropy-Based External Cluster
    Evaluation Measure", 2007. As a benchmark: Muennighoff et al., "MTEB: Massive Text Embedding
    Benchmark", 2023.

    >>> evaluator = ClusteringEvaluator(["ox", "ant", "elephant"], ["short", "short", "long"])
    >>> evaluator.evaluate(lambda texts, *, role: np.array([[len(text)] for text in texts]))
    {'v_measure': 1.0}
    """

    texts: Sequence[str]
    labels: Sequence[Label]
    seed: int = 0

    def __post_init__(self) -> None:
        check_scikit_learn("clustering")
        check_texts(texts=self.texts)
        check_labels("labels", self.labels, len(self.texts))
        if len(set(self.labels)) == len(self.labels):
            raise ValueError("no two texts have the same label: nothing to find together")

    @property
    def main_metric(self) -> str:
        """The name of the metric that ranks models."""
        return "v_measure"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Embeds all texts in one call (role None); returns `{"v_measure": …}`."""
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.metrics import v_measure_score

        embeddings = embed_texts(embed, list(self.texts), role=None).astype(np.float32, copy=False)
        n_clusters = len(set(self.labels))
        means = MiniBatchKMeans(n_clusters, batch_size=BATCH, n_init="auto", random_state=self.seed)
        clusters = means.fit_predict(embeddings)
        return {"v_measure": float(v_measure_score(np.asarray(self.labels), clusters))}


def check_scikit_learn(purpose: str) -> None:
    """Refuses to go on where the optional library is not installed."""
    if importlib.util.find_spec("sklearn") is None:
        raise ValueError(f'{purpose} needs scikit-learn: pip install "jaxembed[evaluation]"')


def check_labels(name: str, labels: Sequence[Label], n_texts: int) -> None:
    """Refuses labels that are not one for each text, not of one kind, or all equal."""
    check_column(name, labels, "labels")
    if len(labels) != n_texts:
        raise ValueError(f"every text needs one of {name}, got {len(labels)} for {n_texts} texts")
    kind = str if isinstance(labels[0], str) else Integral
    for row, label in enumerate(labels):
        if not isinstance(label, kind):
            raise ValueError(
                f"{name} must be all strings or all integers, but label {row} is {label!r}"
            )
    if all(label == labels[0] for label in labels):
        raise ValueError(f"all {name} are {labels[0]!r}: nothing to tell apart")
