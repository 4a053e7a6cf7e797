"""Retrieval data as the BEIR benchmark has it: a corpus, queries, and judgements of both, qrels."""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxembed.data.errors import DataError

Judgements = dict[str, dict[str, float]]
Retrieval = tuple[dict[str, str], dict[str, str], Judgements]
QRELS = ("query-id", "corpus-id", "score")
TREC = ("query-id", "iteration", "corpus-id", "score")  # as trec_eval has qrels, without a header
SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".tsv", ".tsv.gz")
TREC_SUFFIXES = (".txt", ".txt.gz", ".qrels", ".trec")


@runtime_checkable
class Table(Protocol):
    """Columns by name: a `datasets.Dataset`, a data frame, a dict of lists."""

    def __getitem__(self, column: str, /) -> Iterable[Any]: ...


Source = Table | str | Path


def read_beir(corpus: Source, queries: Source, qrels: Source) -> Retrieval:
    """Reads `(corpus, queries, qrels)` as dicts, each from a table or a file.

    BEIR lists the queries of all splits in one table: those without a document that `qrels` score
    above 0 are left out. Ids become strings.

    Args:
        corpus: Columns `_id`, `text` and, where there are titles, `title`; a document reads
            "title text".
        queries: Columns `_id`, `text`.
        qrels: Columns `query-id`, `corpus-id` and, where they are graded, `score`.

    Files are .parquet, .jsonl or .tsv, the latter two also .gz. Qrels may also have the four
    columns of TREC, `query-id 0 corpus-id score` between blanks or tabs and without a header, in a
    file .tsv, .txt, .qrels or .trec.

    A query may have the id of a document, as in ArguAna, where it is that document. BEIR and MTEB
    never count it as found: see `RetrievalEvaluator.exclude_same_id`.

    Raises:
        DataError: A file cannot be read, a column is missing, two rows have the same `_id`, a text
            or a score is none, or qrels name what is not there; it names the file and the line.

    >>> corpus, queries, qrels = read_beir(
    ...     {"_id": [7], "title": ["Cat"], "text": ["a small animal"]},
    ...     {"_id": ["q1", "q2"], "text": ["pet", "car"]},
    ...     {"query-id": ["q1"], "corpus-id": [7], "score": [1]},
    ... )
    >>> corpus, queries, qrels
    ({'7': 'Cat a small animal'}, {'q1': 'pet'}, {'q1': {'7': 1.0}})
    """
    documents = _by_id("corpus", corpus, titles=True)
    texts = _by_id("queries", queries)
    judgements: Judgements = {}
    missing: list[str] = []
    for place, row in _rows("qrels", qrels, QRELS[:2], ("score",)):
        query, document = _id(place, row, "query-id"), _id(place, row, "corpus-id")
        if query not in texts:
            missing.append(f"{place} names the query {query!r}, which is not in queries")
        elif document not in documents:
            missing.append(f"{place} names the document {document!r}, which is not in corpus")
        elif document in judgements.setdefault(query, {}):
            raise DataError(f"{place} judges {query!r} and {document!r} again: drop it")
        else:
            score = 1.0 if row["score"] is None else _score(place, row["score"])
            judgements[query][document] = score
    if missing:
        more = f"; there are {len(missing):,} such lines" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}: add it or drop the line{more}")
    if not judgements:
        raise DataError(f"{_called('qrels', qrels)} has no rows")
    judgements = {query: judged for query, judged in judgements.items() if max(judged.values()) > 0}
    if not judgements:
        raise DataError("qrels score no document above 0, so there is nothing to find")
    return documents, {q: text for q, text in texts.items() if q in judgements}, judgements


def read_beir_folder(folder: str | Path, split: str = "test") -> Retrieval:
    """Reads a folder of corpus, queries and qrels, as `read_beir` does.

    The files are called corpus.jsonl, queries.jsonl and qrels/<split>.tsv, as BEIR has them, or
    their names end so, such as eval_qrels.parquet.

    Raises:
        DataError: as of `read_beir`, or one of the three is missing or there twice.
    """
    if not isinstance(folder, str | Path):
        raise DataError(f"a folder is needed; got {type(folder).__name__}")
    return read_beir(*beir_files(Path(folder).expanduser(), split))


def beir_files(folder: Path, split: str) -> tuple[Path, Path, Path]:
    """Finds the three files of a folder."""
    found = []
    for name in ("corpus", "queries", "qrels"):
        files = [file for file in sorted(folder.glob(f"*{name}.*")) if _suffix(file, name)]
        inside = folder / "qrels"
        if name == "qrels" and inside.is_dir():
            files = [file for file in sorted(inside.glob(f"{split}.*")) if _suffix(file, name)]
            if not files:
                splits = sorted({file.name.split(".")[0] for file in inside.iterdir()})
                raise DataError(f"{inside} has the splits {', '.join(splits)}; got {split!r}")
        if len(files) != 1:
            there = f"{len(files)} files" if files else "no file"
            raise DataError(f"{folder} has {there} for {name}; one is needed, such as {name}.jsonl")
        found.append(files[0])
    return found[0], found[1], found[2]


def is_beir_folder(folder: Path) -> bool:
    """Returns True if a folder has a corpus and queries."""
    names = ("corpus", "queries")
    return all(any(_suffix(file, name) for file in folder.glob(f"*{name}.*")) for name in names)


