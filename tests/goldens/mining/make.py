"""Records what sentence-transformers' `mine_hard_negatives` makes of stored vectors.

python make.py
"""

import json
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers.util import cos_sim, mine_hard_negatives, pairwise_cos_sim

HERE = Path(__file__).parent
ALL = 40  # documents; so many candidates are all, and then no window hides one

CASES = [
    {"num_negatives": 3, "range_max": 10},
    {"num_negatives": 4, "range_min": 2, "range_max": 8},
    {"num_negatives": 2, "range_max": ALL, "absolute_margin": 0.2},
    {"num_negatives": 2, "range_max": ALL, "relative_margin": 0.3},
    {"num_negatives": 3, "range_max": ALL, "max_score": 0.35},
    {"num_negatives": 6, "range_max": ALL, "min_score": 0.2},
    {
        "num_negatives": 2,
        "range_min": 1,
        "range_max": ALL,
        "absolute_margin": 0.05,
        "relative_margin": 0.2,
        "max_score": 0.5,
        "min_score": -0.4,
    },
]
FORMATS = [  # of data where some queries have fewer negatives, but all have one
    {"output_format": "triplet"},
    {"output_format": "n-tuple"},
    {"output_format": "n-tuple", "output_scores": True},
    {"output_format": "labeled-pair"},
    {"output_format": "labeled-list"},
]


class Stored:
    """Stands in for a model: looks up the vector of a text by its number."""

    device = torch.device("cpu")
    similarity = staticmethod(cos_sim)
    similarity_pairwise = staticmethod(pairwise_cos_sim)

    def __init__(self, queries: np.ndarray, documents: np.ndarray) -> None:
        self.vectors = {"query": queries, "document": documents}

    def encode(self, texts: list[str], **_) -> np.ndarray:
        named = (text.split() for text in texts)
        rows = np.stack([self.vectors[kind][int(number)] for kind, number in named])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    encode_query = encode_document = encode


def main() -> None:
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(12, 8)).astype(np.float32)
    documents = rng.normal(size=(ALL, 8)).astype(np.float32)
    pairs = [(query, 2 * query + place) for place in range(2) for query in range(0, 12, place + 1)]
    for query, document in pairs[::2]:  # half of the answers are near; some others are opposite
        documents[document] += queries[query]
    pairs += [(0, 30), pairs[0]]
    rows = {
        "question": [f"query {query}" for query, _ in pairs],
        "answer": [f"document {document}" for _, document in pairs],
    }
    corpus = [f"document {number}" for number in range(ALL)]
    runs = [{**case, "output_format": "n-tuple", "output_scores": True} for case in CASES]
    some_lack = {"num_negatives": 5, "range_max": ALL, "min_score": 0.45, "max_score": 0.9}
    runs += [{**some_lack, **chosen} for chosen in FORMATS]
    recorded = []
    for settings in runs:
        model = Stored(queries, documents)
        mined = mine_hard_negatives(
            Dataset.from_dict(rows), model, corpus=corpus, verbose=False, **settings
        )
        recorded.append({"settings": settings, "rows": mined.to_list()})
        print(len(mined), settings)
    np.savez(HERE / "vectors.npz", queries=queries, documents=documents)
    content = {"data": rows, "corpus": corpus, "cases": recorded}
    (HERE / "mined.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
