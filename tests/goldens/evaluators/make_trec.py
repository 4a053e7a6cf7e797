"""Writes what trec_eval says about rankings of stored vectors with graded judgements.

Run from the root of the repository in an environment with pytrec-eval-terrier 0.5 and NumPy:

    python tests/goldens/evaluators/make_trec.py

The tests read `trec.npz` and `trec.json`; they need no trec_eval.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytrec_eval

FOLDER = Path(__file__).parent
KS = (1, 3, 10, 30)
QUERIES, DOCUMENTS, D = 40, 150, 10


def main():
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(QUERIES, D)).astype(np.float32)
    documents = rng.normal(size=(DOCUMENTS, D)).astype(np.float32)
    units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, documents)]
    scores = units[0].astype(np.float64) @ units[1].T
    judged = np.full(scores.shape, -1)  # not judged
    for row, count in enumerate(rng.integers(2, 40, QUERIES)):
        near = np.argsort(-scores[row] - rng.normal(0, 0.4, DOCUMENTS))[:count]
        judged[row, near] = rng.integers(0, 4, count)
        judged[row, near[0]] = 1 + row % 3  # at least one is relevant
    qrels = {
        f"q{row}": {f"d{i}": int(judged[row, i]) for i in np.flatnonzero(judged[row] >= 0)}
        for row in range(QUERIES)
    }
    cuts = ",".join(map(str, KS))
    measures = {f"{name}.{cuts}" for name in ("ndcg_cut", "P", "recall", "success", "map_cut")}
    run = {
        f"q{row}": {f"d{i}": float(scores[row, i]) for i in range(DOCUMENTS)}
        for row in range(QUERIES)
    }
    found = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    for k in KS:  # its reciprocal rank knows no cut-off: leave the rest of the run out
        first = {
            query: dict(sorted(row.items(), key=lambda item: -item[1])[:k])
            for query, row in run.items()
        }
        ranks = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(first)
        for query, values in ranks.items():
            found[query][f"recip_rank_{k}"] = values["recip_rank"]
    expected = {
        "pytrec_eval": version("pytrec-eval-terrier"),
        "queries": {query: found[query] for query in qrels},
    }
    np.savez_compressed(FOLDER / "trec.npz", queries=queries, documents=documents, judged=judged)
    (FOLDER / "trec.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
