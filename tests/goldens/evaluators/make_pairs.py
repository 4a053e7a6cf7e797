"""Writes what sentence-transformers' evaluators of pairs and short lists say about stored vectors.

Run from the root of the repository in an environment with sentence-transformers and torch:

    python tests/goldens/evaluators/make_pairs.py

The tests read `pairs.npz` and `pairs.json`; they need neither library. Each evaluator is asked
about random vectors and about vectors of signs, of which all similarities are exact and many tie.
"""

import json
from pathlib import Path

import numpy as np
import sentence_transformers
from make import StoredVectors
from sentence_transformers.sentence_transformer.evaluation import (
    BinaryClassificationEvaluator,
    ParaphraseMiningEvaluator,
    RerankingEvaluator,
    TranslationEvaluator,
    TripletEvaluator,
)
from sentence_transformers.util import cos_sim, dot_score, euclidean_sim, manhattan_sim
from sklearn.metrics import f1_score

FOLDER = Path(__file__).parent
SIMILARITIES = {
    "cosine": cos_sim,
    "dot": dot_score,
    "euclidean": euclidean_sim,
    "manhattan": manhattan_sim,
}
N = 96  # texts, named t0, t1, …


class ListedVectors(StoredVectors):
    def encode(self, texts, convert_to_numpy=True, **options):
        if convert_to_numpy:
            return super().encode(texts, **options)
        return list(super().encode(texts, convert_to_tensor=True))


def vectors(rng):
    """24 groups of 4 texts that lie near each other, at random lengths; and 16 signs for each."""
    centres = np.repeat(rng.normal(size=(N // 4, 16)), 4, axis=0)
    noise = rng.uniform(0.3, 1.5, (N, 1)) * rng.normal(size=(N, 16))
    noisy = (centres + noise) * rng.uniform(0.5, 2, (N, 1))
    return {
        "random": noisy.astype(np.float32),
        "signs": np.where(noisy > 0, 1, -1).astype(np.float32),
    }


def binary(rng):
    """300 pairs in which texts repeat, a third of them within a group."""
    left = rng.integers(0, N, 300)
    near = left // 4 * 4 + (left + rng.integers(1, 4, 300)) % 4  # cosines near 1 tie up to rounding
    labels = (rng.random(300) < 0.35).astype(np.int32)
    return {
        "left": left,
        "right": np.where(labels, near, rng.integers(0, N, 300)),
        "labels": labels,
    }


def binary_expected(model, left, right, labels):
    evaluator = BinaryClassificationEvaluator(
        named(left), named(right), labels.tolist(), similarity_fn_names=list(SIMILARITIES)
    )
    return {name: value for name, value in evaluator(model).items() if name[:4] != "max_"}


def triplet(rng):
    """200 triplets; the positive is of the anchor's group, the negative any text."""
    anchors = rng.integers(0, N, 200)
    positives = anchors // 4 * 4 + rng.integers(0, 4, 200)
    return {"anchors": anchors, "positives": positives, "negatives": rng.integers(0, N, 200)}


def triplet_expected(model, anchors, positives, negatives):
    values = {}
    for similarity in SIMILARITIES:
        for margin in (0, 0.25, 2):
            evaluator = TripletEvaluator(
                named(anchors),
                named(positives),
                named(negatives),
                margin=margin,
                similarity_fn_names=[similarity],
            )
            values[f"{similarity} {margin}"] = evaluator(model)[f"{similarity}_accuracy"]
    return values


def reranking(rng):
    """60 samples of 2 to 16 documents, the positives of the query's group, a text may repeat.

    In longer lists torch leaves the order of equal documents to the machine.
    """
    rows = []
    for sample in range(60):
        query = rng.integers(0, N)
        positive = query // 4 * 4 + rng.integers(0, 4, rng.integers(1, 5))
        negative = rng.integers(0, N, rng.integers(1, 13))
        rows += [(sample, query, document, 1) for document in positive]
        rows += [(sample, query, document, 0) for document in negative]
    return {"rows": np.array(rows)}


def reranking_expected(model, rows):
    samples = []
    for sample in range(rows[-1, 0] + 1):
        _, queries, documents, relevant = rows[rows[:, 0] == sample].T
        samples.append(
            {
                "query": f"t{queries[0]}",
                "positive": named(documents[relevant == 1]),
                "negative": named(documents[relevant == 0]),
            }
        )
    values = {}
    for similarity, function in SIMILARITIES.items():
        for k in (10, 3):
            evaluator = RerankingEvaluator(samples, at_k=k, similarity_fct=function)
            values[f"{similarity} {k}"] = evaluator(model)
    return values


def translation(rng):
    """48 pairs of neighbours; six texts stand in two rows."""
    source = np.arange(0, N, 2)
    target = source + 1
    source[10:13], target[20:23] = source[:3], target[3:6]
    return {"source": source, "target": target}


def translation_expected(model, source, target):
    """MTEB's F1 is scikit-learn's, weighted, of the rows found: of copies the first."""
    values = TranslationEvaluator(named(source), named(target))(model)
    similarities = cos_sim(*(model.encode(named(rows)) for rows in (source, target))).numpy()
    found = np.argmax(np.round(similarities, 5), axis=1)
    f1 = f1_score(np.arange(len(found)), found, average="weighted", zero_division=0)
    return values | {"f1": f1}


def mining(rng):
    """Chains of two or three texts of a group are duplicates; five pairs repeat, turned round."""
    starts = np.arange(0, N, 4)
    pairs = [(start, start + 1) for start in starts]
    pairs += [(start + 1, start + 2) for start in starts[::2]]
    pairs += [(right, left) for left, right in pairs[:5]]
    return {"duplicates": np.array(pairs)}


def mining_expected(model, duplicates):
    texts = {f"id{row}": f"t{row}" for row in range(N)}
    pairs = [(f"id{left}", f"id{right}") for left, right in duplicates]
    values = {}
    for closed in (False, True):
        for max_pairs, top_k in ((500_000, 100), (150, 100), (500_000, 2)):
            evaluator = ParaphraseMiningEvaluator(
                texts,
                pairs,
                add_transitive_closure=closed,
                max_pairs=max_pairs,
                top_k=top_k,
                corpus_chunk_size=40,
            )
            values[f"{closed} {max_pairs} {top_k}"] = evaluator(model)
    return values


def named(rows):
    return [f"t{row}" for row in rows]


TASKS = {
    "binary": (binary, binary_expected),
    "triplet": (triplet, triplet_expected),
    "reranking": (reranking, reranking_expected),
    "translation": (translation, translation_expected),
    "mining": (mining, mining_expected),
}


def main():
    rng = np.random.default_rng(0)
    kinds = vectors(rng)
    arrays, expected = dict(kinds), {"sentence_transformers": sentence_transformers.__version__}
    for task, (make, ask) in TASKS.items():
        data = make(rng)
        arrays |= {f"{task}_{name}": array for name, array in data.items()}
        expected[task] = {
            kind: ask(ListedVectors(dict(zip(named(range(N)), rows, strict=True))), **data)
            for kind, rows in kinds.items()
        }
    np.savez_compressed(FOLDER / "pairs.npz", **arrays)
    (FOLDER / "pairs.json").write_text(json.dumps(expected, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
