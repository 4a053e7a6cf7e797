"""How well similarity sorts a query's own short list of documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from jaxembed.evaluators.checking import (
    check_column,
    check_mapping,
    check_similarities,
    check_texts,
    is_count,
)
from jaxembed.evaluators.pairs import embed_distinct, pair_scores
from jaxembed.evaluators.protocols import EmbedFn
from jaxembed.metrics.binary import average_precision
from jaxembed.metrics.ranking import ndcg_at, reciprocal_rank_at
from jaxembed.search import Similarity


@dataclass(frozen=True, eq=False, repr=False)
class RerankingEvaluator:
    """Sorts the documents of each sample by their similarity to its query.

    Gives the means over the samples of the average precision `map`, `mrr@k` and `ndcg@k`, as
    sentence-transformers' `RerankingEvaluator` does. Equally similar documents share a rank in
    `map` and their gains in `ndcg@k`, but positives stand first in `mrr@k`, as there in lists of up
    to 16 documents: a model that embeds all texts alike has the `mrr@k` 1.

    A query meets its own documents only, a block of pairs at a time (`pair_scores`): no matrix of
    all similarities is held, and one program serves lists of all lengths.

    Args:
        samples: Each maps `"query"` to a text, and `"positive"` and `"negative"` to texts (or to
            one), the relevant documents and the others. Further keys are ignored.
        k: The rank at which the list is cut off; more than a list has is allowed.
        similarity: "cosine", "dot", or the negative distance "euclidean" or "manhattan".

    Raises:
        ValueError: No samples, one that lacks a key, a positive or a negative, a text that is none,
            a k below 1, or an unknown similarity.

    Source: Liu et al., "LinkSO: A Dataset for Learning to Retrieve Similar Question Answer Pairs on
    Software Development Forums", 2018. Ties in nDCG: McSherry and Najork, "Computing Information
    Retrieval Performance Measures Efficiently in the Presence of Tied Scores", 2008.

    >>> samples = [{"query": "ox", "positive": ["cat"], "negative": ["giraffe", "elephant"]}]
    >>> def embed(texts, *, role):  # short and long words
    ...     return np.array([[len(text) < 4, len(text) >= 4] for text in texts], np.float32)
    >>> RerankingEvaluator(samples).evaluate(embed)
    {'map': 1.0, 'mrr@10': 1.0, 'ndcg@10': 1.0}
    """

    samples: Sequence[Mapping[str, Any]]
    k: int = 10
    similarity: Similarity = "cosine"

    def __post_init__(self) -> None:
        check_column("samples", self.samples, "dicts of query, positive and negative")
        if len(self.samples) == 0:
            raise ValueError("reranking needs at least one sample, got none")
        if not is_count(self.k):
            raise ValueError(f"k must be a rank of 1 or more, got {self.k!r}")
        check_similarities([self.similarity])
        for row, sample in enumerate(self.samples):
            check_mapping(f"sample {row}", sample, "query, positive and negative to texts")
            for key in ("query", "positive", "negative"):
                if sample.get(key) is None:
                    raise ValueError(f"sample {row} has no {key!r}: it has {list(sample)}")
            if not isinstance(sample["query"], str):
                raise ValueError(f"the query of sample {row} is {sample['query']!r}, not a text")
            for key in ("positive", "negative"):
                if not isinstance(sample[key], str):
                    check_column(f"the {key} of sample {row}", sample[key], "texts")
                texts = texts_of(sample, key)
                if len(texts) == 0:
                    raise ValueError(f"sample {row} has no {key} document: drop it")
                check_texts(**{f"{key} documents of sample {row}": texts})

    @property
    def main_metric(self) -> str:
        """The name of the metric that ranks models."""
        return f"ndcg@{self.k}"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Embeds each text once in its role; returns `{"map": …, "mrr@10": …, "ndcg@10": …}`."""
        lists = [texts_of(sample, "positive", "negative") for sample in self.samples]
        lengths = [len(texts) for texts in lists]
        asked, rows = embed_distinct(
            embed, (sample["query"] for sample in self.samples), role="query"
        )
        documents, columns = embed_distinct(embed, chain.from_iterable(lists), role="document")
        scores = pair_scores(
            asked, documents, np.repeat(rows, lengths), columns, similarity=self.similarity
        )
        precisions, *judged = self.judge(np.split(scores, np.cumsum(lengths)[:-1]))
        mrr, ndcg = jax.device_get(means(*jax.device_put(judged), k=self.k))
        return {
            "map": float(np.mean(precisions)),
            f"mrr@{self.k}": float(mrr),
            f"ndcg@{self.k}": float(ndcg),
        }

    def judge(
        self, scores: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Sorts each list: precisions `[n]`, and what is relevant, gained and ideal `[n k]`."""
        shape = len(self.samples), self.k
        precisions, n_positive = np.zeros(len(self.samples)), np.zeros(len(self.samples), int)
        relevant, gains = np.zeros(shape, bool), np.zeros(shape, np.float32)
        for row, (sample, found) in enumerate(zip(self.samples, scores, strict=True)):
            n_positive[row] = len(texts_of(sample, "positive"))
            labels = np.arange(len(found)) < n_positive[row]
            precisions[row] = average_precision(found, labels)
            best = np.argsort(-found, kind="stable")[: self.k]
            relevant[row, : len(best)] = labels[best]
            gains[row, : len(best)] = shared(labels, found)[best]
        return precisions, relevant, gains, np.arange(self.k) < n_positive[:, None]


def texts_of(sample: Mapping[str, Any], *keys: str) -> list[str]:
    """Lists the texts of all keys, where one text may stand for a list of one."""
    columns = [sample[key] for key in keys]
    columns = [[column] if isinstance(column, str) else column for column in columns]
    return list(chain.from_iterable(columns))


def shared(
    labels: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Computes the mean label of all documents with the score of each.

    >>> shared(np.array([True, False, False]), np.array([0.5, 0.5, 0.1]))
    array([0.5, 0.5, 0. ])
    """
    groups = np.unique(scores, return_inverse=True)[1]
    return (np.bincount(groups, labels) / np.bincount(groups))[groups]


@partial(jax.jit, static_argnames="k")
def means(
    relevant: Bool[Array, "n k"], gains: Float[Array, "n k"], ideal: Bool[Array, "n k"], *, k: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Computes MRR and nDCG at k."""
    return jnp.mean(reciprocal_rank_at(relevant, k=k)), jnp.mean(ndcg_at(gains, ideal, k=k))
