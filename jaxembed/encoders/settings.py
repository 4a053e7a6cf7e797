"""config_sentence_transformers.json: prompts, similarity and truncation of a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxembed.encoders.checkpoint import read_json, write_json
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.keys import Keys
from jaxembed.forms import At, Choice

FILE = "config_sentence_transformers.json"
ROLES = ("query", "document")
SIMILARITIES = Choice("cosine", "dot", "euclidean", "manhattan")
KEYS = Keys(
    used={
        "prompts?": ({str: (str, None)}, None),
        "default_prompt_name?": (str, None),
        "similarity_fn_name?": (SIMILARITIES, None),
        "truncate_dim?": (At(int, least=1), None),
        "model_type?": (str, None),
    },
    harmless=("__version__", "requirements"),
)


@dataclass(frozen=True)
class Settings:
    """What an encoder does around its modules, and compares embeddings by."""

    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity: str = "cosine"
    truncate_dim: int | None = None


def read_settings(folder: Path) -> Settings:
    """Reads the settings of a model folder; without the file they are the default ones.

    A prompt that is null is empty, as sentence-transformers has it.

    Raises:
        EncoderError: values of another form, a similarity that is not known, or a default prompt
            that is not among the prompts.
    """
    file = folder / FILE
    if not file.exists():
        return Settings()
    content = read_json(file, dict(KEYS.used))
    if unknown := [key for key in KEYS.unknown(content) if content[key] is not None]:
        logging.getLogger(__name__).warning(
            f"{file}: not known and not used: {', '.join(map(repr, unknown))}"
        )
    prompts = {name: text or "" for name, text in (content.get("prompts") or {}).items()}
    default = content.get("default_prompt_name")
    if default in ROLES:  # each model of sentence-transformers has these
        prompts.setdefault(default, "")
    if default is not None and default not in prompts:
        raise EncoderError(
            f"{file}: default_prompt_name {default!r} is none of the prompts {sorted(prompts)}"
        )
    return Settings(
        prompts,
        default,
        content.get("similarity_fn_name") or "cosine",
        content.get("truncate_dim"),
    )


def write_settings(folder: Path, settings: Settings) -> None:
    """Writes the settings as sentence-transformers does."""
    truncated: dict[str, Any] = {}
    if settings.truncate_dim is not None:
        truncated["truncate_dim"] = settings.truncate_dim
    write_json(
        folder / FILE,
        {
            "prompts": dict(settings.prompts),
            "default_prompt_name": settings.default_prompt_name,
            "similarity_fn_name": settings.similarity,
            **truncated,
        },
    )
