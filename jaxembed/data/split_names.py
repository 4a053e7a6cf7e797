"""Which split each file of a folder is of, as the names of its folders or its own say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from jaxembed.data.errors import DataError

# The words of the Hub, and files beside data that hold none.
WORDS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "testing", "eval", "evaluation"},
}
SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")
BESIDE = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}


def files_by_split(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Returns the files of each split; they are of "train" if no name says another.

    No file is omitted but hidden ones and descriptions of data.

    Raises:
        DataError: some names say a split, others none.
    """
    names = [file.relative_to(folder) for file in files]
    found = {name: split_of(name) for name in names if not _is_beside(name)}
    silent = [name for name, split in found.items() if split is None]
    said = [name for name, split in found.items() if split is not None]
    if silent and said:
        raise DataError(
            f"{folder}: which split is {silent[0]} of? {said[0]} is of {found[said[0]]!r}; say it"
            " in the names of all files, or of none, or give the files themselves"
        )
    splits: dict[str, list[Path]] = {}
    for name, split in found.items():
        splits.setdefault(split or "train", []).append(folder / name)
    return splits


def split_of(name: Path) -> str | None:
    """Returns the split that a word of the outermost folder says, or else of one further in.

    >>> split_of(Path("en/dev/pairs.jsonl")), split_of(Path("pairs-test.jsonl"))
    ('validation', 'test')
    >>> split_of(Path("contest.jsonl")), split_of(Path("data/sft-00000-of-00002.parquet"))
    (None, 'sft')
    """
    if name.parent.name == "data" and (shard := SHARD.match(name.name)):
        return shard[1]
    for part in name.parts:
        words = set(re.split(r"[-._ 0-9]+", part))
        said = [split for split, known in WORDS.items() if words & known]
        if len(said) == 1:
            return said[0]
    return None


def _is_beside(name: Path) -> bool:
    return name.name in BESIDE or any(part.startswith(".") for part in name.parts)
