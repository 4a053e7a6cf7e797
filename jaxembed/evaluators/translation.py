"""How well texts find their translations among all translations (bitext mining)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jaxembed.evaluators.checking import check_texts
from jaxembed.evaluators.protocols import EmbedFn, embed_texts
from jaxembed.search import top_k_search


@dataclass(frozen=True, eq=False, repr=False)
class TranslationEvaluator:
    """Takes the most similar target by cosine for the translation of a source, and vice versa.

    Gives `source_to_target_accuracy` and `target_to_source_accuracy`, the shares found, and
    `mean_accuracy`, as sentence-transformers' `TranslationEvaluator` does: where a text repeats,
    any copy of it is right. `f1` is that of MTEB's bitext mining, from source to target: of equal
    targets only that of the same row is right, and a target taken for many sources counts less.

    Only the blocks of `top_k_search` meet: no matrix of all similarities is held.

    Args:
        source: Texts.
        target: Their translations, one for each of `source`.

    Raises:
        ValueError: The lengths differ or are 0, or a text is none.

    Source: Artetxe and Schwenk, "Massively Multilingual Sentence Embeddings for Zero-Shot
    Cross-Lingual Transfer and Beyond", 2019. The F1: Muennighoff et al., "MTEB: Massive Text
    Embedding Benchmark", 2023.

    >>> evaluator = TranslationEvaluator(["cat", "giraffe"], ["gato", "jirafa"])
    >>> def embed(texts, *, role):  # short and long words
    ...     return np.array([[len(text) < 5, len(text) >= 5] for text in texts], np.float32)
    >>> evaluator.evaluate(embed)["mean_accuracy"]
    1.0
    """

    source: Sequence[str]
    target: Sequence[str]

    def __post_init__(self) -> None:
        check_texts(source=self.source, target=self.target)

    @property
    def main_metric(self) -> str:
        """The name of the metric that ranks models."""
        return "mean_accuracy"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Embeds all texts in one call (role None); returns `{"mean_accuracy": …, "f1": …, …}`."""
        embeddings = embed_texts(embed, [*self.source, *self.target], role=None)
        source, target = np.split(embeddings, 2)
        targets = top_k_search(source, target, k=1)[1][:, 0]
        sources = top_k_search(target, source, k=1)[1][:, 0]
        forward = share_found(self.target, targets)
        backward = share_found(self.source, sources)
        return {
            "source_to_target_accuracy": forward,
            "target_to_source_accuracy": backward,
            "mean_accuracy": (forward + backward) / 2,
            "f1": mean_f1(targets),
        }


def share_found(texts: Sequence[str], found: Int[np.ndarray, " n"]) -> float:
    """Computes the share of rows that found the text of their own row, or a copy of it."""
    texts = list(texts)
    return float(np.mean([texts[index] == own for own, index in zip(texts, found, strict=True)]))


def mean_f1(found: Int[np.ndarray, " n"]) -> float:
    """Computes the mean of the F1 of each row as a class: `2 hits / (1 + times found)`.

    >>> mean_f1(np.array([0, 0, 2]))  # 2/3, 0 and 1
    0.555...
    """
    times_found = np.bincount(found, minlength=len(found))
    return float(np.mean(2 * (found == np.arange(len(found))) / (1 + times_found)))
