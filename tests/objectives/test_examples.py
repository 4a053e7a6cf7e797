"""The examples of the objectives' README run as printed, in Python and as commands.

The models they name are folders in the current directory: of the same architecture and width, with
one or two layers, a small vocabulary and random parameters.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import tyro

import jaxembed
from tests.objectives.every import TINY

ROOT = Path(__file__).parents[2]
README = (ROOT / "jaxembed/objectives/README.md").read_text()
MODELS = {
    "distilbert-base-uncased": {
        **{"model_type": "distilbert", "dim": 768, "hidden_dim": 128, "n_heads": 12},
        **{"n_layers": 2, "max_position_embeddings": 512},
    },
    "all-distilroberta-v1": {
        **{"model_type": "roberta", "hidden_size": 768, "num_attention_heads": 12},
        **{"num_hidden_layers": 1, "intermediate_size": 128, "max_position_embeddings": 514},
        "type_vocab_size": 1,
    },
}
ROWS = {
    "pairs": [
        {"anchor": "The cat sits on the mat", "positive": "A feline rests on a rug"},
        {"anchor": "Python programming language", "positive": "Coding with Python"},
    ],
    "triplets": [{"anchor": "The cat sits", "positive": "A feline", "negative": "Dogs"}],
    "scored": [
        {"sentence1": "The cat sits", "sentence2": "A cat is sitting", "label": 0.9},
        {"sentence1": "Dogs bark", "sentence2": "Cars are fast", "label": 0.1},
    ],
    "pairs_with_classes": [
        {"premise": "A cat sits", "hypothesis": "An animal sits", "label": 0},
        {"premise": "A cat sits", "hypothesis": "A dog runs", "label": 2},
    ],
    "classes": [
        {"text": "Python programming", "label": 0},
        {"text": "Coding in Python", "label": 0},
        {"text": "Machine learning", "label": 1},
        {"text": "AI algorithms", "label": 1},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the models and the data that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    vocabulary = json.loads((TINY / "config.json").read_text())["vocab_size"]
    for name, config in MODELS.items():
        (folder / name).mkdir()
        settings = {**config, "vocab_size": vocabulary, "pad_token_id": 0}
        (folder / name / "config.json").write_text(json.dumps(settings))
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(TINY / file, folder / name)
        drawn = jaxembed.load(folder / name, initialize=0)
        drawn.save(folder / "drawn")
        shutil.rmtree(folder / name)
        (folder / "drawn").rename(folder / name)
    for name, rows in ROWS.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    (toml,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (folder / "tasks.toml").write_text(toml)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_python_runs_as_printed(here, code):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


COMMANDS = [
    command.replace("\\\n", "")
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for command in re.findall(r"python scripts/train.py (?:.*\\\n)*.*", block)
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.rpartition("/")[2])
def test_the_command_trains_and_its_model_encodes(here, folder, command):
    from config import Config
    from train import main

    _, _, *flags = shlex.split(command)
    faster = ["--no-dropout", "--cache", "None", "--no-split-lengths", "--overwrite"]
    assert main(tyro.cli(Config, args=[*flags, *faster])) == 0
    model = folder / flags[flags.index("--output") + 1] / "model"
    assert jaxembed.load(model).encode("a cat", truncate_dim=64).shape == (1, 64)
