"""The mining script as users run it: against the PyTorch library, killed, resumed, fed rubbish."""

import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxembed.data import bind_columns, open_dataset
from jaxembed.encoders import load
from jaxembed.typing import Roles
from tests.scripts.many_hosts import environment

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/goldens/encoders/tiny"
GOLDENS = ROOT / "tests/goldens/mining"
MINED = json.loads((GOLDENS / "mined.json").read_text())
ENVIRONMENT = environment(1)
load_once = functools.cache(load)  # so that its programs are compiled once for all tests


@pytest.fixture
def mine(monkeypatch):
    """`scripts/mine_negatives.py` in this process: `mine(flag=value)`."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from mine_negatives import main
    from mining_flags import Config

    monkeypatch.setattr("mining_inputs.load", load_once)
    return lambda **flags: main(Config(**{"cache": None, **flags}))


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (str(file),)


def saved(file, vectors):
    np.save(file, vectors)
    return (str(file),)


def read(file):
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    return open_dataset(str(file)).to_list()


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The library's data, with its vectors as stored embeddings, and one output for all tests."""
    folder = tmp_path_factory.mktemp("golden")
    vectors, data = np.load(GOLDENS / "vectors.npz"), MINED["data"]
    pairs = zip(data["question"], data["answer"], strict=True)
    queries = [int(name.split()[1]) for name in data["question"]]
    halves = np.split(vectors["documents"], [25])
    return {
        "data": write(folder / "data.jsonl", [{"question": q, "answer": a} for q, a in pairs]),
        "corpus": write(folder / "corpus.jsonl", [{"text": text} for text in MINED["corpus"]]),
        "embeddings_of_queries": saved(folder / "queries.npy", vectors["queries"][queries]),
        "embeddings_of_corpus": tuple(
            name
            for number, half in enumerate(halves)
            for name in saved(folder / f"corpus-{number}.npy", half)
        ),
        "candidates": 40,
        "output": folder / "mined",
    }


# What comes out ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", MINED["cases"], ids=lambda case: str(case["settings"]))
def test_rows_are_those_of_the_library(mine, golden, case):
    settings = dict(case["settings"])
    kind = "scored" if settings.pop("output_scores", False) else settings["output_format"]
    keep = kind not in ("n-tuple", "scored")
    assert mine(**golden, **settings | {"output_format": kind, "keep_incomplete": keep}) == 0
    rows = read(golden["output"] / "negatives.parquet")
    assert [[*row] for row in rows] == [[*row] for row in case["rows"]]
    for row, expected in zip(rows, case["rows"], strict=True):
        np.testing.assert_allclose(
            row.pop("scores", 0), expected.get("scores", 0), atol=1e-6, strict=False
        )
        assert row == {name: value for name, value in expected.items() if name != "scores"}


def test_other_filters_do_not_search_again(mine, golden, capsys):
    mine(**golden)
    capsys.readouterr()
    mine(**golden, num_negatives=2, max_score=0.9)
    assert "12 queries are done" in capsys.readouterr().out


def test_more_candidates_than_documents_are_all_documents(mine, golden, tmp_path):
    flags = {**golden, "output": tmp_path / "mined"}
    mine(**flags, keep_incomplete=True)
    expected = read(tmp_path / "mined/negatives.parquet")
    mine(**flags | {"candidates": 10**9, "output": tmp_path / "more"}, keep_incomplete=True)
    assert read(tmp_path / "more/negatives.parquet") == expected


PAIRS = [(f"cat {n}", f"{n} cats sit on a mat") for n in range(20)]
PAIRS += [
    ("cat 3", "three cats"),
    ("cat 3", "3 cats sit on a mat"),
    ("dog", "cat 5"),
    ("cat 5", "a cat"),
]


@pytest.fixture
def pairs(tmp_path):
    """Pairs of texts: "cat 3" has several answers, and "cat 5" is a query and an answer."""
    return write(tmp_path / "pairs.jsonl", [{"query": q, "positive": a} for q, a in PAIRS])


