"""Reads what `make_pairs.py` wrote; needs neither torch nor sentence-transformers."""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
KINDS = ["random", "signs"]


def read_pairs(task, kind):
    """The arrays of a task, a function that embeds the text `t7` as vector 7, and its values."""
    stored = np.load(FOLDER / "pairs.npz")
    expected = json.loads((FOLDER / "pairs.json").read_text())[task][kind]
    names = [name for name in stored.files if name.startswith(f"{task}_")]
    data = {name.removeprefix(f"{task}_"): stored[name] for name in names}
    vectors = stored[kind]
    return data, lambda texts, *, role: vectors[[int(text[1:]) for text in texts]], expected


def named(rows):
    return [f"t{row}" for row in rows]
