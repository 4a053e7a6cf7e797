"""What models are measured on: files and folders, each of some kind, and suites of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from config import Config, ConfigError
from tables import read_tables

from jaxembed.data import DataError, Rows, bind_columns, open_dataset, wordnet_gloss_retrieval
from jaxembed.data.column_names import CLASSES, FIRST, SECOND
from jaxembed.data.columns import Table, find_column
from jaxembed.data.labels import whole_or_word
from jaxembed.data.rows import take
from jaxembed.evaluators import (
    BinaryClassificationEvaluator,
    ClassificationEvaluator,
    ClusteringEvaluator,
    Evaluator,
    MSEEvaluator,
    ParaphraseMiningEvaluator,
    RerankingEvaluator,
    RetrievalEvaluator,
    SimilarityEvaluator,
    Suite,
    TranslationEvaluator,
    TripletEvaluator,
    nano_beir,
)
from jaxembed.forms import check_form
from jaxembed.typing import Roles

EMBEDDED = "wordnet-gloss"
# The well-known names of columns that are read as they are.
KNOWN = {
    "text": {"sentence", "query", "question"},
    "label": CLASSES,
    "query": FIRST,
    "positive": SECOND,
}
KNOWN["negative"] = {"neg", "negatives", "hard_negative", "hard_negatives", "negative_passages"}
TABLE = {  # of an evaluation, beside the options of its kind
    "kind?": str,
    "data?": str,
    "split?": str,
    "columns?": ([str], {str: (str, [str])}),
}


@dataclass(frozen=True)
class Source:
    """Data to measure on: where it is, which columns play which role, options of the evaluator."""

    data: str
    split: str = "test"
    columns: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], Any] = str  # which columns were taken; nothing is said by default

    def open(self, data: str | None = None) -> Any:
        """Opens the data set, or another one in its place."""
        name = data or self.data
        local = Path(name).expanduser().exists()
        return open_dataset(name, split="train" if local else self.split)

    def rows(self, *texts: str, data: str | None = None, **labels: type) -> Rows:
        """Binds the columns of texts and labels."""
        return self.bind(Roles(texts, labels), data)

    def bind(self, roles: Roles, data: str | None = None) -> Rows:
        """Binds the columns of roles, and says which they are."""
        rows = bind_columns(self.open(data), roles, self.columns)
        self.say(f"{data or self.data}: {rows.taken}")
        return rows

    def list(self, role: str, data: str | None = None) -> list[Any]:
        """Returns a column of any type: the named one, or that of the role's or a known name."""
        table, where = Table(self.open(data)), data or self.data
        name = self._named(role) or find_column(table, role, KNOWN.get(role, set()))
        if name not in table.names:
            raise ConfigError(
                f"{where} has no column {name or role}; {table.there_are()}; name it with {role}=…"
            )
        self.say(f"{where}: {role} = {name}")
        values = take(table.only(name), range(len(table.dataset))).to_pylist()
        return whole_or_word(values) if role == "label" else values

    def _named(self, role: str) -> str | None:
        """Returns the column that the user names for a role."""
        columns = self.columns or ()
        if not isinstance(columns, Mapping):
            items = columns.split(",") if isinstance(columns, str) else columns
            if positional := [item for item in items if "=" not in item]:
                raise ConfigError(f"{self.data}: name columns by role, {role}={positional[0]}")
            columns = dict(item.strip().split("=", 1) for item in items)
        return columns.get(role, columns.get(f"{role}s"))

    def option(self, name: str) -> Any:
        """Returns an option that the kind needs."""
        if name not in self.options:
            raise ConfigError(f"{self.data}: give {name} too, in a .toml suite")
        return self.options[name]

    def others(self, *names: str) -> dict[str, Any]:
        """Returns the options without those."""
        return {name: value for name, value in self.options.items() if name not in names}


def _similarity(source: Source) -> Evaluator:
    rows = source.rows("left", "right", scores=float)
    left, right = _texts(rows)
    scores = rows.labels("scores", range(len(rows))).tolist()
    return SimilarityEvaluator(left, right, scores, **source.options)


def _binary_classification(source: Source) -> Evaluator:
    rows = source.rows("left", "right", labels=float)  # no classes: words have no meaning here
    left, right = _texts(rows)
    labels = rows.labels("labels", range(len(rows))).tolist()
    return BinaryClassificationEvaluator(left, right, labels, **source.options)