@pytest.fixture(scope="module")
def tiny():
    return load_once(str(TINY), dtype="float32", max_seq_length=None, source="auto")


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def expected_negatives(queries, documents, similarity, num_negatives):
    """Sorts the documents for each query, but for its answers and the query's own text."""
    found = {}
    for query, its in zip(queries, similarity, strict=True):
        answers = {a for q, a in PAIRS if q == query}
        ranked = [documents[i] for i in np.argsort(-its, kind="stable")]
        found[query] = [d for d in ranked if d not in answers and d != query][:num_negatives]
    return found


def test_texts_are_encoded_with_their_prompts_and_answers_are_no_negatives(
    mine, tiny, pairs, tmp_path, capsys
):
    output = tmp_path / "made/mined.jsonl"
    flags = {"query_prompt_name": "query", "document_prompt": "text: ", "shard_size": 9}
    assert mine(model=str(TINY), data=pairs, output=output, num_negatives=4, **flags) == 0
    queries = list(dict.fromkeys(q for q, _ in PAIRS))
    documents = list(dict.fromkeys(a for _, a in PAIRS))
    similarity = (
        unit(tiny.encode(queries, prompt="query: "))
        @ unit(tiny.encode(documents, prompt="text: ")).T
    )
    negatives = expected_negatives(queries, documents, similarity, 4)
    rows = read(output)
    assert [(row["query"], row["positive"]) for row in rows] == [
        (query, answer)
        for query in queries
        for answer in dict.fromkeys(a for q, a in PAIRS if q == query)
    ]
    for row in rows:
        assert [row[f"negative_{i}"] for i in range(1, 5)] == negatives[row["query"]]
    text = capsys.readouterr().out
    assert "21 queries, 23 answers, 23 documents; 0 queries are done" in text
    assert "embeddings-documents-00002.npy  23/23" in text
    assert "found-00002.npz  21/21" in text
    assert "queries    21 all, 0 with fewer than 4 negatives, 0 with none, 21 written" in text
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((tmp_path / "made/mined.mining/report.json").read_text())
    n_found = 21 * 23 - 23 - 1  # all but the answers, and "cat 5" for itself
    assert report["candidates"] == {"found": n_found, "left": n_found, "taken": 84}
    positives = [
        similarity[queries.index(r["query"]), documents.index(r["positive"])] for r in rows
    ]
    assert report["similarities"]["answers"]["mean"] == pytest.approx(np.mean(positives), abs=1e-5)


def test_the_output_is_what_a_training_reads(mine, golden, tmp_path):
    mine(**golden | {"output": tmp_path / "mined.parquet"}, output_format="triplet")
    roles = Roles(("anchors", "positives"), negatives=True)
    data = open_dataset(str(tmp_path / "mined.parquet"))
    rows = bind_columns(data, roles, "question,answer", use_negatives=True)
    assert (len(rows), rows.max_negatives) == (57, 1)


def test_scores_of_a_second_model_decide(mine, tiny, pairs, tmp_path):
    flags = {"model": str(TINY), "data": pairs, "candidates": 6, "output_format": "scored"}
    flags["no_prompts"] = True
    prompts = ("query: ", "")
    mine(**flags, output=tmp_path / "mined", rescore=str(TINY), rescore_prompts=prompts)
    queries = list(dict.fromkeys(q for q, _ in PAIRS))
    documents = list(dict.fromkeys(a for _, a in PAIRS))
    of_documents = unit(tiny.encode(documents))
    candidates = expected_negatives(
        queries, documents, unit(tiny.encode(queries)) @ of_documents.T, 6
    )
    scores = unit(tiny.encode(queries, prompt="query: ")) @ of_documents.T
    for row in read(tmp_path / "mined/negatives.parquet"):
        its = dict(zip(documents, scores[queries.index(row["query"])], strict=True))
        best = sorted(candidates[row["query"]], key=lambda document: -its[document])[:3]
        assert [row["negative_1"], row["negative_2"], row["negative_3"]] == best
        known = [its[text] for text in (row["positive"], *best)]
        np.testing.assert_allclose(row["scores"], known, atol=1e-5)


