"""Small retrieval data sets, measured together: NanoBEIR's, or any in folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxembed.data.beir import Retrieval, Table, read_beir, read_beir_folder
from jaxembed.evaluators.checking import check_column, shown
from jaxembed.evaluators.retrieval import RetrievalEvaluator
from jaxembed.evaluators.suite import Suite

DATASET = "sentence-transformers/NanoBEIR-en"
NANO = {
    name.lower(): name
    for name in (
        *("ClimateFEVER", "DBPedia", "FEVER", "FiQA2018", "HotpotQA", "MSMARCO", "NFCorpus", "NQ"),
        *("QuoraRetrieval", "SCIDOCS", "ArguAna", "SciFact", "Touche2020"),
    )
}
Open = Callable[[str, str, str], Table]


def open_split(repository: str, subset: str, split: str) -> Table:
    """Opens a table of the Hugging Face Hub, or of a local copy, with `datasets`."""
    from datasets import load_dataset

    dataset = load_dataset(repository, subset, split=split)
    return {name: dataset[name][:] for name in dataset.column_names}


def nano_beir(
    names: Sequence[str] | None = None,
    open: Open = open_split,
    *,
    dataset: str = DATASET,
    split: str = "test",
    **options: Any,
) -> Suite:
    """Builds a suite of retrieval evaluators, whose main metric is `mean/ndcg@10`.

    With the names of NanoBEIR it has the values of sentence-transformers' `NanoBEIREvaluator`;
    their metrics are named as there, `NanoMSMARCO/ndcg@10`.

    Args:
        names: Each is a folder as `read_beir_folder` reads it, a data set of NanoBEIR such as
            "msmarco" in any case, or a repository "owner/name" of its own, with the subsets
            `corpus`, `queries` and `qrels` and the split `train`; None takes all 13 of NanoBEIR.
        open: Opens a table by repository, subset and split.
        dataset: The repository with NanoBEIR in a language: subsets `corpus`, `queries` and
            `qrels`, with a split for each data set.
        split: Of the qrels of folders.
        options: Of each `RetrievalEvaluator`, such as `ks`.

    Raises:
        ValueError: No names, two of one data set, one that is neither of these, or a table that
            cannot be opened or read.

    Source: Thakur et al., "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of Information
    Retrieval Models", 2021.

    >>> tables = {
    ...     "corpus": {"_id": ["d1", "d2"], "text": ["cat", "giraffe"]},
    ...     "queries": {"_id": ["q"], "text": ["ox"]},
    ...     "qrels": {"query-id": ["q"], "corpus-id": ["d1"]},
    ... }
    >>> suite = nano_beir(["NQ", "FEVER"], lambda repository, subset, split: tables[subset])
    >>> list(suite.evaluators), suite.main_metric
    (['NanoNQ', 'NanoFEVER'], 'mean/ndcg@10')
    """
    names = list(NANO) if names is None else names
    if isinstance(names, str):
        raise ValueError(f"names must be a sequence of names, got the text {names!r}")
    check_column("names", names, "names")
    evaluators: dict[str, RetrievalEvaluator] = {}
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"names must be texts, got {shown(name)}")
        label, data = read_set(name, open, dataset=dataset, split=split)
        if label in evaluators:
            raise ValueError(f"two data sets have the name {label!r}: drop or rename one")
        evaluators[label] = RetrievalEvaluator(*data, **options)
    return Suite(evaluators)


def read_set(name: str, open: Open, *, dataset: str, split: str) -> tuple[str, Retrieval]:
    """Reads a data set, and what it is called."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve().name, read_beir_folder(folder, split)
    if name.lower() in NANO:
        label = f"Nano{NANO[name.lower()]}"
        return label, read_repository(open, dataset, label)
    if name.count("/") != 1:
        raise ValueError(
            f"{name!r} is no folder or owner/name, nor one of {', '.join(NANO.values())}"
        )
    return name.partition("/")[2], read_repository(open, name, "train")


def read_repository(open: Open, repository: str, split: str) -> Retrieval:
    """Reads tables without the documents that have no text, unless one is judged."""

    def table(subset: str) -> Table:
        try:
            return open(repository, subset, split)
        except (OSError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ValueError(
                f"cannot open {subset}, split {split}, of {repository} ({reason})"
            ) from error

    documents, texts, qrels = read_beir(table("corpus"), table("queries"), by_pair(table("qrels")))
    judged = {document for scores in qrels.values() for document in scores}
    documents = {name: text for name, text in documents.items() if text or name in judged}
    return documents, texts, qrels


def by_pair(qrels: Table) -> Table:
    """Gives each document a row of its own, where a row lists several for a query."""
    try:
        rows = list(zip(qrels["query-id"], qrels["corpus-id"], strict=True))
    except (KeyError, ValueError):  # a missing column, or one of another length
        return qrels  # which is refused by name
    if not any(isinstance(documents, list) for _, documents in rows):
        return qrels
    pairs = [(query, document) for query, documents in rows for document in documents]
    return {
        "query-id": [query for query, _ in pairs],
        "corpus-id": [document for _, document in pairs],
    }