def _triplet(source: Source) -> Evaluator:
    """Of three columns of texts; of several negatives the first counts."""
    roles = Roles(("anchors", "positives"), negatives=True, needs_negatives=True)
    rows = source.bind(roles)
    anchors, positives = _texts(rows)
    negatives = rows.negatives(range(len(rows)))
    if missing := [row for row, texts in enumerate(negatives) if not texts]:
        raise ConfigError(f"{source.data}: row {missing[0]} has no negative; drop it")
    return TripletEvaluator(anchors, positives, [texts[0] for texts in negatives], **source.options)


def _translation(source: Source) -> Evaluator:
    return TranslationEvaluator(*_texts(source.rows("source", "target")), **source.options)


def _retrieval(source: Source) -> Evaluator:
    if source.data == EMBEDDED:
        return RetrievalEvaluator(*wordnet_gloss_retrieval(), **source.options)
    return RetrievalEvaluator.from_folder(source.data, split=source.split, **source.options)


def _reranking(source: Source) -> Evaluator:
    names = ("query", "positive", "negative")
    samples = zip(*(source.list(name) for name in names), strict=True)
    return RerankingEvaluator(
        [dict(zip(names, sample, strict=True)) for sample in samples], **source.options
    )


def _paraphrase_mining(source: Source) -> Evaluator:
    """Of a file of texts with their id, and one of pairs of ids, `duplicates`."""
    texts = dict(zip(map(str, source.list("id")), source.list("text"), strict=True))
    pairs = open_dataset(source.option("duplicates"))
    first, second = (map(str, pairs[name][:]) for name in pairs.column_names[:2])
    return ParaphraseMiningEvaluator(
        texts, list(zip(first, second, strict=True)), **source.others("duplicates")
    )


def _clustering(source: Source) -> Evaluator:
    return ClusteringEvaluator(source.list("text"), source.list("label"), **source.options)


def _classification(source: Source) -> Evaluator:
    train = source.option("train")
    return ClassificationEvaluator(
        source.list("text", train),
        source.list("label", train),
        source.list("text"),
        source.list("label"),
        **source.others("train"),
    )


def _mse(source: Source) -> Evaluator:
    """Of a file of texts, and an .npy file with the teacher's embeddings of them."""
    teacher = np.load(source.option("teacher"))
    return MSEEvaluator(source.list("text"), teacher, **source.others("teacher"))


def _nano_beir(source: Source) -> Evaluator:
    return nano_beir(source.options.get("names"), **source.others("names"))


def _loss(source: Source) -> Evaluator:
    """Of a file with the columns of the training, or with those that are named."""
    held_out, others = source.option("held_out"), source.others("held_out")
    if held_out is None:
        raise ConfigError(f"{source.data}: a loss is of a training; train.py --evaluate takes it")
    if others:
        raise ConfigError(f"{source.data}: loss takes no option {min(others)}")
    return held_out(source.open(), source.columns)


KINDS: dict[str, Callable[[Source], Evaluator]] = {
    "similarity": _similarity,
    "binary_classification": _binary_classification,
    "triplet": _triplet,
    "translation": _translation,
    "retrieval": _retrieval,
    "reranking": _reranking,
    "paraphrase_mining": _paraphrase_mining,
    "clustering": _clustering,
    "classification": _classification,
    "mse": _mse,
    "nano_beir": _nano_beir,
    "loss": _loss,
}


# The options that a flag or the model gives to evaluations of a kind that do not say them.
RETRIEVAL = ("similarity", "exclude_same_id")
USUAL = {
    **dict.fromkeys(("retrieval", "nano_beir"), RETRIEVAL),
    **dict.fromkeys(("similarity", "triplet", "reranking"), ("similarity",)),
    "binary_classification": ("similarities",),
    "loss": ("held_out",),
}


def open_evaluation(
    config: Config,
    similarity: str = "cosine",
    held_out: Callable[[Any, Any], Evaluator] | None = None,
    *,
    say: Callable[[str], Any] = str,
) -> Evaluator | None:
    """Opens what a run measures its model on, compared by `similarity`; None if nothing.

    `held_out(dataset, columns)` opens the loss on held-out rows; `say` gets the columns taken.
    """
    given = config.evaluate
    if given == ("auto",):
        embedded = config.data == (EMBEDDED,) and config.tasks is None
        given = (EMBEDDED,) if embedded else ()
    if given in ((), ("none",)):
        return None
    try:
        return open_suite(
            given,
            columns=config.evaluate_columns,
            similarity=config.similarity or similarity,
            exclude_same_id=config.exclude_same_id,
            held_out=held_out,
            say=say,
        )
    except DataError as error:
        raise DataError(f"{error}".replace("--columns", "--evaluate-columns")) from error


