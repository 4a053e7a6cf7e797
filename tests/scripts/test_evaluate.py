"""The script that measures models: kinds of data, suites, what it writes, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

import jaxembed
from jaxembed.data import open_dataset
from jaxembed.evaluators import SimilarityEvaluator
from tests.scripts.beir_files import write_beir

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/goldens/encoders/tiny"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file of every kind, of texts of the embedded set."""
    folder = tmp_path_factory.mktemp("data")
    rows = open_dataset("wordnet-gloss").filter(lambda row: row["negative"] is not None)
    rows = rows.select(range(12))
    queries, positives, negatives = (rows[name][:] for name in ("query", "positive", "negative"))
    numbers = list(range(12))
    tables = {
        "sts": {"sentence1": queries, "sentence2": positives, "score": [n / 12 for n in numbers]},
        "pairs": {"left": queries, "right": positives, "label": [n % 2 for n in numbers]},
        "triplets": {"query": queries, "positive": positives, "negative": negatives},
        "bitext": {"source": queries, "target": positives},
        "lists": {
            "query": queries,
            "positive": [[text] for text in positives],
            "negative": [list(two) for two in zip(negatives, positives[::-1], strict=True)],
        },
        "topics": {"text": queries, "label": ["a", "b"] * 6},
        "texts": {"id": [f"t{n}" for n in numbers], "text": queries[:6] + queries[:6]},
        "duplicates": {name: [f"t{n + k}" for n in range(6)] for name, k in (("a", 0), ("b", 6))},
    }
    for name, table in tables.items():
        Dataset.from_dict(table).to_parquet(folder / f"{name}.parquet")
    beir = write_beir(folder / "beir", queries, positives)
    np.save(folder / "teacher.npy", np.ones((12, 24), np.float32))
    (folder / "suite.toml").write_text(
        f"""
        [sts]
        kind = "similarity"
        data = "{folder}/sts.parquet"
        columns = {{ left = "sentence1", right = "sentence2", scores = "score" }}
        [pairs]
        kind = "binary_classification"
        data = "{folder}/pairs.parquet"
        [triplets]
        kind = "triplet"
        data = "{folder}/triplets.parquet"
        [bitext]
        kind = "translation"
        data = "{folder}/bitext.parquet"
        [lists]
        kind = "reranking"
        data = "{folder}/lists.parquet"
        [beir]
        data = "{beir}"
        ks = [1, 10]
        [clusters]
        kind = "clustering"
        data = "{folder}/topics.parquet"
        [topics]
        kind = "classification"
        train = "{folder}/topics.parquet"
        data = "{folder}/topics.parquet"
        [paraphrases]
        kind = "paraphrase_mining"
        data = "{folder}/texts.parquet"
        duplicates = "{folder}/duplicates.parquet"
        [nano]
        kind = "nano_beir"
        names = ["{beir}"]
        """
    )
    return folder


