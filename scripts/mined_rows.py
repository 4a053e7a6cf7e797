"""Mined negatives as rows of a data set, in the published formats, in parquet or jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from config import ConfigError
from pairs import Pairs

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["n-tuple", "triplet", "labeled-pair", "labeled-list", "scored"]
WRITE = 2_000  # queries whose texts are in memory at once


@dataclass(frozen=True)
class MinedRows:
    """The rows of the queries that are kept.

    n-tuple        query, answer, negative_1, …, negative_k
    scored         and scores: those of the answer and of the negatives
    triplet        query, answer, negative
    labeled-pair   query, text, label: 1 for an answer, 0 for a negative
    labeled-list   query, [answer, negatives…], labels

    Query and answer have the names of the data's columns. Rows stand in the order of the distinct
    queries. A row of an n-tuple has null where there are too few negatives.
    """

    pairs: Pairs
    kept: np.ndarray  # numbers of queries
    negatives: np.ndarray  # [q k] of all queries, -1 where there are too few
    scores: np.ndarray  # [q k]
    positive_scores: np.ndarray  # of each answer
    format: Format

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        query, answer = self.pairs.names
        several = self.format == "labeled-list"
        columns: dict[str, Any] = {query: pa.string()}
        columns[answer] = pa.list_(pa.string()) if several else pa.string()
        return pa.schema(
            [*columns.items(), *further_columns(self.format, self.negatives.shape[1]).items()]
        )

    def save_parquet(self, stream: BinaryIO) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        schema = self.schema()
        with ParquetWriter(stream, schema) as writer:
            for rows in self:
                writer.write_table(pa.Table.from_pylist(rows, schema))

    def save_jsonl(self, stream: BinaryIO) -> None:
        for rows in self:
            for row in rows:
                stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the rows of some queries after the other."""
        for start in range(0, len(self.kept), WRITE):
            numbers = self.kept[start : start + WRITE]
            spans = [slice(*self.pairs.starts[number : number + 2]) for number in numbers]
            wanted = [self.negatives[numbers].ravel(), *(self.pairs.answers[s] for s in spans)]
            documents = np.unique(np.concatenate(wanted))
            documents = documents[documents >= 0]
            texts = dict(zip(documents.tolist(), self.pairs.documents.read(documents), strict=True))
            rows: list[dict[str, Any]] = []
            for number, span, query in zip(
                numbers, spans, self.pairs.queries.read(numbers), strict=True
            ):
                there = self.negatives[number] >= 0
                rows += self._rows(
                    query,
                    [texts[answer] for answer in self.pairs.answers[span].tolist()],
                    self.positive_scores[span].tolist(),
                    [texts[negative] for negative in self.negatives[number][there].tolist()],
                    self.scores[number][there].tolist(),
                )
            yield rows

    def _rows(
        self,
        query: str,
        answers: Sequence[str],
        answer_scores: Sequence[float],
        negatives: Sequence[str],
        scores: Sequence[float],
    ) -> Iterator[dict[str, Any]]:
        first, second = self.pairs.names
        if self.format == "labeled-pair":
            for label, texts in ((1, answers), (0, negatives)):
                for text in texts:
                    yield {first: query, second: text, "label": label}
            return
        for answer, answer_score in zip(answers, answer_scores, strict=True):
            row = {first: query, second: answer}
            if self.format == "triplet":
                for negative in negatives:
                    yield {**row, "negative": negative}
            elif self.format == "labeled-list":
                labels = [1] + [0] * len(negatives)
                yield {first: query, second: [answer, *negatives], "labels": labels}
            else:
                columns = names_of(self.negatives.shape[1])
                row |= dict.fromkeys(columns) | dict(zip(columns, negatives, strict=False))
                both = {"scores": [answer_score, *scores]} if self.format == "scored" else {}
                yield row | both


def further_columns(kind: Format, num_negatives: int) -> dict[str, pa.DataType]:
    """Returns the names and types of the columns beside query and answer."""
    import pyarrow as pa

    if kind == "triplet":
        return {"negative": pa.string()}
    if kind == "labeled-pair":
        return {"label": pa.int64()}
    if kind == "labeled-list":
        return {"labels": pa.list_(pa.int64())}
    columns: dict[str, pa.DataType] = dict.fromkeys(names_of(num_negatives), pa.string())
    return columns | ({"scores": pa.list_(pa.float32())} if kind == "scored" else {})


def names_of(num_negatives: int) -> list[str]:
    return [f"negative_{place + 1}" for place in range(num_negatives)]


def check_names(names: Sequence[str], kind: Format, num_negatives: int) -> None:
    """Refuses columns of the data with names that the rows have for other columns."""
    for name in names:
        if name in further_columns(kind, num_negatives):
            raise ConfigError(f"{kind} has a column {name!r} of its own; rename that of the data")
