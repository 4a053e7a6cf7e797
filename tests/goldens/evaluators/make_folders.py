"""Writes what sentence-transformers' evaluators and miner say about model folders.

Run from the root of the repository in an environment with sentence-transformers, torch and
datasets:

    python tests/goldens/evaluators/make_folders.py

The tests read `folders.json`; they need none of these. Each folder is `encoders/tiny` without its
Normalize, with settings of its own in config_sentence_transformers.json.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import sentence_transformers
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    RerankingEvaluator,
    TripletEvaluator,
)
from sentence_transformers.util import mine_hard_negatives

FOLDER = Path(__file__).parent
TINY = FOLDER.parent / "encoders" / "tiny"
KS = [1, 3, 10]
BOTH = {"query": "query: ", "document": "passage: "}
SETTINGS = {
    "plain": {},
    "prompts": {"prompts": BOTH},
    "query_alone": {"prompts": {"query": "query: "}, "truncate_dim": 7},
    "passage_dot_truncated": {
        "prompts": {"query": "query: ", "passage": "text: "},
        "similarity_fn_name": "dot",
        "truncate_dim": 9,
    },
    "corpus_default": {"prompts": {"corpus": "a text: "}, "default_prompt_name": "corpus"},
    "default_manhattan": {
        "prompts": {**BOTH, "pair": "a pair: "},
        "default_prompt_name": "pair",
        "similarity_fn_name": "manhattan",
    },
    "dot": {"similarity_fn_name": "dot"},
    "euclidean": {"similarity_fn_name": "euclidean", "prompts": BOTH, "truncate_dim": 5},
    "truncated": {"truncate_dim": 5},
}


def write_folder(folder, settings):
    shutil.copytree(TINY, folder)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:3]))
    settings = {"similarity_fn_name": "cosine", "prompts": {}, **settings}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def texts(rng, n):
    """Sentences of two to nine words of the tiny model's vocabulary."""
    vocabulary = json.loads((TINY / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isalpha() and len(word) > 2)
    found = {}
    while len(found) < n:
        found[" ".join(rng.choice(words, rng.integers(2, 10)))] = None
    return list(found)


def make_data(rng):
    queries, documents = texts(rng, 12), texts(rng, 40)
    scores = np.round(rng.uniform(0, 5, 12), 1)
    return {
        "queries": queries,
        "documents": documents,
        "negatives": documents[12:24],
        "scores": scores.tolist(),
        "labels": (scores > 2.5).astype(int).tolist(),
    }


def evaluate(model, data):
    queries, documents, negatives = (data[name] for name in ("queries", "documents", "negatives"))
    positives = documents[: len(queries)]
    at_k = ("mrr", "ndcg", "accuracy", "precision_recall", "map")
    evaluators = {
        "retrieval": InformationRetrievalEvaluator(
            {f"q{row}": text for row, text in enumerate(queries)},
            {f"d{row:02}": text for row, text in enumerate(documents)},
            {f"q{row}": {f"d{row:02}"} for row in range(len(queries))},
            **{f"{name}_at_k": KS for name in at_k},
        ),
        "triplets": TripletEvaluator(queries, positives, negatives),
        "sts": EmbeddingSimilarityEvaluator(queries, positives, data["scores"]),
        "pairs": BinaryClassificationEvaluator(queries, positives, data["labels"]),
        "lists": RerankingEvaluator(
            [
                {"query": query, "positive": [positive], "negative": documents[12:]}
                for query, positive in zip(queries, positives, strict=True)
            ],
            similarity_fct=model.similarity,
        ),
    }
    values = {}
    for name, evaluator in evaluators.items():
        for metric, value in evaluator(model).items():
            if name != "pairs" or metric.endswith("_ap"):
                values[f"{name}/{metric}"] = float(value)
    return values


def mine(model, data):
    pairs = Dataset.from_dict({"query": data["queries"], "answer": data["documents"][:12]})
    mined = mine_hard_negatives(
        pairs,
        model,
        corpus=data["documents"],
        num_negatives=3,
        range_max=38,
        absolute_margin=0.0,
        output_format="n-tuple",
        output_scores=True,
        verbose=False,
    )
    return mined.to_list()


def main():
    data = make_data(np.random.default_rng(0))
    cases = {}
    for name, settings in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = str(write_folder(Path(folder) / "model", settings))
            model = SentenceTransformer(path, device="cpu")
            cases[name] = {
                "settings": settings,
                "values": evaluate(model, data),
                "mined": mine(model, data),
            }
    expected = {"sentence_transformers": sentence_transformers.__version__, "data": data}
    expected["cases"] = cases
    (FOLDER / "folders.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
