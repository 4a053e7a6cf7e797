"""The wheel holds what the library needs, and the README's example runs as printed."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from jaxembed.objectives import REGISTRY

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


def test_the_readme_lists_the_registry():
    readme = (ROOT / "README.md").read_text()
    for objective in REGISTRY.values():
        columns = (*objective.roles.texts, *objective.roles.labels)
        if objective.roles.negatives:
            columns += ("negatives (optional)",)
        loss = getattr(objective.loss, "__name__", "")
        row = (
            f"| {objective.name} | `{loss}` | {objective.published} |"
            f" {', '.join(columns)} | {', '.join(objective.settings)} |"
        )
        assert row in readme


@pytest.mark.parametrize(
    "code", re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
)
def test_examples_of_the_readme_run_as_printed(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
