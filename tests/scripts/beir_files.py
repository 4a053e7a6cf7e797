"""A retrieval task as files: BEIR's three tables, each query with one document."""

import json
from pathlib import Path


def write_beir(folder: Path, queries: list[str], documents: list[str]) -> Path:
    """Writes the tables as JSON lines into a new folder; document i answers query i."""
    folder.mkdir()
    for name, rows in {
        "corpus": [{"_id": f"d{i}", "text": x} for i, x in enumerate(documents)],
        "queries": [{"_id": f"q{i}", "text": x} for i, x in enumerate(queries)],
        "qrels": [
            {"query-id": f"q{i}", "corpus-id": f"d{i}", "score": 1} for i in range(len(queries))
        ],
    }.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
