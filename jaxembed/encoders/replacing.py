"""Which folders a saved model may take the place of: empty ones, and those of a model alone."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from jaxembed.encoders.errors import EncoderError

# What a model folder holds, and nothing that somebody would miss beside a new model.
OF_A_MODEL = (
    *("config.json", "*_config.json", "config_*.json", "modules.json", "README.md"),
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "*.model", "[0-9]*_[A-Z]*"),
)


def check_replaceable(folder: Path) -> None:
    """Refuses a folder that would take something else with it.

    Raises:
        EncoderError: it is a file or a link, holds more than a model, or is where one works.
    """
    if Path.cwd().is_relative_to(folder.resolve()):
        raise EncoderError(f"{folder} is the folder you are in; save the model in another one")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        kind = "link" if folder.is_symlink() else "file"
        raise EncoderError(f"{folder} is a {kind}; save the model in another folder")
    for name in sorted(entry.name for entry in folder.iterdir()) if folder.exists() else ():
        if not any(fnmatch(name, pattern) for pattern in OF_A_MODEL):
            raise EncoderError(
                f"{folder} holds {name}, which saving a model there would delete; choose another"
                " folder, or empty this one"
            )
