"""Opening data: files, folders, the Hub, rows in memory and the embedded set, all as one type."""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jaxembed.data.beir import beir_pairs, is_beir_folder
from jaxembed.data.encodings import encoding_of
from jaxembed.data.errors import DataError
from jaxembed.data.file_formats import KINDS, MOST_COLUMNS, kind_of, opened_as_lists, reader_of
from jaxembed.data.json_types import check_rows, json_features, with_dates_as_texts
from jaxembed.data.split_names import files_by_split
from jaxembed.data.stream_formats import read_tables

if TYPE_CHECKING:
    from datasets import Dataset

WORDNET_GLOSS = "wordnet-gloss"
EMBEDDED = Path(__file__).parent / "wordnet_gloss"
EMBEDDED_SPLITS = ("train", "test")


def open_dataset(source: Any, *, split: str = "train", config: str | None = None) -> Dataset:
    """Opens rows from wherever they are; large files stay on the disk, mapped into memory.

    Args:
        source: "wordnet-gloss" (the embedded set, with the splits train and test); a file, a glob
            or a list of files (.parquet .arrow, .jsonl .ndjson .json .csv .tsv and these with .gz);
            a folder of such files, one of BEIR (corpus, queries and qrels: pairs of a query and a
            relevant document) or one that `save_to_disk` wrote; a Hub name such as
            "sentence-transformers/all-nli"; or rows in memory: a list of dicts, a dict of lists, a
            `datasets.Dataset`.
        split: which split of the embedded set, of a Hub data set or of a folder whose file names
            say theirs. Files, and rows in memory, are one split, whatever its name. A part such as
            "train[:1000]" or "train[:5%]" can be taken of everything but rows in memory and
            `save_to_disk` folders.
        config: which configuration of a Hub data set.

    The columns of .csv and .tsv are texts; `bind_columns` reads numbers where a role needs them.

    Raises:
        DataError: there is no such thing, it cannot be read, or it has no rows.

    >>> open_dataset([{"query": "river bank", "positive": "sloping land"}]).column_names
    ['query', 'positive']
    >>> len(open_dataset("wordnet-gloss", split="test"))
    4225
    """
    if isinstance(source, (str, Path)):
        dataset = _open_name(str(source), split, config)
    elif isinstance(source, (list, tuple)) and source and isinstance(source[0], (str, Path)):
        dataset = _open_files([path for name in source for path in _files(str(name))], split)
    else:
        dataset = _open_rows(source, split)
    if len(dataset) == 0:
        raise DataError(f"{_short(source)}: the data set has no rows")
    return dataset


def wordnet_gloss_retrieval(
    limit_queries: int | None = None,
) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    """Reads the embedded retrieval task: which gloss belongs to a word in its sentence?

    Returns the corpus (id -> text), the queries (id -> text, the first `limit_queries` of them) and
    the relevance judgements (query id -> document id -> score).

    >>> corpus, queries, qrels = wordnet_gloss_retrieval(limit_queries=2)
    >>> len(corpus), list(queries.values())[1], corpus[next(iter(qrels["q1"]))]
    (4433, 'unit: the team is a unit', 'an assemblage of parts that is regarded as a single entity')
    """
    from pyarrow.parquet import read_table

    def read(name: str, *columns: str) -> list[tuple[Any, ...]]:
        table = read_table(EMBEDDED / f"eval_{name}.parquet", columns=list(columns))
        return list(zip(*(table[column].to_pylist() for column in columns), strict=True))

    corpus = dict(read("corpus", "_id", "text"))
    queries = dict(read("queries", "_id", "text")[:limit_queries])
    qrels: dict[str, dict[str, int]] = {}
    for query, document, score in read("qrels", "query-id", "corpus-id", "score"):
        if query in queries:
            qrels.setdefault(query, {})[document] = score
    return corpus, queries, qrels