def test_a_corpus_with_titles_joins_them_and_lends_what_it_lacks_to_the_model(
    mine, tiny, pairs, tmp_path
):
    corpus = [{"_id": str(n), "title": f"Cat {n}", "text": "sits"} for n in range(5)]
    corpus += [
        {"_id": "5", "title": None, "text": "a cat"},
        {"_id": "6", "title": "", "text": "sits"},
    ]
    texts = [f"Cat {n} sits" for n in range(5)] + ["a cat", "sits"]
    flags = {"corpus": write(tmp_path / "corpus.jsonl", corpus), "data": pairs}
    flags["embeddings_of_corpus"] = saved(
        tmp_path / "corpus.npy", tiny.encode(texts).astype(np.float16)
    )
    mine(model=str(TINY), **flags, output=tmp_path / "mined.jsonl", num_negatives=26)
    for row in read(tmp_path / "mined.jsonl"):
        negatives = [row[f"negative_{place}"] for place in range(1, 27)]
        answers = {a for q, a in PAIRS if q == row["query"]}
        all_texts = {*texts, *(a for _, a in PAIRS)}
        assert set(negatives) <= all_texts - answers - {row["query"]}
        assert len(set(negatives)) == 26


def test_lists_of_answers_and_incomplete_rows(mine, tmp_path, capsys):
    rows = [{"query": f"cat {n}", "answers": [f"{n} cats", f"{n} felines"]} for n in range(3)]
    rows += [{"query": "dog", "answers": []}, {"query": "", "answers": ["a dog"]}]
    data = write(tmp_path / "rows.jsonl", rows)
    flags = {"model": str(TINY), "columns": ("query", "answers"), "num_negatives": 4}
    mine(data=data, output=tmp_path / "mined.jsonl", drop_incomplete=True, **flags)
    text = capsys.readouterr().out
    assert "left out 1 rows with no text in answers" in text
    assert "left out 1 rows without a text or label that it needs" in text
    assert "3 queries, 6 answers, 6 documents" in text
    assert len(read(tmp_path / "mined.jsonl")) == 6


@pytest.mark.parametrize("kind", ["n-tuple", "labeled-list"])
def test_queries_with_too_few_negatives_are_left_out_or_kept(mine, golden, tmp_path, kind, capsys):
    flags = golden | {"output": tmp_path / "mined.jsonl", "output_format": kind}
    flags |= {"num_negatives": 6, "min_score": 0.45}
    mine(**flags)
    complete = read(tmp_path / "mined.jsonl")
    text = capsys.readouterr().out
    n_queries = len({row["question"] for row in complete})
    assert 0 < n_queries < 12
    counts = f"{12 - n_queries} with fewer than 6 negatives, 0 with none, {n_queries} written"
    assert counts in text
    assert "--keep-incomplete also writes those" in text
    mine(**flags, keep_incomplete=True)
    kept = read(tmp_path / "mined.jsonl")
    assert len(kept) == 19
    assert [row for row in kept if row in complete] == complete
    if kind == "n-tuple":
        assert all(row["negative_1"] is not None for row in kept)
        assert any(row["negative_6"] is None for row in kept)
    else:
        assert all(row["labels"] == [1] + [0] * (len(row["answer"]) - 1) for row in kept)
        assert {len(row["labels"]) for row in kept} >= {3, 7}


def test_random_negatives_do_not_depend_on_shards(mine, golden, tmp_path):
    flags = {**golden, "sampling": "random", "seed": 3}
    for size in (5, 100):
        mine(**flags | {"output": tmp_path / f"{size}.jsonl", "shard_size": size})
    assert read(tmp_path / "5.jsonl") == read(tmp_path / "100.jsonl")
    mine(**flags | {"output": tmp_path / "5.jsonl", "shard_size": 5, "seed": 4})
    assert read(tmp_path / "5.jsonl") != read(tmp_path / "100.jsonl")


def test_queries_with_many_answers_are_searched_a_few_at_a_time(
    mine, golden, tmp_path, monkeypatch
):
    mine(**golden | {"output": tmp_path / "at_once.jsonl"})
    monkeypatch.setattr("mining_search.EXCLUDED", 7)  # query 0 has three answers
    mine(**golden | {"output": tmp_path / "in_parts.jsonl"})
    assert read(tmp_path / "at_once.jsonl") == read(tmp_path / "in_parts.jsonl")


# Interrupted -------------------------------------------------------------------------------------