@pytest.fixture
def evaluate(monkeypatch):
    """`scripts/evaluate.py` in this process, on the tiny model."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from evaluate import Config, main

    return lambda **flags: main(Config(**{"model": str(TINY), "cache": None, **flags}))


def test_a_suite_of_every_kind_is_a_table_json_and_pictures(evaluate, data, tmp_path, capsys):
    output = tmp_path / "out"
    flags = {"dims": (8,), "precisions": ("ubinary",)}
    assert evaluate(suite=(str(data / "suite.toml"),), output=output, **flags) == 0
    results = json.loads((output / "results.json").read_text())
    metrics = results["metrics"]
    for name in (
        *("sts/spearman", "pairs/cosine_ap", "triplets/accuracy", "bitext/mean_accuracy"),
        *("lists/ndcg@10", "beir/ndcg@10", "clusters/v_measure", "topics/accuracy"),
        *("paraphrases/average_precision", "nano/mean/ndcg@10"),
        *("sts/spearman_dim_8", "sts/spearman_ubinary"),
    ):
        assert np.isfinite(metrics[name]), name
    assert metrics["paraphrases/average_precision"] == pytest.approx(1)
    assert results["health"].keys() >= {"mean_cosine", "effective_rank"}
    assert "sts/spearman" in capsys.readouterr().out
    for picture in ("scores.png", "dims.png"):
        assert (output / picture).read_bytes().startswith(b"\x89PNG")
    assert "| sts/spearman |" in (output / "results.md").read_text()


def test_the_distance_to_a_teacher(evaluate, data, tmp_path):
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'[t]\nkind = "mse"\ndata = "{data}/topics.parquet"\nteacher = "{data}/teacher.npy"\n'
    )
    evaluate(suite=(str(suite),), output=tmp_path)
    metrics = json.loads((tmp_path / "results.json").read_text())["metrics"]
    texts = open_dataset(data / "topics.parquet")["text"][:]
    expected = -100 * np.mean((jaxembed.load(TINY).encode(texts) - 1) ** 2)
    assert metrics == {"negative_mse": pytest.approx(expected, rel=1e-5)}


def test_values_are_those_of_the_evaluator(evaluate, data, tmp_path):
    evaluate(suite=(str(data / "sts.parquet"),), output=tmp_path)
    metrics = json.loads((tmp_path / "results.json").read_text())["metrics"]
    rows = open_dataset(data / "sts.parquet")
    left, right, scores = (rows[name][:] for name in rows.column_names)
    evaluator = SimilarityEvaluator(left, right, scores)
    encoder = jaxembed.load(TINY)
    expected = evaluator.evaluate(lambda texts, *, role: encoder.encode(texts))
    assert metrics == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "labels", [[True, False] * 6, [1.0, 0.0] * 6, ["1", "0"] * 6, ["true", "false"] * 6]
)
def test_labels_of_pairs_are_labels_whatever_their_type(evaluate, data, tmp_path, capsys, labels):
    rows = open_dataset(data / "pairs.parquet").remove_columns("label")
    rows.add_column("label", labels).to_parquet(tmp_path / "typed.parquet")
    rows.add_column("label", [1, 0] * 6).to_parquet(tmp_path / "whole.parquet")
    found = []
    for name in ("typed", "whole"):
        evaluate(suite=(f"binary_classification:{tmp_path}/{name}.parquet",), output=tmp_path)
        found.append(json.loads((tmp_path / "results.json").read_text())["metrics"])
    assert found[0] == found[1]
    assert "typed.parquet: left = left, right = right, labels = label" in capsys.readouterr().out


def test_whole_classes_are_integers_and_others_words(evaluate, data):
    from suites import Source

    rows = {"sentence": ["a", "b"], "gold_label": [1.0, 0.0], "topic": ["x", "y"]}
    Dataset.from_dict(rows).to_parquet(data / "classes.parquet")
    source = Source(str(data / "classes.parquet"))
    assert (source.list("text"), source.list("label")) == (["a", "b"], [1, 0])
    assert Source(source.data, columns="label=topic").list("label") == ["x", "y"]
    with pytest.raises(ValueError, match="name columns by role, label=topic"):
        Source(source.data, columns="topic").list("label")


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        (("{tmp}/left.jsonl",), "which column holds the scores\\? it could be year, page; name it"),
        (("{tmp}/idx.jsonl",), "which column holds the scores\\? it could be idx; name it"),
        (("no/file.csv",), "no/file.csv"),
        (("ranking:x.csv",), "'ranking' is no kind of evaluation; kinds are similarity"),
        (("triplet:{data}/sts.parquet",), "no negatives to use"),
        (("{data}/sts.parquet", "similarity:{data}/sts.parquet"), "two evaluations have the name"),
        (("clustering:{data}/sts.parquet",), "has no column text; the columns are sentence1"),
        (("classification:{data}/topics.parquet",), "give train too, in a .toml suite"),
        (("{tmp}/empty.toml",), "empty.toml has no evaluation"),
        (("{tmp}/wrong.toml",), r"\[sts\] has the kind 'stss'; kinds are similarity"),
        (("{tmp}/nothing.toml",), r"\[sts\] needs data = a file"),
        (("{tmp}/option.toml",), "similarity takes no such option"),
        (("{tmp}/similarity.toml",), r"beir: similarity must be one of .*, got 'l2'"),
        (("{tmp}/exclude.toml",), "beir: exclude_same_id must be True or False, got 'yes'"),
        (("{tmp}/ks.toml",), "beir: ks must be ranks of 1 or more, such as .*, got 10"),
        (("loss:{data}/sts.parquet",), "sts.parquet: a loss is of a training"),
        (("{tmp}/kinds.toml",), r"\[sts\]: kind must be a text; got \[1\]"),
        (("{tmp}/data.toml",), r"\[sts\]: data must be a text; got 3"),
    ],
)
def test_wrong_suites_are_refused_and_write_nothing(evaluate, data, tmp_path, suite, message):
    (tmp_path / "left.jsonl").write_text(
        '{"sentence1": "a", "sentence2": "b", "year": 1, "page": 2}\n'
    )
    (tmp_path / "idx.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "idx": 3}\n')
    (tmp_path / "empty.toml").write_text("")
    (tmp_path / "wrong.toml").write_text('[sts]\nkind = "stss"\ndata = "x"\n')
    (tmp_path / "nothing.toml").write_text('[sts]\nkind = "similarity"\n')
    (tmp_path / "option.toml").write_text(f'[sts]\ndata = "{data}/sts.parquet"\nkk = 1\n')
    (tmp_path / "kinds.toml").write_text("[sts]\nkind = [1]\n")
    (tmp_path / "data.toml").write_text("[sts]\ndata = 3\n")
    for name, option in {
        "similarity": 'similarity = "l2"',
        "exclude": 'exclude_same_id = "yes"',
        "ks": "ks = 10",
    }.items():
        (tmp_path / f"{name}.toml").write_text(f'[a]\ndata = "{data}/beir"\n{option}\n')
    given = tuple(item.format(data=data, tmp=tmp_path) for item in suite)
    with pytest.raises(ValueError, match=message) as refusal:
        evaluate(suite=given, output=tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_metric_is_named(evaluate, data):
    with pytest.raises(ValueError, match="there is no metric ndcg; there are pearson, spearman"):
        evaluate(suite=(str(data / "sts.parquet"),), metrics=("ndcg",))
