"""Pictures of an evaluation: similarities of what belongs together, and metrics by dimension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxembed.evaluators import (
    BinaryClassificationEvaluator,
    EmbedFn,
    Evaluator,
    RerankingEvaluator,
    RetrievalEvaluator,
    SimilarityEvaluator,
    TripletEvaluator,
)

MOST = 5000  # pairs of each kind that are drawn


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs of texts, and whether they belong together."""

    left: list[str]
    right: list[str]
    belong: np.ndarray
    roles: tuple[Any, Any] = (None, None)


def labelled_pairs(evaluator: Evaluator, seed: int = 0) -> LabelledPairs | None:
    """Returns pairs that belong together and pairs that do not, of evaluators that know such.

    Of retrieval, the pairs that do not are a query and a random document; of scored pairs, they
    are those below the middle of the scores.
    """
    if isinstance(evaluator, RetrievalEvaluator):
        return _of_retrieval(evaluator, np.random.default_rng(seed))
    if isinstance(evaluator, BinaryClassificationEvaluator):
        belong = np.asarray(evaluator.labels, bool)
        return _thinned(LabelledPairs(list(evaluator.left), list(evaluator.right), belong))
    if isinstance(evaluator, SimilarityEvaluator):
        scores = np.asarray(evaluator.scores)
        belong = scores > (scores.min() + scores.max()) / 2
        return _thinned(LabelledPairs(list(evaluator.left), list(evaluator.right), belong))
    if isinstance(evaluator, TripletEvaluator):
        anchors = [*evaluator.anchors, *evaluator.anchors]
        others = [*evaluator.positives, *evaluator.negatives]
        belong = np.arange(len(anchors)) < len(evaluator.anchors)
        return _thinned(LabelledPairs(anchors, others, belong))
    if isinstance(evaluator, RerankingEvaluator):
        rows = [
            (sample["query"], text, name == "positive")
            for sample in evaluator.samples
            for name in ("positive", "negative")
            for text in sample[name]
        ]
        left, right, belong = zip(*rows, strict=True)
        pairs = LabelledPairs(list(left), list(right), np.asarray(belong), ("query", "document"))
        return _thinned(pairs)
    return None


def plot_scores(pairs: Mapping[str, LabelledPairs], embed: EmbedFn, folder: Path) -> Path | None:
    """Draws histograms of the cosines of pairs that belong together and of those that do not."""
    if not pairs:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6 * len(pairs)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(pairs), 1, squeeze=False)[:, 0]
    for panel, (name, each) in zip(panels, pairs.items(), strict=True):
        left = _unit(embed(each.left, role=each.roles[0]))
        right = _unit(embed(each.right, role=each.roles[1]))
        cosines = np.sum(left * right, axis=1)
        bins = np.linspace(cosines.min(), cosines.max(), 60).tolist()
        for kind, color, label in ((True, "C0", "belong together"), (False, "C1", "do not")):
            values = cosines[each.belong == kind]
            if len(values):
                panel.hist(
                    values,
                    bins=bins,
                    density=True,
                    alpha=0.6,
                    color=color,
                    label=f"{label}: {len(values):,}, mean {values.mean():.2f}",
                )
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_xlabel("cosine")
        panel.set_yticks([])
        panel.legend(frameon=False)
        panel.spines[["top", "right", "left"]].set_visible(False)
    file = folder / "scores.png"
    figure.savefig(file, dpi=150)
    return file


def plot_dims(
    values: Mapping[str, float], metrics: list[str], dimension: int, folder: Path
) -> Path | None:
    """Draws metrics by the number of features, if they were measured at several."""
    curves: dict[str, dict[int, float]] = {}
    for name in metrics:
        metric, found, dim = name.partition("_dim_")
        if found:
            curves.setdefault(metric, {})[int(dim)] = values[name]
    if not curves:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for metric, by_dim in curves.items():
        points = sorted({dimension: values[metric], **by_dim}.items())
        panel.plot(*zip(*points, strict=True), "o-", label=metric)
    panel.set_xscale("log", base=2)
    ticks = sorted({dimension, *(dim for by_dim in curves.values() for dim in by_dim)})
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("features")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    file = folder / "dims.png"
    figure.savefig(file, dpi=150)
    return file


def _of_retrieval(evaluator: RetrievalEvaluator, rng: np.random.Generator) -> LabelledPairs:
    documents = list(evaluator.corpus)
    left, right, belong = [], [], []
    queries = list(evaluator.queries)
    for query in queries[:: max(1, len(queries) // MOST)]:
        relevant = [name for name, score in evaluator.qrels[query].items() if score > 0]
        other = documents[int(rng.integers(len(documents)))]
        for document in (relevant[0], *([] if other in relevant else [other])):
            left.append(evaluator.queries[query])
            right.append(evaluator.corpus[document])
            belong.append(document in relevant)
    return LabelledPairs(left, right, np.asarray(belong), ("query", "document"))


def _thinned(pairs: LabelledPairs) -> LabelledPairs:
    """Leaves evenly spaced pairs where there are too many."""
    kept = range(0, len(pairs.left), max(1, len(pairs.left) // (2 * MOST)))
    left, right = ([texts[i] for i in kept] for texts in (pairs.left, pairs.right))
    return LabelledPairs(left, right, pairs.belong[list(kept)], pairs.roles)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
