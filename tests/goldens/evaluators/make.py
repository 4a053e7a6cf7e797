"""Writes what sentence-transformers' evaluators say about stored vectors.

Run from the root of the repository in an environment with sentence-transformers and torch:

    python tests/goldens/evaluators/make.py

The tests read `retrieval.npz`, `similarity.npz` and `expected.json`; they need neither library.
"""

import json
from pathlib import Path

import numpy as np
import sentence_transformers
import torch
from sentence_transformers.sentence_transformer.evaluation import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
)
from sentence_transformers.util import cos_sim, dot_score

FOLDER = Path(__file__).parent
KS = [1, 3, 5, 10, 100]
SIMILARITIES = ["cosine", "dot", "euclidean", "manhattan"]


class NoCard:
    def set_evaluation_metrics(self, *ignored):
        pass


class StoredVectors:
    """What the evaluators ask of a model: a text is the name of its vector."""

    model_card_data = NoCard()

    def __init__(self, vectors):
        self.vectors = vectors

    def encode(self, texts, convert_to_tensor=False, **ignored):
        rows = np.stack([self.vectors[text] for text in texts])
        return torch.from_numpy(rows) if convert_to_tensor else rows

    encode_query = encode_document = encode


def retrieval(rng):
    """30 queries, each with 1 to 14 of 140 documents; whole numbers, so that dot products tie."""
    queries = rng.integers(-2, 3, (30, 12)).astype(np.float32)
    corpus = rng.integers(-2, 3, (140, 12)).astype(np.float32)
    relevant = np.zeros((30, 140), bool)
    for row, (query, count) in enumerate(zip(queries, rng.integers(1, 15, 30), strict=True)):
        noisy = corpus @ query + rng.normal(0, 8, 140)
        relevant[row, np.argsort(-noisy)[:count]] = True
    # Cosines of whole numbers tie up to rounding only, which differs between libraries.
    moved = corpus + rng.normal(0, 0.1, corpus.shape).astype(np.float32)
    return {"queries": queries, "dot": corpus, "cosine": moved, "relevant": relevant}


def retrieval_expected(queries, relevant, **corpora):
    names = [f"d{row:03}" for row in range(relevant.shape[1])]  # ties rank by name: corpus order
    values = {}
    for similarity, corpus in corpora.items():
        vectors = dict(zip(names, corpus, strict=True))
        vectors |= {f"q{row}": query for row, query in enumerate(queries)}
        evaluator = InformationRetrievalEvaluator(
            {f"q{row}": f"q{row}" for row in range(len(queries))},
            {name: name for name in names},
            {
                f"q{row}": {names[i] for i in np.flatnonzero(hit)}
                for row, hit in enumerate(relevant)
            },
            corpus_chunk_size=50,
            mrr_at_k=KS,
            ndcg_at_k=KS,
            accuracy_at_k=KS,
            precision_recall_at_k=KS,
            map_at_k=KS,
            score_functions={similarity: {"cosine": cos_sim, "dot": dot_score}[similarity]},
        )
        values |= evaluator(StoredVectors(vectors))
    return values


def similarity(rng):
    """60 pairs; the score follows their closeness with noise, 0 to 5 in halves, so that it ties."""
    left = rng.normal(size=(60, 12)).astype(np.float32)
    noise = rng.uniform(0.1, 3, (60, 1))
    right = (left + noise * rng.normal(size=(60, 12))).astype(np.float32)
    scores = np.clip(np.round(2 * (5 - 1.5 * noise[:, 0] + rng.normal(0, 0.7, 60))) / 2, 0, 5)
    return {"left": left, "right": right, "scores": scores}


def similarity_expected(left, right, scores):
    vectors = {f"l{row}": vector for row, vector in enumerate(left)}
    vectors |= {f"r{row}": vector for row, vector in enumerate(right)}
    evaluator = EmbeddingSimilarityEvaluator(
        [f"l{row}" for row in range(len(left))],
        [f"r{row}" for row in range(len(right))],
        scores.tolist(),
        similarity_fn_names=SIMILARITIES,
    )
    return evaluator(StoredVectors(vectors))


def main():
    rng = np.random.default_rng(0)
    ranked, paired = retrieval(rng), similarity(rng)
    np.savez_compressed(FOLDER / "retrieval.npz", **ranked)
    np.savez_compressed(FOLDER / "similarity.npz", **paired)
    expected = {
        "sentence_transformers": sentence_transformers.__version__,
        "retrieval": retrieval_expected(**ranked),
        "similarity": similarity_expected(**paired),
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
