"""Stored embeddings: rows of files that lie one after the other, read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from config import ConfigError
from pairs import Texts

from jaxembed.search import Similarity

PAIRS = 8192  # pairs that are compared at once


@dataclass(frozen=True)
class Vectors:
    """Chosen rows of arrays `[n d]`; only those that are asked for are read, at length 1 if so."""

    parts: Sequence[np.ndarray]
    rows: np.ndarray
    normalize: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), self.parts[0].shape[1]

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *map(len, self.parts)])

    def __getitem__(self, chosen: slice | np.ndarray) -> np.ndarray:
        rows = self.rows[chosen]
        types = [part.dtype for part in self.parts]
        vectors = np.empty((len(rows), self.shape[1]), np.result_type(*types))
        for start, part in zip(self._starts, self.parts, strict=False):
            here = (rows >= start) & (rows < start + len(part))
            if here.any():
                vectors[here] = part[rows[here] - start]
        return unit(vectors.astype(np.float32)) if self.normalize else vectors


def open_stored(flag: str, files: Sequence[str], texts: Texts) -> list[np.ndarray]:
    """Maps files of embeddings, if any, and checks that they have the rows of the first column."""
    parts: list[np.ndarray] = []
    for file in files:
        try:
            parts.append(np.load(Path(file).expanduser(), mmap_mode="r"))
        except (OSError, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise ConfigError(f"{file}: the embeddings cannot be read ({reason})") from None
        part = parts[-1]
        if part.ndim != 2 or not (part.dtype == np.int8 or np.issubdtype(part.dtype, np.floating)):
            raise ConfigError(
                f"{file}: embeddings must be [n d] of floats or int8; it has"
                f" {list(part.shape)} of {part.dtype}"
            )
    if len({part.shape[1] for part in parts}) > 1:
        raise ConfigError(f"{flag}: the files have embeddings of different sizes")
    n_rows, n_texts = sum(map(len, parts)), texts.columns[0].size
    if parts and n_rows != n_texts:
        raise ConfigError(
            f"{flag} has {n_rows:,} rows and the column of its texts {n_texts:,}; encode that"
        )
    return parts


PAIRED: Mapping[Similarity, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cosine": lambda x, y: np.einsum("nd,nd->n", unit(x), unit(y)),
    "dot": lambda x, y: np.einsum("nd,nd->n", x, y),
    "euclidean": lambda x, y: -np.linalg.norm(x - y, axis=1),
    "manhattan": lambda x, y: -np.abs(x - y).sum(axis=1),
}


def pair_scores(
    queries: Vectors,
    documents: Vectors,
    left: np.ndarray,
    right: np.ndarray,
    similarity: Similarity,
) -> np.ndarray:
    """Computes the similarities of chosen queries with chosen documents, pair by pair."""
    scores = np.empty(len(left), np.float32)
    for start in range(0, len(left), PAIRS):
        part = slice(start, start + PAIRS)
        x, y = queries[left[part]].astype(np.float32), documents[right[part]].astype(np.float32)
        scores[part] = PAIRED[similarity](x, y)
    return scores


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
