"""How well the most similar pairs of a collection are the paraphrases in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from jaxembed.evaluators.checking import check_column, check_texts_by_id, is_count, shown
from jaxembed.evaluators.protocols import EmbedFn, embed_texts
from jaxembed.metrics.binary import average_precision, best_f1
from jaxembed.search import top_k_search


@dataclass(frozen=True, eq=False, repr=False)
class ParaphraseMiningEvaluator:
    """Lists the pairs of texts with the highest cosine and looks for the duplicates among them.

    Gives `average_precision`, and `f1`, `precision`, `recall` at the `threshold` of the best F1, as
    sentence-transformers' `ParaphraseMiningEvaluator` does. A duplicate that is not listed counts
    as not found.

    A pair is listed if one of its texts is among the `top_k` neighbours of the other. So memory
    grows with `len(texts) · top_k`, which `top_k_search` returns, and with `max_pairs`; no matrix
    of all similarities is held.

    Args:
        texts: Id to text.
        duplicates: Pairs of ids. Their order, and a pair that repeats, do not count.
        add_transitive_closure: Duplicates of duplicates are duplicates.
        max_pairs: How many pairs are listed at most. Of equal similarities at the end of the list,
            pairs of earlier texts stay.
        top_k: How many neighbours a text has.

    Raises:
        ValueError: Fewer than two texts, a text that is none, no duplicates, an id in `duplicates`
            that does not exist or is paired with itself, or `max_pairs` or `top_k` below 1.

    Source: Sharma et al., "Natural Language Understanding with the Quora Question Pairs Dataset",
    2019.

    >>> texts = {"a": "ox", "b": "ape", "c": "elephant"}
    >>> def embed(texts, *, role):
    ...     return np.array([[len(text), 2] for text in texts], np.float32)
    >>> ParaphraseMiningEvaluator(texts, [("b", "a")]).evaluate(embed)["average_precision"]
    1.0
    """

    texts: Mapping[str, str]
    duplicates: Sequence[tuple[str, str]]
    add_transitive_closure: bool = False
    max_pairs: int = 500_000
    top_k: int = 100

    def __post_init__(self) -> None:
        check_texts_by_id("texts", self.texts)
        check_column("duplicates", self.duplicates, "pairs of ids")
        if len(self.texts) < 2 or len(self.duplicates) == 0:
            raise ValueError(
                f"paraphrase mining needs texts and duplicates among them, "
                f"got {len(self.texts)} texts and {len(self.duplicates)} duplicates"
            )
        for name, number in (("max_pairs", self.max_pairs), ("top_k", self.top_k)):
            if not is_count(number):
                raise ValueError(f"{name} must be at least 1, got {number!r}")
        for row, pair in enumerate(self.duplicates):
            if isinstance(pair, str) or not hasattr(pair, "__len__"):
                raise ValueError(f"duplicates must be pairs of ids, but row {row} is {shown(pair)}")
            for name in pair:
                if name not in self.texts:
                    raise ValueError(
                        f"the duplicates {tuple(pair)} name {name!r}, which is not in texts: "
                        f"add it or drop the pair"
                    )
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ValueError(f"the duplicates {tuple(pair)} are not two texts: drop the pair")

    @property
    def main_metric(self) -> str:
        """The name of the metric that ranks models."""
        return "average_precision"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Embeds the texts (role None), searches, and returns `{"average_precision": …, …}`."""
        embeddings = embed_texts(embed, list(self.texts.values()), role=None)
        # A text finds itself too.
        found = top_k_search(embeddings, embeddings, k=min(self.top_k + 1, len(embeddings)))
        scores, pairs = list_pairs(*found, top_k=self.top_k, max_pairs=self.max_pairs)
        gold = self.gold()
        labels, n_gold = np.isin(pairs, gold), len(gold)
        best = best_f1(scores, labels, n_positive=n_gold)
        return {
            "average_precision": average_precision(scores, labels, n_positive=n_gold),
            **best._asdict(),
        }

    def gold(self) -> Int[np.ndarray, " gold"]:
        """Numbers the pairs of duplicates, each once, as `list_pairs` does."""
        rows = {name: row for row, name in enumerate(self.texts)}
        pairs = np.array([[rows[left], rows[right]] for left, right in self.duplicates])
        if self.add_transitive_closure:
            pairs = closure(pairs)
        return np.unique(pair_numbers(pairs[:, 0], pairs[:, 1], len(rows)))


def list_pairs(
    scores: Float[np.ndarray, "n k"],
    neighbours: Int[np.ndarray, "n k"],
    *,
    top_k: int,
    max_pairs: int,
    block: int = 8192,
) -> tuple[Float[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Lists the best pairs of each row with its first `top_k` neighbours besides itself.

    Returns their scores and numbers (`pair_numbers`). Both directions of a pair are one, with the
    score of the earlier row. `block` rows at a time are merged into the best `max_pairs` so far.

    >>> scores, pairs = list_pairs(
    ...     np.array([[1.0, 0.5], [1.0, 0.5], [1.0, 0.1]]), np.array([[0, 1], [1, 0], [2, 0]]),
    ...     top_k=1, max_pairs=9,
    ... )
    >>> scores, pairs  # 0 · 3 + 1 and 0 · 3 + 2
    (array([0.5, 0.1]), array([1, 2]))
    """
    n = len(neighbours)
    best, pairs = np.empty(0, scores.dtype), np.empty(0, np.int64)
    for start in range(0, n, block):
        others = neighbours[start : start + block]
        rows = np.broadcast_to(np.arange(start, start + len(others))[:, None], others.shape)
        listed = others != rows
        listed &= np.cumsum(listed, axis=1) <= top_k
        found = pair_numbers(rows[listed], others[listed], n)
        best = np.concatenate([best, scores[start : start + block][listed]])
        pairs, first = np.unique(np.concatenate([pairs, found]), return_index=True)
        best = best[first]
        order = np.argsort(-best, kind="stable")[:max_pairs]
        best, pairs = best[order], pairs[order]
    return best, pairs


def pair_numbers(
    left: Int[np.ndarray, " pairs"], right: Int[np.ndarray, " pairs"], n: int
) -> Int[np.ndarray, " pairs"]:
    """Gives each unordered pair of `n` things a number of its own."""
    return np.minimum(left, right) * n + np.maximum(left, right)


def closure(pairs: Int[np.ndarray, "pairs 2"]) -> Int[np.ndarray, "closed 2"]:
    """Pairs all that are linked through a chain of pairs.

    >>> closure(np.array([[0, 1], [2, 1], [4, 5]]))
    array([[0, 1], [0, 2], [1, 2], [4, 5]])
    """
    group_of: dict[int, list[int]] = {}
    for left, right in pairs.tolist():
        group, other = group_of.setdefault(left, [left]), group_of.setdefault(right, [right])
        if group is not other:
            group, other = sorted((group, other), key=len, reverse=True)
            group += other
            group_of.update(dict.fromkeys(other, group))
    groups = {id(group): group for group in group_of.values()}.values()
    return np.array([pair for group in groups for pair in combinations(group, 2)])
