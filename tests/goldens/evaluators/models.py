"""The tables of `make_models.py` and a repository of them; needs neither torch nor the Hub."""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
SUBSETS = ("corpus", "queries", "qrels")


def read_models():
    """The arrays, a function that embeds the text `t7` as vector 7, and what was found."""
    stored = np.load(FOLDER / "models.npz")
    vectors = stored["vectors"]
    expected = json.loads((FOLDER / "models.json").read_text())
    return stored, lambda texts, *, role: vectors[[int(text[1:]) for text in texts]], expected


def nano_tables(rng):
    """Two data sets of 12 queries and 100 documents, one of them without a text."""
    tables = {}
    for name in ("NanoMSMARCO", "NanoNQ"):
        texts = rng.permutation(160)
        qrels = [(f"q{row}", f"d{d}") for row in range(12) for d in rng.choice(100, 1 + row % 4)]
        qrels = list(dict.fromkeys(qrels))
        tables[name] = {
            "corpus": {
                "_id": [f"d{row}" for row in range(101)],
                "text": [*(f"t{text}" for text in texts[:100]), ""],
            },
            "queries": {
                "_id": [f"q{row}" for row in range(12)],
                "text": [f"t{text}" for text in texts[100:112]],
            },
            "qrels": {
                "query-id": [query for query, _ in qrels],
                "corpus-id": [document for _, document in qrels],
            },
        }
    return tables


def write_repository(folder, tables):
    """Writes a folder as `datasets` opens it: subsets, with a split for each data set."""
    lines = ["---", "configs:"]
    for subset in SUBSETS:
        lines += [f"- config_name: {subset}", "  data_files:"]
        for split, by_subset in tables.items():
            lines += [f"  - split: {split}", f"    path: {subset}/{split}.jsonl"]
            (folder / subset).mkdir(parents=True, exist_ok=True)
            names, columns = by_subset[subset].keys(), by_subset[subset].values()
            rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / subset / f"{split}.jsonl").write_text(text)
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder
