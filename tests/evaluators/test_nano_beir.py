"""NanoBEIR against sentence-transformers, from a repository, folders and memory; and refusals."""

import json
import shutil

import datasets
import numpy as np
import pytest

from jaxembed.evaluators import RetrievalEvaluator
from jaxembed.evaluators.nano_beir import NANO, nano_beir
from tests.goldens.evaluators.models import read_models, write_repository

TABLES = {
    "corpus": {"_id": ["d1", "d2", "d3"], "text": ["cat", "giraffe", ""]},
    "queries": {"_id": ["q1", "q2"], "text": ["ox", "elephant"]},
    "qrels": {"query-id": ["q1", "q2"], "corpus-id": ["d1", "d2"]},
}


@pytest.fixture(scope="module")
def models():
    return read_models()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def in_memory(**changes):
    """Opens what stands in TABLES, changed."""
    return lambda repository, subset, split: changes.get(subset, TABLES[subset])


def member(suite, name):
    evaluator = suite.evaluators[name]
    assert isinstance(evaluator, RetrievalEvaluator)
    return evaluator


def write_folder(folder, tables):
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        keys, columns = tables[name].keys(), tables[name].values()
        rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = zip(*tables["qrels"].values(), strict=True)
    lines = [f"{query}\t{document}\t1\n" for query, document in pairs]
    (folder / "qrels" / "test.tsv").write_text("".join(lines))


def assert_equals_nano_beir_evaluator(found, expected):
    checked = 0
    for name, value in expected.items():
        data, _, metric = name.partition("_cosine_")
        ours = f"{'mean' if data == 'NanoBEIR_mean' else data}/{metric}"
        assert found[ours] == pytest.approx(value, rel=1e-6), name
        checked += 1
    assert checked == 3 * 15


def test_a_repository_has_the_values_of_sentence_transformers(models, tmp_path):
    _, embed, expected = models
    repository = write_repository(tmp_path / "nano", expected["tables"])
    suite = nano_beir(["msmarco", "NQ"], dataset=str(repository))
    assert suite.main_metric == "mean/ndcg@10"
    assert list(suite.evaluators) == ["NanoMSMARCO", "NanoNQ"]
    assert_equals_nano_beir_evaluator(suite.evaluate(embed), expected["nano"])


def test_folders_have_the_values_of_sentence_transformers(models, tmp_path):
    _, embed, expected = models
    for name, tables in expected["tables"].items():
        tables = tables | {"corpus": {key: rows[:-1] for key, rows in tables["corpus"].items()}}
        write_folder(tmp_path / name, tables)  # without the document that has no text
    suite = nano_beir([str(tmp_path / name) for name in expected["tables"]])
    assert suite.main_metric == "mean/ndcg@10"
    assert_equals_nano_beir_evaluator(suite.evaluate(embed), expected["nano"])


def test_what_is_opened_follows_from_the_name():
    opened = []

    def open(repository, subset, split):
        opened.append((repository, subset, split))
        return TABLES[subset]

    nano_beir(["FEVER", "owner/Set"], open)
    nano_beir(["scifact"], open, dataset="owner/NanoBEIR-de")
    subsets = ("corpus", "queries", "qrels")
    places = [
        ("sentence-transformers/NanoBEIR-en", "NanoFEVER"),
        ("owner/Set", "train"),
        ("owner/NanoBEIR-de", "NanoSciFact"),
    ]
    assert opened == [(name, subset, split) for name, split in places for subset in subsets]


def test_all_data_sets_of_nano_beir_are_the_default():
    suite = nano_beir(open=in_memory())
    assert len(suite.evaluators) == len(NANO) == 13
    assert suite.main_metric == "mean/ndcg@10"


def test_options_are_those_of_the_evaluators():
    suite = nano_beir(["nq"], in_memory(), ks=(1, 3), similarity="dot")
    assert suite.main_metric == "mean/ndcg@3"
    assert member(suite, "NanoNQ").similarity == "dot"


def test_documents_without_a_text_are_left_out_unless_one_is_judged():
    evaluator = member(nano_beir(["nq"], in_memory()), "NanoNQ")
    assert list(evaluator.corpus) == ["d1", "d2"]
    qrels = {"query-id": ["q1"], "corpus-id": ["d3"]}
    evaluator = member(nano_beir(["nq"], in_memory(qrels=qrels)), "NanoNQ")
    assert list(evaluator.corpus) == ["d1", "d2", "d3"]


@pytest.mark.parametrize("kind", ["dict", "dataset"])
def test_a_row_of_qrels_may_list_several_documents(kind):
    qrels = {"query-id": ["q1", "q2"], "corpus-id": [["d1", "d2"], ["d2"]]}
    table = qrels if kind == "dict" else datasets.Dataset.from_dict(qrels)
    evaluator = member(nano_beir(["nq"], in_memory(qrels=table)), "NanoNQ")
    assert evaluator.qrels == {"q1": {"d1": 1, "d2": 1}, "q2": {"d2": 1}}


def test_scores_are_gains_where_there_are_any():
    qrels = TABLES["qrels"] | {"score": [3, 0]}
    evaluator = member(nano_beir(["owner/set"], in_memory(qrels=qrels)), "set")
    assert evaluator.qrels == {"q1": {"d1": 3}}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "a suite needs at least one evaluator"),
        ("nq", "names must be a sequence of names, got the text 'nq'"),
        (["nq", "NQ"], "two data sets have the name 'NanoNQ': drop or rename one"),
        (["a/set", "b/set"], "two data sets have the name 'set'"),
        (["nqq"], "'nqq' is no folder or owner/name, nor one of ClimateFEVER, .*Touche2020"),
    ],
)
def test_wrong_names_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        nano_beir(names, in_memory())


def test_what_cannot_be_opened_is_named_in_one_line(models, tmp_path):
    tables = {"NanoNQ": models[2]["tables"]["NanoNQ"]}
    repository = write_repository(tmp_path / "nano", tables)
    shutil.rmtree(repository / "queries")
    for name, dataset, message in (
        ("nq", repository, "cannot open queries, split NanoNQ, of .*nano"),
        ("fever", repository, "cannot open corpus, split NanoFEVER, of .*nano"),
        ("no/where", repository, "cannot open corpus, split train, of no/where"),
    ):
        with pytest.raises(ValueError, match=message) as refusal:
            nano_beir([name], dataset=str(dataset))
        assert "\n" not in str(refusal.value)


def test_a_missing_column_is_named():
    qrels = {"query-id": ["q1"], "document": ["d1"]}
    with pytest.raises(ValueError, match="qrels has no column 'corpus-id'"):
        nano_beir(["nq"], in_memory(qrels=qrels))


def test_a_model_is_asked_in_its_roles():
    roles = []

    def embed(texts, *, role):
        roles.append(role)
        return np.array([[len(text), 1] for text in texts], np.float32)

    nano_beir(["nq"], in_memory()).evaluate(embed)
    assert roles == ["query", "document"]