def _open_name(name: str, split: str, config: str | None) -> Dataset:
    path = Path(name).expanduser()
    if name == WORDNET_GLOSS:
        if _stem(split) not in EMBEDDED_SPLITS:
            raise DataError(f"{name} has the splits {', '.join(EMBEDDED_SPLITS)}; got {split!r}")
        return _open_files([EMBEDDED / f"{_stem(split)}.parquet"], split)
    if path.is_dir():
        return _open_folder(path, split, config)
    if path.exists() or kind_of(path) or glob.has_magic(name) or name.count("/") > 1:
        return _open_files(_files(name), split)
    try:
        return _load(name, split, name=config)
    except Exception as error:  # the Hub, the network, or the data set's own files
        raise DataError(
            f"{name!r} is no file or folder here, and as a data set of the Hub it cannot be "
            f"opened: {_reason(error)}"
        ) from error


def _files(name: str) -> list[Path]:
    """Finds the files of a path or a glob."""
    path = Path(name).expanduser()
    if path.is_file():
        return [path]
    found = sorted(glob.glob(str(path), recursive=True))
    files = [Path(match) for match in found if Path(match).is_file()]
    if not files:
        raise DataError(f"{name}: there is no such file (in {Path.cwd()})")
    return files


def _open_files(files: Sequence[Path], split: str) -> Dataset:
    for file in files:
        if kind_of(file) is None:
            raise DataError(f"{file}: unknown kind of file; known are {' '.join(KINDS)}")
        if "::" in str(file):  # which fsspec takes for one file system in another
            raise DataError(f"{file}: a name with '::' cannot be opened; rename it")
    names = [str(file) for file in files]
    try:
        reader, options = reader_of(files)
        if opened_as_lists(files):
            return _open_views(files, split)
        return _load_files(reader, split, names, options)
    except DataError:
        raise
    except Exception as error:  # whatever the reader of the format raises
        if len(files) == 1:
            binary = kind_of(files[0]) in (".parquet", ".arrow")
            reason = (not binary and encoding_of(files[0])) or _reason(error)
            raise DataError(f"{files[0]}: cannot be read ({reason})") from error
        features = [_open_files([file], split).features for file in files]
        fault = _unlike(files, features) or f"do not fit ({_reason(error)})"
        raise DataError(f"{names[0]} and {names[-1]} {fault}") from error


def _unlike(files: Sequence[Path], features: Sequence[Mapping[str, Any]]) -> str | None:
    """Says which column of a file is not as in the first one."""
    for file, its in zip(files[1:], features[1:], strict=True):
        for name in {**features[0], **its}:
            kinds = [one.get(name) for one in (features[0], its)]
            if kinds[0] != kinds[1]:
                said = ["missing" if kind is None else _type_of(kind) for kind in kinds]
                return (
                    f"differ: column {name!r} is {said[0]} in {files[0].name} and {said[1]} in"
                    f" {file.name}; write all files with the same columns"
                )
    return None


def _type_of(feature: Any) -> str:
    from datasets import Features

    return str(Features({"": feature}).arrow_schema.field(0).type)


def _load_files(reader: str, split: str, names: list[str], options: dict[str, Any]) -> Dataset:
    # Escaped, as brackets in a name are else a pattern
    files = {_stem(split): [glob.escape(name) for name in names]}
    try:
        dataset = _load(reader, split, data_files=files, **options)
        if reader == "json":
            check_rows(dataset, names)
        whole = reader == "json" and split == _stem(split)
        return with_dates_as_texts(dataset, names) if whole else dataset
    except DataError:
        raise
    except Exception:
        # The first lines of JSON say what types there are; later ones may have others
        features = json_features(names) if reader == "json" else None
        if features is None:
            raise
        return _load(reader, split, data_files=files, features=features)


def _open_views(files: Sequence[Path], split: str) -> Dataset:
    """Opens files whose types `datasets` does not know, in memory."""
    import pyarrow as pa
    from datasets import Dataset

    if _stem(split) != split:
        raise DataError(f"{files[0]}: no part {split} can be taken of a file with list views")
    tables = [table for file in files for table in read_tables(str(file), 0, None)]
    return Dataset(pa.concat_tables(tables))


