"""Texts of pairs as numbers: distinct queries, distinct documents, and which answer which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from inputs import fingerprint

from jaxembed.data import Rows, text_hashes

READ = 50_000  # texts that are hashed at once

Numbers = np.ndarray | range


@dataclass(frozen=True)
class Column:
    """A column of texts that stay on the disk."""

    read: Callable[[Numbers], list[str]]
    size: int

    def hashes(self) -> np.ndarray:
        starts = range(0, self.size, READ)
        parts = (range(start, min(start + READ, self.size)) for start in starts)
        return np.concatenate([text_hashes(self.read(part)) for part in parts])


@dataclass(frozen=True)
class Texts:
    """Distinct texts of columns that lie one after the other; `rows` says where each one is."""

    columns: Sequence[Column]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, numbers: Numbers) -> list[str]:
        """Returns the texts of these numbers."""
        rows = self.rows[np.asarray(numbers, int)]
        texts = np.empty(len(rows), object)
        start = 0
        for column in self.columns:
            here = (rows >= start) & (rows < start + column.size)
            if here.any():
                texts[here] = column.read(rows[here] - start)
            start += column.size
        return texts.tolist()


@dataclass(frozen=True)
class Pairs:
    """Which documents are answers to which query, each of them by its number.

    Query `i` has the answers `answers[starts[i] : starts[i + 1]]`, in the order of the data, and
    `itself[i]` is the document with the query's own text, -1 if there is none. `names` are the
    columns of the data.
    """

    names: tuple[str, str]
    queries: Texts
    documents: Texts
    starts: np.ndarray
    answers: np.ndarray
    itself: np.ndarray
    fingerprint: str

    def answers_of(self, queries: range) -> tuple[np.ndarray, np.ndarray]:
        """Returns each answer to these queries beside the query, both by number."""
        starts = self.starts[queries.start : queries.stop + 1]
        return np.repeat(queries, np.diff(starts)), self.answers[starts[0] : starts[-1]]

    def most_answers(self, queries: range) -> int:
        """Returns the greatest number of answers that one of these queries has."""
        return int(np.diff(self.starts[queries.start : queries.stop + 1]).max())

    def excluded(self, queries: range) -> np.ndarray:
        """Returns what may not be found for these queries, `[n e]`: answers and itself, or -1."""
        lengths = np.diff(self.starts[queries.start : queries.stop + 1])
        width = 1 << self.most_answers(queries).bit_length()  # few widths, so that few are compiled
        table = np.full((len(queries), width), -1)
        table[:, 0] = self.itself[queries.start : queries.stop]
        table[:, 1:][np.arange(width - 1) < lengths[:, None]] = self.answers_of(queries)[1]
        return table


def open_pairs(rows: Rows, corpus: Column | None) -> Pairs:
    """Finds out which texts are equal, by their hashes; the documents of a corpus come first.

    Answers that the corpus lacks are documents too.
    """
    first, second = (
        Column(lambda numbers, role=role: rows.texts(role, numbers), len(rows))
        for role in rows.text_roles
    )
    columns = (second,) if corpus is None else (corpus, second)
    query_hashes = first.hashes()
    document_hashes = np.concatenate([column.hashes() for column in columns])
    query_rows, queries = distinct(query_hashes)
    document_rows, documents = distinct(document_hashes)
    documents = documents[-len(rows) :]

    _, places = np.unique(queries * len(document_rows) + documents, return_index=True)
    places.sort()
    by_query = places[np.argsort(queries[places], kind="stable")]
    counts = np.bincount(queries[by_query], minlength=len(query_rows))
    name, answer_name = (rows.columns[role][0].column_names[0] for role in rows.text_roles)
    return Pairs(
        names=(name, answer_name),
        queries=Texts((first,), query_rows),
        documents=Texts(columns, document_rows),
        starts=np.concatenate([[0], np.cumsum(counts)]),
        answers=documents[by_query],
        itself=find(query_hashes[query_rows], document_hashes[document_rows]),
        fingerprint=fingerprint([query_hashes, document_hashes]),
    )


def distinct(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers distinct values by their first places: these places, and the number of each value."""
    _, first, numbers = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[numbers]


def find(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Finds the place of each value among distinct ones; -1 if it is not there."""
    order = np.argsort(among)
    places = order[np.minimum(np.searchsorted(among, values, sorter=order), len(among) - 1)]
    return np.where(among[places] == values, places, -1)