def open_suite(
    given: Sequence[str],
    *,
    columns: Sequence[str] = (),
    similarity: str = "cosine",
    exclude_same_id: bool = False,
    held_out: Callable[[Any, Any], Evaluator] | None = None,
    say: Callable[[str], Any] = str,
) -> Evaluator:
    """Opens files, folders, KIND:FILE and .toml suites as one evaluator.

    Args:
        columns: of files, by role.
        similarity, exclude_same_id: of evaluations that do not say theirs.
        held_out: opens the kind "loss", which only a training has.
        say: gets a line on the columns that were taken of each file.

    Raises:
        ValueError: one that cannot be opened, a kind that is none, or two of one name.
    """
    usual = {
        "similarity": similarity,
        "similarities": (similarity,),
        "exclude_same_id": exclude_same_id,
        "held_out": held_out,
    }
    evaluators: dict[str, Evaluator] = {}
    for item in given:
        path = Path(item).expanduser()
        if path.suffix == ".toml":
            suite = ((name, kind, replace(its, say=say)) for name, kind, its in read_suite(path))
            found = {name: _open(kind, source, usual) for name, kind, source in suite}
        else:
            kind, _, rest = item.partition(":")
            kind, data = (kind, rest) if kind in KINDS else (_kind_of(item), item)
            if not data and kind != "nano_beir":
                raise ConfigError(f"--evaluate {item} names no file")
            source = Source(data, columns=",".join(columns) or None, say=say)
            found = {Path(data).stem or kind: _open(kind, source, usual)}
        for name, evaluator in found.items():
            if name in evaluators:
                raise ConfigError(
                    f"two evaluations have the name {name}; give them names in a .toml suite"
                )
            evaluators[name] = evaluator
    return next(iter(evaluators.values())) if len(evaluators) == 1 else Suite(evaluators)


def read_suite(file: Path) -> list[tuple[str, str, Source]]:
    """Reads a suite: a table for each evaluation, with its kind, its data and options.

    [sts]
    kind = "similarity"
    data = "sts.csv"
    columns = { left = "sentence1", right = "sentence2", scores = "score" }
    """
    found = []
    for name, table in read_tables(file, "evaluation").items():
        options = dict(check_form(table, TABLE, f"{file}: [{name}]"))
        kind, data = options.pop("kind", None), options.pop("data", "")
        if kind is not None and kind not in KINDS:
            raise ConfigError(f"{file}: [{name}] has the kind {kind!r}; kinds are {_kinds()}")
        if not data and kind != "nano_beir":
            raise ConfigError(f"{file}: [{name}] needs data = a file, a folder or a hub name")
        split, columns = options.pop("split", "test"), options.pop("columns", None)
        source = Source(data, split, columns, options)
        found.append((name, kind or _kind_of(data), source))
    return found


def _kind_of(data: str) -> str:
    if data == EMBEDDED or Path(data).expanduser().is_dir():
        return "retrieval"
    kind, colon, _ = data.partition(":")
    if colon and not Path(data).expanduser().exists() and kind.replace("_", "").isalpha():
        raise ConfigError(f"{kind!r} is no kind of evaluation; kinds are {_kinds()}")
    return "similarity"


def _open(kind: str, source: Source, usual: Mapping[str, Any]) -> Evaluator:
    options = {name: usual[name] for name in USUAL.get(kind, ())}
    source = replace(source, options={**options, **source.options})
    try:
        return KINDS[kind](source)
    except TypeError as error:  # an option that the evaluator does not have
        raise ConfigError(f"{source.data}: {kind} takes no such option ({error})") from None
    except ValueError as error:
        if not source.data or source.data in str(error):
            raise
        raise ConfigError(f"{source.data}: {error}") from None


def _texts(rows: Rows) -> list[list[str]]:
    return [rows.texts(role, range(len(rows))) for role in rows.text_roles]


def _kinds() -> str:
    return ", ".join(KINDS)