def _open_folder(folder: Path, split: str, config: str | None) -> Dataset:
    if (folder / "dataset_info.json").exists() or (folder / "dataset_dict.json").exists():
        from datasets import load_from_disk

        try:
            return _pick(load_from_disk(str(folder)), split, str(folder))
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{folder}: cannot be read ({_reason(error)})") from error
    if is_beir_folder(folder):
        from datasets import Dataset

        return Dataset.from_dict(beir_pairs(folder, _stem(split)))
    if _describes_itself(folder):
        try:
            return _load(str(folder), split, name=config)
        except Exception as error:
            raise DataError(f"{folder}: cannot be read ({_reason(error)})") from error
    files = [file for file in sorted(folder.rglob("*")) if kind_of(file)]
    splits = files_by_split(folder, files)
    if not splits:
        raise DataError(f"{folder}: the folder has no data; known are {' '.join(KINDS)}")
    if _stem(split) not in splits:
        raise DataError(f"{folder} has the splits {', '.join(splits)}; got {split!r}")
    return _open_files(splits[_stem(split)], split)


def _describes_itself(folder: Path) -> bool:
    """Returns True if the folder's README lists configurations and files, as on the Hub."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    return bool(re.match(r"---\n(?:(?!---).*\n)*configs:", text))


def _open_rows(source: Any, split: str) -> Dataset:
    from datasets import Dataset, DatasetDict, IterableDataset

    if isinstance(source, IterableDataset):
        raise DataError("a streamed data set has no row numbers; load it without streaming=True")
    if isinstance(source, (Dataset, DatasetDict)):
        return _pick(source, split, "the DatasetDict")
    if isinstance(source, Mapping):
        columns = {str(name): list(values) for name, values in source.items()}
    elif isinstance(source, (list, tuple)):
        for number, row in enumerate(source):
            if not isinstance(row, Mapping):
                raise DataError(f"row {number} must be a dict; it is {row!r}")
        names = dict.fromkeys(name for row in source for name in row)
        columns = {name: [row.get(name) for row in source] for name in names}
    else:
        raise DataError(f"rows must be a list of dicts or a dict of lists; got {_short(source)}")
    if len(columns) > MOST_COLUMNS:
        raise DataError(f"the rows have {len(columns):,} columns; give those that are needed")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns must have the same length; they have {lengths}")
    try:
        return Dataset.from_dict(columns)
    except (TypeError, ValueError) as error:
        for name, values in columns.items():
            _check_one_type(name, values)
        raise DataError(f"the rows cannot be used ({_reason(error)})") from error


def _check_one_type(name: str, values: Sequence[Any]) -> None:
    def kind(value: Any) -> type:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float if is_number else type(value)

    present = [(row, value) for row, value in enumerate(values) if value is not None]
    first, expected = present[0] if present else (0, None)
    for row, value in present:
        if kind(value) is not kind(expected):
            raise DataError(
                f"column {name!r} mixes types: {value!r} is {type(value).__name__} (row {row}), "
                f"{expected!r} is {type(expected).__name__} (row {first})"
            )


def _pick(dataset: Any, split: str, name: str) -> Dataset:
    if not isinstance(dataset, Mapping):
        return dataset
    if split not in dataset:
        raise DataError(f"{name} has the splits {', '.join(dataset)}; got {split!r}")
    return dataset[split]


def _load(path: str, split: str, **options: Any) -> Dataset:
    from datasets import load_dataset

    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # they also raise it
    return cast("Dataset", load_dataset(path, split=split, **options))


def _stem(split: str) -> str:
    """Returns the name of a split without the part taken of it: "train" of "train[:5%]"."""
    return re.split(r"[\[+]", split)[0]


def _reason(error: BaseException) -> str:
    reason = str(error.__cause__ or error).strip().split("\n")[0]
    return reason if reason and "corresponds to no data" not in reason else "no rows"


def _short(source: Any) -> str:
    text = str(source) if isinstance(source, (str, Path)) else repr(source)
    return text if len(text) <= 60 else f"{text[:57]}..."
