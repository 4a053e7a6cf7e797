"""Writes what sentence-transformers' evaluators say about a model that looks vectors up.

Run from the root of the repository in an environment with sentence-transformers, torch and
datasets:

    python tests/goldens/evaluators/make_models.py

The tests read `models.npz` and `models.json`; they need none of these. The model is a real one,
whose word `t7` is vector 7, so that it cuts, scales and quantises embeddings as the library does.
"""

import json
import tempfile
from pathlib import Path

import datasets
import numpy as np
import sentence_transformers
import torch
from models import nano_tables, write_repository
from sentence_transformers import InputExample, SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    LabelAccuracyEvaluator,
    MSEEvaluator,
    NanoBEIREvaluator,
)
from sentence_transformers.sentence_transformer.losses import SoftmaxLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch.utils.data import DataLoader

FOLDER = Path(__file__).parent
N, D = 160, 28  # texts, and features: no multiple of eight
SIMILARITIES = ["cosine", "dot", "euclidean", "manhattan"]


def model_of(vectors):
    tokenizer = Tokenizer(WordLevel({f"t{row}": row for row in range(N)}, unk_token="t0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    words = StaticEmbedding(tokenizer, embedding_weights=vectors)
    return SentenceTransformer(modules=[words], device="cpu")


def named(rows):
    return [f"t{row}" for row in rows]


def similarity_expected(model, left, right, scores):
    values = {}
    options = [{"truncate_dim": dim} for dim in (5, 16, D)]
    options += [{"precision": name} for name in ("float32", "int8", "uint8", "binary", "ubinary")]
    for option in options:
        evaluator = EmbeddingSimilarityEvaluator(
            named(left),
            named(right),
            scores.tolist(),
            similarity_fn_names=SIMILARITIES,
            **option,
        )
        values[str(*option.values())] = evaluator(model)
    return values


def label_expected(model, left, right, labels, weights, bias):
    loss = SoftmaxLoss(model, D, num_labels=len(bias))
    with torch.no_grad():
        loss.classifier.weight.copy_(torch.from_numpy(weights.T))
        loss.classifier.bias.copy_(torch.from_numpy(bias))
    rows = zip(named(left), named(right), labels.tolist(), strict=True)
    examples = [InputExample(texts=[a, b], label=label) for a, b, label in rows]
    loader = DataLoader(examples, batch_size=32)
    return LabelAccuracyEvaluator(loader, softmax_model=loss)(model)


def main():
    rng = np.random.default_rng(0)
    vectors = rng.normal(0.2, 1, (N, D)).astype(np.float32) * rng.uniform(0.5, 2, (N, 1))
    vectors = vectors.astype(np.float32)
    left = rng.integers(0, N, 200)
    right = (left + rng.integers(1, N, 200)) % N
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.sum(units[left] * units[right], axis=1)
    scores = np.round(4 * (cosines + rng.normal(0, 0.2, 200))) / 2
    weights = rng.normal(size=(3 * D, 3)).astype(np.float32)
    bias = rng.normal(size=3).astype(np.float32)
    labels = rng.integers(0, 3, 200)
    teacher = (vectors + rng.normal(0, 0.3, (N, D))).astype(np.float32)
    model = model_of(vectors)
    tables = nano_tables(rng)
    with tempfile.TemporaryDirectory() as folder:
        repository, cache = write_repository(Path(folder) / "nano", tables), Path(folder) / "cache"
        datasets.config.HF_DATASETS_CACHE = cache
        nano = NanoBEIREvaluator(["msmarco", "NQ"], dataset_id=str(repository))(model)
    corpus, queries, qrels = (
        zip(*columns.values(), strict=True) for columns in tables["NanoNQ"].values()
    )
    relevant = {}
    for query, document in qrels:
        relevant.setdefault(query, set()).add(document)
    corpus = {name: text for name, text in corpus if text}
    retrieval = InformationRetrievalEvaluator(dict(queries), corpus, relevant, truncate_dim=16)
    teach = MSEEvaluator(named(range(N)), named(range(N)), model_of(teacher))
    expected = {
        "sentence_transformers": sentence_transformers.__version__,
        "similarity": similarity_expected(model, left, right, scores),
        "label_accuracy": label_expected(model, left, right, labels, weights, bias),
        "mse": teach(model),
        "nano": nano,
        "retrieval_dim_16": retrieval(model),
        "tables": tables,
    }
    np.savez_compressed(
        FOLDER / "models.npz",
        vectors=vectors,
        left=left,
        right=right,
        scores=scores,
        labels=labels,
        weights=weights,
        bias=bias,
        teacher=teacher,
    )
    (FOLDER / "models.json").write_text(json.dumps(expected, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