def test_only_shards_that_are_not_whole_are_made_again(mine, pairs, tmp_path, capsys):
    flags = {"model": str(TINY), "data": pairs, "shard_size": 9, "output": tmp_path / "mined"}
    mine(**flags)
    whole = contents(tmp_path / "mined")
    work = tmp_path / "mined/negatives.mining"
    times = {file: file.stat().st_mtime_ns for file in work.glob("*-*")}
    (work / "found-00001.npz").unlink()
    (work / "embeddings-queries-00002.npy").write_bytes(b"cut off")
    (work / "found-00001.npz.partial").write_bytes(b"cut off")
    capsys.readouterr()
    assert mine(**flags) == 0
    assert "12 queries are done" in capsys.readouterr().out
    assert contents(tmp_path / "mined") == whole
    again = {file.name for file, before in times.items() if file.stat().st_mtime_ns != before}
    assert again == {"found-00001.npz", "embeddings-queries-00002.npy"}


def test_killed_then_resumed(mine, tmp_path):
    rng = np.random.default_rng(0)
    flags = {
        "data": write(
            tmp_path / "rows.jsonl", [{"query": f"q{n}", "answer": f"a{n}"} for n in range(1600)]
        ),
        "embeddings_of_queries": saved(tmp_path / "queries.npy", rng.normal(size=(1600, 8))),
        "embeddings_of_corpus": saved(tmp_path / "answers.npy", rng.normal(size=(1600, 8))),
        "output": (str(tmp_path / "mined.jsonl"),),
        "shard_size": ("20",),
        "cache": (str(tmp_path / "cache"),),
    }
    command = [sys.executable, str(ROOT / "scripts/mine_negatives.py")]
    for name, values in flags.items():
        command += [f"--{name.replace('_', '-')}", *values]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    work = tmp_path / "mined.mining"
    while len(list(work.glob("found-*.npz"))) < 3:
        assert process.poll() is None, "ended before it was interrupted"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = sorted(work.glob("found-*.npz"))
    assert len(kept) < 80
    assert not (tmp_path / "mined.jsonl").exists()
    times = {file: file.stat().st_mtime_ns for file in kept[:-1]}  # the last may lack its digest
    flags |= {"output": tmp_path / "mined.jsonl", "shard_size": 20}
    assert mine(**flags | {"cache": None}) == 0
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())
    mine(**flags | {"cache": None, "output": tmp_path / "whole.jsonl", "shard_size": 1600})
    assert read(tmp_path / "mined.jsonl") == read(tmp_path / "whole.jsonl")


# Fed rubbish -------------------------------------------------------------------------------------

