"""The wheel holds what the library needs, and the README's example runs as printed."""

import functools
import inspect
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from jaxembed import losses
from jaxembed.losses import reranking
from jaxembed.objectives.table import table

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_installed_elsewhere_loads_the_embedded_data(wheel, tmp_path):
    target = tmp_path / "elsewhere"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        "import jaxembed.data as data\n"
        f"assert data.__file__.startswith({str(target)!r}), data.__file__\n"
        "assert len(data.open_dataset('wordnet-gloss')) == 34032\n"
        "corpus, queries, qrels = data.wordnet_gloss_retrieval()\n"
        "assert (len(corpus), len(queries), len(qrels)) == (4433, 4225, 4225)\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd=tmp_path)


def test_the_wheel_carries_licences_and_nothing_foreign(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "jaxembed/data/wordnet_gloss/LICENSE" in names
    assert all(name.startswith(("jaxembed/", "jaxembed-")) for name in names)


def test_the_readme_has_the_table_of_objectives():
    assert table() in (ROOT / "README.md").read_text()


def written(parameter):
    """A hyperparameter as the README writes it."""
    default = parameter.default
    if default is parameter.empty:
        return parameter.name
    if isinstance(default, functools.partial):
        settings = (f"{k}={getattr(v, '__name__', v)}" for k, v in default.keywords.items())
        return f"{parameter.name}={default.func.__name__}({', '.join(settings)})"
    return f"{parameter.name}={getattr(default, '__name__', repr(default))}"


NOT_IN_THE_TABLE = {
    *("where", "negatives_where", "candidates_where", "documents_where", "reduce_fn"),
    *("block_size", "axis_name"),
    *("ids", "anchor_ids", "negative_ids", "document_ids", "query_mask", "document_mask"),
    *("labels", "scores", "margins", "teacher", "teacher_scores", "target_ids"),
    *("teacher_queries", "teacher_candidates"),
    *("guide_anchors", "guide_positives", "guide_negatives"),
}


@pytest.mark.parametrize(
    ("path", "loss"),
    [
        (prefix + name, value)
        for prefix, module in (("", losses), ("reranking.", reranking))
        for name, value in vars(module).items()
        if name.endswith("_loss") and inspect.isfunction(value)
    ],
)
def test_the_readme_lists_every_loss_as_it_is(path, loss):
    lines = (ROOT / "README.md").read_text().splitlines()
    table = lines[lines.index("### Every loss") :]
    (row,) = [line for line in table if f"| `{path}` |" in line]
    _, _, _, arrays, hyperparameters, published, _ = map(str.strip, row.split("|"))
    parameters = inspect.signature(loss).parameters.values()
    by_position = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    assert all(name in arrays for name in by_position if name != "keywords")
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    listed = [written(p) for p in keywords if p.name not in NOT_IN_THE_TABLE]
    assert hyperparameters == ", ".join(listed)
    call = re.sub(r"\(.*?\)|logits =.*", "", published)
    assert set(re.findall(r"(\w+)=", call)) <= {p.name for p in keywords}


READMES = [ROOT / "README.md", *sorted(ROOT.glob("jaxembed/*/README.md"))]
READMES.remove(ROOT / "jaxembed/objectives/README.md")  # its models are stood in for: test_examples


@pytest.mark.parametrize(
    "code",
    [
        code
        for readme in READMES
        for code in re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    ],
)
def test_examples_of_the_readmes_run_as_printed(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