def beir_pairs(folder: Path, split: str) -> dict[str, list[str]]:
    """Returns a query and a relevant document for every judgement above 0, as columns."""
    corpus, queries, qrels = read_beir_folder(folder, split)
    pairs = [
        (queries[query], corpus[document])
        for query, judged in qrels.items()
        for document, score in judged.items()
        if score > 0
    ]
    return {"query": [query for query, _ in pairs], "positive": [text for _, text in pairs]}


def _by_id(name: str, source: Source, *, titles: bool = False) -> dict[str, str]:
    texts: dict[str, str] = {}
    for place, row in _rows(name, source, ("_id", "text"), ("title",) if titles else ()):
        key, text, title = _id(place, row, "_id"), row["text"], row.get("title")
        if not isinstance(text, str):
            raise DataError(f"{place} must have a text, not {text!r}: drop it")
        if key in texts:
            raise DataError(f"{place} has the _id {key!r} of an earlier one: drop it")
        titled = isinstance(title, str) and title  # a data frame has NaN for none
        texts[key] = f"{title} {text}".strip() if titled else text
    if not texts:
        raise DataError(f"{_called(name, source)} has no rows")
    return texts


def _rows(
    name: str, source: Source, needed: tuple[str, ...], optional: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each row, and where it is; what is optional may be None."""
    if isinstance(source, str | Path):
        file = Path(source).expanduser()
        suffix = _suffix(file, name)
        if suffix is None:
            raise DataError(f"{file}: unknown kind of file; known are {' '.join(_suffixes(name))}")
        if suffix != ".parquet":
            yield from _lines(file, suffix, needed, optional)
            return
        source, name = _parquet(file, (*needed, *optional)), str(file)
    columns = {column: list(_column(name, source, column)) for column in needed}
    for column in optional:
        try:
            columns[column] = list(source[column])
        except (KeyError, ValueError):  # the latter of a `datasets.Dataset`
            columns[column] = [None] * len(columns[needed[0]])
    lengths = {column: len(values) for column, values in columns.items()}
    if len({*lengths.values()}) > 1:
        raise DataError(f"the columns of {name} must have the same length; they have {lengths}")
    for number, values in enumerate(zip(*columns.values(), strict=True)):
        yield f"row {number} of {name}", dict(zip(columns, values, strict=True))


def _lines(
    file: Path, suffix: str, needed: tuple[str, ...], optional: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    opened = gzip.open if suffix.endswith(".gz") else open
    nothing = dict.fromkeys(optional)
    try:
        with opened(file, "rt", encoding="utf-8-sig", newline="") as stream:
            if suffix.startswith(".jsonl"):
                for number, line in enumerate(stream, start=1):
                    place = f"line {number} of {file}"
                    if line.strip():
                        yield place, nothing | _object(place, line, needed)
                return
            header: list[str] | None = None
            cells = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            for number, row in enumerate(cells, start=1):
                place = f"line {number} of {file}"
                if header is None:
                    header = [*needed, *optional]
                    if set(needed) <= {*row}:  # it is the header
                        header = row
                        continue
                    of_trec = needed == QRELS[:2] and len(_fields(row)) == len(TREC)
                    if of_trec and len(row) != len(header):
                        header = [*TREC]
                if header == [*TREC]:
                    row = _fields(row)
                    if not row:
                        continue
                if len(row) != len(header):
                    raise DataError(
                        f"{place} has {len(row)} columns, where {', '.join(header)} are expected"
                    )
                yield place, nothing | dict(zip(header, row, strict=True))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error


def _fields(row: list[str]) -> list[str]:
    """Splits a line of TREC's at tabs or, if that does not give its four columns, at blanks."""
    return row if len(row) == len(TREC) else " ".join(row).split()


def _object(place: str, line: str, needed: tuple[str, ...]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place} is no JSON ({error})") from error
    if not isinstance(row, dict) or (missing := [name for name in needed if name not in row]):
        lacks = f"has no {missing[0]!r}" if isinstance(row, dict) else "is no JSON object"
        raise DataError(f"{place} {lacks}; it needs {', '.join(needed)}")
    return row


def _parquet(file: Path, names: tuple[str, ...]) -> Table:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(file).to_pydict()
    except Exception as error:  # whatever the reader of the format raises
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{file}: cannot be read ({reason})") from error


def _column(name: str, table: Table, column: str) -> Iterable[Any]:
    try:
        return table[column]
    except (KeyError, ValueError):
        raise DataError(f"{name} has no column {column!r}") from None
    except TypeError:
        raise DataError(
            f"{name} must be a file or a table of columns; got {type(table).__name__}"
        ) from None


def _score(place: str, value: Any) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise DataError(f"{place} must have a number as score, not {value!r}")
    return score


def _id(place: str, row: dict[str, Any], column: str) -> str:
    if row[column] is None or row[column] == "":
        raise DataError(f"{place} has no {column}: drop it")
    return str(row[column])


def _called(name: str, source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else name


def _suffixes(name: str) -> tuple[str, ...]:
    return (*SUFFIXES, *TREC_SUFFIXES) if name == "qrels" else SUFFIXES


def _suffix(file: Path, name: str) -> str | None:
    return next((suffix for suffix in _suffixes(name) if file.name.endswith(suffix)), None)