WRONG = [
    ({"data": ()}, "--data names no file"),
    ({"data": ("missing.jsonl",)}, "missing.jsonl: there is no such file"),
    (
        {"columns": ("question", "body")},
        "there is no column 'body'; the columns are question, answer",
    ),
    ({"corpus_column": "body"}, "there is no column 'body'; the columns are text"),
    ({"num_negatives": 0}, "num_negatives must be a whole number at least 1; got 0"),
    (
        {"range_min": 4, "range_max": 5},
        "range_max must be at least range_min + num_negatives, 7; got 5",
    ),
    ({"range_max": 50}, "these filters reach to 50 candidates; raise --candidates to that"),
    ({"candidates": 0}, "candidates must be a whole number at least 1; got 0"),
    ({"relative_margin": 2.0}, "relative_margin must be a finite number at least 0 and at most 1"),
    ({"shard_size": 0}, "shard_size must be a whole number at least 1; got 0"),
    (
        {"query_prompt": "a", "query_prompt_name": "b"},
        "give either --query-prompt or --query-prompt-n",
    ),
    ({"rescore_prompts": ("a", "b")}, "name it with --rescore"),
    ({"rescore": "/no/such"}, "the model folder /no/such does not exist"),
    ({"embeddings_of_queries": ()}, "12 of the queries have no stored embeddings; name the MODEL"),
    ({"embeddings_of_queries": ("no.npy",)}, "no.npy: the embeddings cannot be read"),
    ({"embeddings_of_corpus": "one"}, "has 25 rows and the column of its texts 40"),
    (
        {"embeddings_of_corpus": "bits"},
        "embeddings must be [n d] of floats or int8; it has [40, 8] of uint8",
    ),
    ({"embeddings_of_corpus": "wide"}, "queries have 8 features, those of documents 9"),
    (
        {"embeddings_of_corpus": (), "model": str(TINY)},
        "queries have 8 features, those of documents 24",
    ),
    ({"embeddings_of_corpus": "mixed"}, "the files have embeddings of different sizes"),
    (
        {"output": TINY / "config.json"},
        "config.json must end in .parquet or .jsonl, or be a folder",
    ),
    ({"output": ROOT / "LICENSE"}, "LICENSE is a file; choose another --output"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_input_is_refused_before_anything_is_written(mine, golden, tmp_path, flags, message):
    vectors = np.load(GOLDENS / "vectors.npz")["documents"]
    files = {
        "one": golden["embeddings_of_corpus"][:1],
        "bits": saved(tmp_path / "bits.npy", vectors.astype(np.uint8)),
        "wide": saved(tmp_path / "wide.npy", np.ones((40, 9), np.float32)),
        "mixed": saved(tmp_path / "some.npy", vectors[:20])
        + saved(tmp_path / "wider.npy", np.ones((20, 9), np.float32)),
    }
    if isinstance(flags.get("embeddings_of_corpus"), str):
        flags = {"embeddings_of_corpus": files[flags["embeddings_of_corpus"]]}
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        mine(**golden | {"output": tmp_path / "out"} | flags)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_no_negatives_left_says_what_removed_them(mine, golden, tmp_path):
    flags = golden | {"output": tmp_path / "mined.jsonl", "max_score": -0.99}
    with pytest.raises(ValueError, match=r"no query has 3 negative.*461 beyond max_score, 0 left"):
        mine(**flags)
    assert not (tmp_path / "mined.jsonl").exists()


def test_vectors_that_are_no_numbers_are_refused(mine, golden, tmp_path):
    vectors = np.load(golden["embeddings_of_queries"][0])
    vectors[3, 2] = np.nan
    flags = golden | {"embeddings_of_queries": saved(tmp_path / "nan.npy", vectors)}
    with pytest.raises(ValueError, match="similarities of query 3 are NaN: vectors must be finite"):
        mine(**flags | {"output": tmp_path / "mined.jsonl"})


def test_a_column_named_like_one_of_the_output_is_refused(mine, tmp_path):
    data = write(tmp_path / "rows.jsonl", [{"query": "a", "label": "b"}])
    flags = {"data": data, "columns": ("query", "label"), "output_format": "labeled-pair"}
    with pytest.raises(ValueError, match="labeled-pair has a column 'label' of its own; rename"):
        mine(model=str(TINY), output=tmp_path / "mined", **flags)


def test_another_search_in_the_same_output_and_someones_file_are_refused(mine, golden, tmp_path):
    flags = golden | {"output": tmp_path / "mined.jsonl"}
    mine(**flags)
    before = contents(tmp_path)
    data = [json.loads(line) for line in Path(golden["data"][0]).read_text().splitlines()]
    other = write(tmp_path.parent / "other.jsonl", data[::-1])
    opposite = -np.load(golden["embeddings_of_queries"][0])
    opposite = saved(tmp_path.parent / "opposite.npy", opposite)
    for changed, message in [
        ({"candidates": 30}, "was begun with candidates 40, this run has 30; give the same"),
        ({"similarity": "dot"}, "was begun with model_similarity 'cosine', this run has 'dot'"),
        ({"rescore": str(TINY)}, "was begun with rescore None, this run has"),
        ({"data": other}, "was begun with data_fingerprint"),
        ({"embeddings_of_queries": opposite}, "was begun with stored_fingerprints"),
    ]:
        with pytest.raises(ValueError, match=message) as refusal:
            mine(**flags | changed)
        assert "\n" not in str(refusal.value)
    assert contents(tmp_path) == before
    someones = tmp_path.parent / "someones.parquet"
    someones.write_bytes(b"rows")
    with pytest.raises(ValueError, match=r"someones\.parquet is there already; choose another"):
        mine(**flags | {"output": someones})
    assert someones.read_bytes() == b"rows"


def test_wrong_input_gives_one_line_and_status_2(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/mine_negatives.py"), str(TINY)]
    command += ["--data", "missing.jsonl", "--output", str(tmp_path / "out")]
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 2
    assert result.stderr.startswith("error: missing.jsonl: there is no such file")
    assert len(result.stderr.splitlines()) == 1
