"""Reads retrieval data from three tables with the column names of the BEIR benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Judgements = dict[str, dict[str, float]]


@runtime_checkable
class Table(Protocol):
    """Columns by name: a `datasets.Dataset`, a data frame, a dict of lists."""

    def __getitem__(self, column: str, /) -> Iterable[Any]: ...


Source = Table | str | Path


def read_beir(
    corpus: Source, queries: Source, qrels: Source
) -> tuple[dict[str, str], dict[str, str], Judgements]:
    """Reads `(corpus, queries, qrels)` as dicts, each from a table or the path of a parquet file.

    BEIR lists the queries of all splits in one table: those without a document that `qrels` score
    above 0 are left out. Ids become strings.

    Args:
        corpus: Columns `_id`, `text` and, where there are titles, `title`; a document reads
            "title text".
        queries: Columns `_id`, `text`.
        qrels: Columns `query-id`, `corpus-id`, `score`.

    Raises:
        ValueError: A column is missing, or two rows of a table have the same `_id`.

    >>> corpus, queries, qrels = read_beir(
    ...     {"_id": [7], "title": ["Cat"], "text": ["a small animal"]},
    ...     {"_id": ["q1", "q2"], "text": ["pet", "car"]},
    ...     {"query-id": ["q1"], "corpus-id": [7], "score": [1]},
    ... )
    >>> corpus, queries, qrels
    ({'7': 'Cat a small animal'}, {'q1': 'pet'}, {'q1': {'7': 1.0}})
    """
    corpus, queries, qrels = open_table(corpus), open_table(queries), open_table(qrels)
    query_ids, document_ids, scores = read("qrels", qrels, "query-id", "corpus-id", "score")
    judgements: Judgements = {}
    for query, document, score in zip(query_ids, document_ids, scores, strict=True):
        judgements.setdefault(str(query), {})[str(document)] = float(score)
    judgements = {query: judged for query, judged in judgements.items() if max(judged.values()) > 0}

    texts = by_id("queries", *read("queries", queries, "_id", "text"))
    texts = {query: text for query, text in texts.items() if query in judgements}
    documents = by_id("corpus", *read("corpus", corpus, "_id", "text"), titles=titles_of(corpus))
    return documents, texts, judgements


def open_table(source: Source) -> Table:
    if not isinstance(source, str | Path):
        return source
    import pyarrow.parquet

    return pyarrow.parquet.read_table(source).to_pydict()


def read(table_name: str, table: Table, *columns: str) -> list[list[Any]]:
    try:
        return [list(table[column]) for column in columns]
    except KeyError as error:
        raise ValueError(f"{table_name} must have the columns {columns}: {error}") from error


def titles_of(corpus: Table) -> list[str | None] | None:
    try:
        return list(corpus["title"])
    except KeyError:
        return None


def by_id(
    table_name: str, ids: list[Any], texts: list[str], titles: list[str | None] | None = None
) -> dict[str, str]:
    rows: dict[str, str] = {}
    for name, title, text in zip(map(str, ids), titles or [None] * len(ids), texts, strict=True):
        if name in rows:
            raise ValueError(f"{table_name} has two rows with the _id {name!r}: drop one")
        rows[name] = f"{title} {text}".strip() if title else text
    return rows
