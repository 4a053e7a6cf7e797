"""From texts to what a search finds for them: embeddings in shards, candidates in shards."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from config import ConfigError
from manifest import Manifest
from pairs import Pairs, Texts
from vectors import Vectors, pair_scores

from jaxembed.encoders import Encoder
from jaxembed.encoders.inference import build_embed, encode_stream
from jaxembed.search import Similarity, top_k_search

EXCLUDED = 2**23  # answers that are excluded at once, if all queries had as many as one has
READ = 10_000  # texts read at once


@dataclass(frozen=True)
class Side:
    """The embeddings of queries, or of documents: stored ones, and those of a model for the rest.

    The stored ones are of the first rows of the texts' columns.
    """

    name: str
    texts: Texts
    stored: Sequence[np.ndarray]
    encoder: Encoder | None
    options: Mapping[str, Any] = field(default_factory=dict)
    normalize: bool = False

    def __post_init__(self) -> None:
        """Refuses what lacks embeddings, or has some of another size than the model's."""
        if is_stored(self.texts, self.stored):
            return
        if self.encoder is None:
            raise ConfigError(
                f"{len(self.texts) - n_stored(self.texts, self.stored):,} of the {self.name} have"
                " no stored embeddings; name the MODEL that encodes them"
            )
        build_embed(self.encoder, **self.options)
        size = self.options.get("truncate_dim") or self.encoder.dimension
        if self.stored and self.size != size:
            raise ConfigError(
                f"the stored embeddings of {self.name} have {self.size} features, those of"
                f" {self.encoder.name} {size}"
            )

    @property
    def size(self) -> int:
        """The number of features."""
        if self.stored:
            return self.stored[0].shape[1]
        assert self.encoder is not None
        return self.options.get("truncate_dim") or self.encoder.dimension

    def vectors(self, manifest: Manifest, shard_size: int) -> Vectors:
        """Encodes what is not encoded yet, and returns the embeddings of all texts."""
        first, n = n_stored(self.texts, self.stored), len(self.texts)
        shards = shards_of(f"embeddings-{self.name}", range(first, n), shard_size, ".npy")
        missing = {name: shard for name, shard in shards.items() if not manifest.has(name)}
        if missing:
            assert self.encoder is not None
            stream = encode_stream(
                self.encoder,
                Reading(self.texts, list(missing.values())),
                chunk=shard_size,
                show_progress=sys.stdout.isatty(),
                **self.options,
            )
            pace = Pace("texts", n - first, missing)
            for (name, shard), embeddings in zip(missing.items(), stream, strict=True):
                manifest.write(name, partial(np.save, arr=embeddings))
                pace(name, shard)
        encoded = [np.load(manifest.folder / name, mmap_mode="r") for name in shards]
        behind = sum(map(len, self.stored)) + np.arange(n - first)
        rows = np.concatenate([self.texts.rows[:first], behind])
        return Vectors([*self.stored, *encoded], rows, self.normalize)


class Compared(NamedTuple):
    """The queries and the documents of a model, or stored ones, and what compares them."""

    queries: Side
    documents: Side
    similarity: Similarity


def n_stored(texts: Texts, stored: Sequence[np.ndarray]) -> int:
    """Counts the texts that have stored embeddings; they come first."""
    return int(np.searchsorted(texts.rows, sum(map(len, stored))))


def is_stored(texts: Texts, stored: Sequence[np.ndarray]) -> bool:
    """Returns True if all texts have stored embeddings."""
    return n_stored(texts, stored) == len(texts)


def search(
    pairs: Pairs,
    queries: range,
    embeddings: Sequence[tuple[Vectors, Vectors, Similarity]],
    *,
    k: int,
) -> dict[str, np.ndarray]:
    """Finds the documents most similar to each query that are no answers to it, best first.

    `embeddings` are those of all queries and all documents, and what compares them: by the model
    that searches, and by a second one, if its scores are to take the place of the first one's.

    Returns `candidates` `[n k]`, -1 where there are fewer; their `scores`; and `positive_scores`,
    those of the answers, query by query.

    Raises:
        ConfigError: a similarity is not a number.
    """
    vectors, documents, similarity = embeddings[0]
    step = max(1, EXCLUDED // pairs.most_answers(queries))
    found = []
    for start in range(0, len(queries), step):
        part = queries[start : start + step]
        found.append(
            top_k_search(
                vectors[part.start : part.stop],
                documents,
                k=k,
                similarity=similarity,
                exclude=pairs.excluded(part),
            )
        )
    scores, candidates = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    vectors, documents, similarity = embeddings[-1]
    if len(embeddings) > 1:
        there = candidates >= 0
        rows = queries.start + np.nonzero(there)[0]
        scores[there] = pair_scores(vectors, documents, rows, candidates[there], similarity)
    rows, answers = pairs.answers_of(queries)
    positive_scores = pair_scores(vectors, documents, rows, answers, similarity)
    if np.isnan(scores).any() or np.isnan(positive_scores).any():
        raise ConfigError("some similarities are not numbers: the embeddings hold nan or infinity")
    return {"candidates": candidates, "scores": scores, "positive_scores": positive_scores}


def shards_of(name: str, numbers: range, size: int, suffix: str) -> dict[str, range]:
    """Cuts numbers into shards, and names their files."""
    return {
        f"{name}-{place:05}{suffix}": numbers[start : start + size]
        for place, start in enumerate(range(0, len(numbers), size))
    }


@dataclass(frozen=True)
class Reading:
    """The texts of some ranges of numbers, read a few at a time."""

    texts: Texts
    parts: Sequence[range]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[str]:
        for part in self.parts:
            for start in range(0, len(part), READ):
                yield from self.texts.read(part[start : start + READ])


class Pace:
    """Says how far the shards are, how fast they come, and how long the rest will take."""

    def __init__(self, unit: str, total: int, missing: Mapping[str, range]) -> None:
        self.unit, self.total = unit, total
        self.done = self.before = total - sum(map(len, missing.values()))
        self.begin = time.perf_counter()

    def __call__(self, name: str, shard: range) -> None:
        self.done += len(shard)
        per_second = (self.done - self.before) / (time.perf_counter() - self.begin)
        left = (self.total - self.done) / per_second / 60
        say(
            f"{name}  {self.done:,}/{self.total:,}  {per_second:.1f} {self.unit}/s"
            f"  left {left:.1f} min"
        )


def say(text: str) -> None:
    print(text, flush=True)
