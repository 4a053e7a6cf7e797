"""Whatever columns a file has: each role has the column that it was drawn for, or it is refused."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxembed.data import DataError, bind_columns, open_dataset
from jaxembed.typing import Roles

# datasets leaves the closing of CSV files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*FileIO:pytest.PytestUnraisableExceptionWarning"),
]
ROLES = {
    "pairs": Roles(("anchors", "positives"), negatives=True),
    "scored": Roles(("left", "right"), {"scores": float}),
    "classes": Roles(("left", "right"), {"labels": int}),
    "single": Roles(("texts",), {"labels": int}),
}
# Names from published data sets, and names that say nothing.
FIRST = ["query", "question", "anchor", "premise", "sentence1", "text1", "title", "body", "en"]
SECOND = ["positive", "pos", "answer", "response", "document", "passage", "hypothesis",
          "sentence2", "text2", "abstract", "summary", "reply", "fr"]  # fmt: skip
ONLY = ["text", "sentence", "query", "utterance", "review"]
SCORES = ["score", "similarity", "label", "relatedness_score", "rating", "grade"]
LABELS = ["label", "labels", "class", "gold_label", "intent", "stars"]
BESIDE = ["id", "idx", "url", "lang", "type", "prompt", "year", "pairID", "query_id", "source",
          "title_length", "domain", "neg", "negative_1", "pos_scores", "docid"]  # fmt: skip
WRITERS = ["pandas.csv", "plain.tsv", "json.jsonl", "pyarrow.parquet", "pandas.parquet",
           "polars.parquet", "polars.arrow"]  # fmt: skip
N = 4


def drawn(seed):
    """Draws the name of a loss's roles, columns in any order, and the column of each role."""
    random = np.random.default_rng(seed)
    kind = list(ROLES)[seed % len(ROLES)]
    names = {"single": [ONLY]}.get(kind, [FIRST, SECOND])
    names = [str(random.choice(those)) for those in names]
    columns: dict[str, list[Any]] = {
        name: [f"{name} {i} {random.integers(9)}" for i in range(N)] for name in names
    }
    meant = dict(zip(ROLES[kind].texts, names, strict=True))
    if kind != "pairs":
        role = next(iter(ROLES[kind].labels))
        name = str(random.choice(SCORES if role == "scores" else LABELS))
        values = random.random(N).round(3) if role == "scores" else np.array([1, 0, 2, 1])
        columns[name], meant[role] = values.tolist(), name
    for name in random.choice(BESIDE, random.integers(3), replace=False):
        number = name in ("id", "idx", "year", "pairID", "title_length", "pos_scores")
        columns[str(name)] = [int(i) if number else f"{name} {i}" for i in range(N)]
    order = random.permutation(list(columns)).tolist()
    places = sorted(order.index(name) for name in names)  # texts without known names have an order
    for place, name in zip(places, names, strict=True):
        order[place] = name
    return kind, {name: columns[name] for name in order}, meant


def write(folder, writer, columns):
    path = folder / f"rows.{writer.partition('.')[2]}"
    table = pa.table(columns)
    if writer == "pandas.csv":
        pd.DataFrame(columns).to_csv(path, index=False)
    elif writer == "plain.tsv":
        rows = zip(*columns.values(), strict=True)
        path.write_text("\n".join("\t".join(map(str, row)) for row in [columns, *rows]) + "\n")
    elif writer == "json.jsonl":
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif writer == "pandas.parquet":
        pd.DataFrame(columns).to_parquet(path, index=None)
    elif writer == "pyarrow.parquet":
        pq.write_table(table, path)
    else:
        kinds = {pa.string(): pa.string_view() if path.suffix == ".arrow" else pa.large_string()}
        schema = [(field.name, kinds.get(field.type, field.type)) for field in table.schema]
        table = table.cast(pa.schema(schema))
        if path.suffix == ".parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table)
    return path


def check(folder, seed):
    """Binds a drawn file; returns whether it was bound without names rather than refused."""
    kind, columns, meant = drawn(seed)
    data = open_dataset(write(folder, WRITERS[seed // len(ROLES) % len(WRITERS)], columns))
    refusal, rows = None, None
    try:
        rows = bind_columns(data, ROLES[kind])
    except DataError as error:
        refusal = str(error)
        rows = bind_columns(data, ROLES[kind], meant)
    assert refusal is None or ("--columns" in refusal and "\n" not in refusal)
    found = {role: its[0].column_names[0] for role, its in rows.columns.items()}
    assert found == meant, f"{columns}: {rows.taken}"
    for role in ROLES[kind].texts:
        assert rows.texts(role, range(N)) == columns[meant[role]]
    for role in ROLES[kind].labels:
        np.testing.assert_allclose(rows.labels(role, range(N)), columns[meant[role]], rtol=1e-6)
    return refusal is None


def check_all(folder, seeds):
    outcomes = []
    for seed in seeds:
        (folder / str(seed)).mkdir()
        outcomes.append(check(folder / str(seed), seed))
    assert outcomes.count(True) > len(outcomes) / 4  # neither all is refused …
    assert outcomes.count(False) > len(outcomes) / 20  # … nor all taken


def test_drawn_files_are_bound_rightly_or_refused(tmp_path):
    check_all(tmp_path, range(56))


@pytest.mark.exhaustive
def test_all_drawn_files_are_bound_rightly_or_refused(tmp_path):
    check_all(tmp_path, range(56, 400))
