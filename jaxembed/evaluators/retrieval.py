"""How well queries find their relevant documents in a corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from jaxembed.data.beir import Source, read_beir, read_beir_folder
from jaxembed.evaluators.checking import check_mapping, check_texts_by_id, is_count
from jaxembed.evaluators.protocols import EmbedFn, embed_texts
from jaxembed.metrics import (
    accuracy_at,
    average_precision_at,
    ndcg_at,
    precision_at,
    recall_at,
    reciprocal_rank_at,
)
from jaxembed.search import Similarity, check_similarity, top_k_search

NAMES = ("accuracy", "precision", "recall", "mrr", "ndcg", "map")


@dataclass(frozen=True, eq=False, repr=False)
class RetrievalEvaluator:
    """Ranks the corpus for every query and measures the ranking.

    Gives `accuracy@k`, `precision@k`, `recall@k`, `mrr@k`, `ndcg@k` and `map@k` for every k of
    `ks`: means over the queries of what `jaxembed.metrics` defines. A document is relevant if its
    score is above 0. nDCG takes the score as the gain, as BEIR and trec_eval do; where all scores
    are 1 it equals that of sentence-transformers' `InformationRetrievalEvaluator`, and the others
    always do. Documents of equal similarity rank in the order of the corpus.

    Args:
        corpus: Document id to text.
        queries: Query id to text.
        qrels: Query id to {document id: score}. Every query needs a relevant document.
        ks: The ranks at which the list is cut off; more than the corpus has is allowed.
        similarity: "cosine", "dot", or the negative distance "euclidean" or "manhattan".
        exclude_same_id: A query never finds the document of its own id, as in BEIR and MTEB: in
            ArguAna it is that document. Else, as in sentence-transformers' evaluator, it is one
            like any other.

    Raises:
        ValueError: No documents or queries, an id in `qrels` that does not exist, a query without
            a relevant document (that it may find), a k below 1, or an unknown similarity.

    Source: Thakur et al., "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of Information
    Retrieval Models", 2021.

    >>> evaluator = RetrievalEvaluator(
    ...     corpus={"d1": "cat", "d2": "giraffe"}, queries={"q": "ox"}, qrels={"q": {"d1": 1}}
    ... )
    >>> def embed(texts, *, role):  # short and long words
    ...     return np.array([[len(text) < 4, len(text) >= 4] for text in texts], np.float32)
    >>> evaluator.evaluate(embed)["ndcg@1"]
    1.0
    """

    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, float]]
    ks: Sequence[int] = (1, 3, 5, 10, 100)
    similarity: Similarity = "cosine"
    exclude_same_id: bool = False

    def __post_init__(self) -> None:
        check_texts_by_id("corpus", self.corpus)
        check_texts_by_id("queries", self.queries)
        if not self.corpus or not self.queries:
            raise ValueError(
                f"retrieval needs documents and queries, "
                f"got {len(self.corpus)} documents and {len(self.queries)} queries"
            )
        numbers = [] if isinstance(self.ks, str) or not hasattr(self.ks, "__len__") else self.ks
        if len(numbers) == 0 or not all(map(is_count, numbers)):
            raise ValueError(f"ks must be ranks of 1 or more, such as (1, 10), got {self.ks!r}")
        check_similarity(self.similarity)
        if not isinstance(self.exclude_same_id, bool):
            raise ValueError(f"exclude_same_id must be True or False, got {self.exclude_same_id!r}")
        self.check_qrels()

    def check_qrels(self) -> None:
        """Refuses judgements of what is not there, and queries without a relevant document."""
        check_mapping("qrels", self.qrels, "query ids to scores by document, {'q1': {'d1': 1}}")
        for query, judged in self.qrels.items():
            if query not in self.queries:
                raise ValueError(f"qrels judge the query {query!r}, which is not in queries")
            check_judged(query, judged)
            for document in judged:
                if document not in self.corpus:
                    raise ValueError(
                        f"qrels of the query {query!r} name the document {document!r}, "
                        f"which is not in the corpus: add it or drop the judgement"
                    )
        for query in self.queries:
            relevant = {name for name, score in self.qrels.get(query, {}).items() if score > 0}
            if not relevant:
                raise ValueError(f"the query {query!r} has no relevant document: drop it")
            if self.exclude_same_id and relevant == {query}:
                raise ValueError(
                    f"the query {query!r} has no relevant document but that of its own id: drop it"
                )

    @classmethod
    def from_beir(
        cls, corpus: Source, queries: Source, qrels: Source, **options: Any
    ) -> RetrievalEvaluator:
        """Builds the evaluator from three tables, or paths of files: see `read_beir`.

        Queries without a relevant document are omitted. `options` are `ks`, `similarity` and
        `exclude_same_id`.
        """
        documents, texts, judgements = read_beir(corpus, queries, qrels)
        return cls(documents, texts, judgements, **options)

    @classmethod
    def from_folder(
        cls, folder: str | Path, *, split: str = "test", **options: Any
    ) -> RetrievalEvaluator:
        """Builds the evaluator from a folder of BEIR: see `read_beir_folder`."""
        return cls(*read_beir_folder(folder, split), **options)

    @property
    def main_metric(self) -> str:
        """The name of the metric that ranks models: nDCG at 10, or at the last of `ks`."""
        return f"ndcg@{10 if 10 in self.ks else max(self.ks)}"

    @property
    def n_same_ids(self) -> int:
        """The number of queries that have the id of a document."""
        return len(self.queries.keys() & self.corpus.keys())

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Embeds queries and corpus, searches, and returns `{"ndcg@10": …, "recall@10": …, …}`."""
        _, indices = top_k_search(
            embed_texts(embed, list(self.queries.values()), role="query"),
            embed_texts(embed, list(self.corpus.values()), role="document"),
            k=min(max(self.ks), len(self.corpus)),
            similarity=self.similarity,
            exclude=self.excluded(),
        )
        judged = jax.device_put(self.judge(indices))
        values = jax.device_get(ranking_metrics(*judged, ks=tuple(self.ks)))
        return {
            f"{name}@{k}": float(value)
            for name in NAMES
            for k, value in zip(self.ks, values[name], strict=True)
        }

    def excluded(self) -> Int[np.ndarray, "q e"] | None:
        """Returns the row of the document that a query must not find, -1 for none."""
        if not self.exclude_same_id or not self.n_same_ids:
            return None
        rows = {name: row for row, name in enumerate(self.corpus)}
        return np.array([[rows.get(query, -1)] for query in self.queries])

    def judge(self, indices: Int[np.ndarray, "q _"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Looks up the gains `[q, max(ks)]` found, the ideal gains, and the numbers of relevant."""
        documents = list(self.corpus)
        shape = len(self.queries), max(self.ks)
        gains, ideal_gains = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        n_relevant = np.zeros(len(self.queries), np.int32)
        for row, query in enumerate(self.queries):
            judged = {document: score for document, score in self.qrels[query].items() if score > 0}
            best = sorted(judged.values(), reverse=True)[: max(self.ks)]
            found = [judged.get(documents[i], 0) if i >= 0 else 0 for i in indices[row]]
            gains[row, : len(found)], ideal_gains[row, : len(best)] = found, best
            n_relevant[row] = len(judged)
        return gains, ideal_gains, n_relevant


def check_judged(query: str, judged: Any) -> None:
    """Refuses judgements of a query that are no scores by document."""
    if not isinstance(judged, Mapping):
        raise ValueError(
            f"qrels of the query {query!r} must be a dict of scores by document; got"
            f" {type(judged).__name__} {judged!r}: write {{document: 1, …}}"
        )
    for document, score in judged.items():
        if not isinstance(score, int | float | np.number) or not np.isfinite(score):
            raise ValueError(
                f"qrels of the query {query!r} must score {document!r} by a finite number; got"
                f" {score!r}"
            )


@partial(jax.jit, static_argnames="ks")
def ranking_metrics(
    gains: Float[Array, "q r"],
    ideal_gains: Float[Array, "q r"],
    n_relevant: Int[Array, " q"],
    *,
    ks: tuple[int, ...],
) -> dict[str, Float[Array, " k"]]:
    """Computes every ranking metric at every k, as means over the queries."""
    relevant = gains > 0
    metrics = {
        "accuracy": lambda k: accuracy_at(relevant, k=k),
        "precision": lambda k: precision_at(relevant, k=k),
        "recall": lambda k: recall_at(relevant, n_relevant, k=k),
        "mrr": lambda k: reciprocal_rank_at(relevant, k=k),
        "ndcg": lambda k: ndcg_at(gains, ideal_gains, k=k),
        "map": lambda k: average_precision_at(relevant, n_relevant, k=k),
    }
    return {name: jnp.stack([jnp.mean(metric(k)) for k in ks]) for name, metric in metrics.items()}
