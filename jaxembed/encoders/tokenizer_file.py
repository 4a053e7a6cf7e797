"""Tokenizers from their tokenizer.json, without transformers, which takes seconds to import."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxembed.encoders.checkpoint import write_json
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.tokenizer_settings import KEYS, add_tokens, read_settings, special_tokens

# Classes of transformers that add nothing to what tokenizer.json says.
OF_BERT = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
BACKEND = "TokenizersBackend"  # the name of PreTrainedTokenizerFast since transformers 5
AS_WRITTEN = (*OF_BERT, "MPNetTokenizer", "Qwen2Tokenizer", "PreTrainedTokenizer", BACKEND)
WITH_CASE = (*OF_BERT, "MPNetTokenizer")  # their settings may ask for another normalizer
BESIDE = ("special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt")
UNLIMITED = sys.maxsize  # as a length: no text is cut


@dataclass
class PlainTokenizer:
    """A tokenizer.json, called as those of transformers are. It adds no special tokens.

    Texts are cut where its own `truncation` says.
    """

    backend: Any
    padding_side: str = "right"
    pad_token_id: int | None = 0  # any will do where padding is masked

    def __call__(self, texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
        encoded = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return {"input_ids": [text.ids for text in encoded]}

    def save_pretrained(self, folder: Path) -> None:
        self.backend.save(str(folder / "tokenizer.json"))


@dataclass
class FileTokenizer(PlainTokenizer):
    """A tokenizer.json with the settings beside it, called and saved as transformers' are."""

    truncation_side: str = "right"
    settings: dict[str, Any] = field(default_factory=dict)  # tokenizer_config.json
    beside: dict[str, bytes] = field(default_factory=dict)  # name -> content of further files
    is_fast = True

    def __len__(self) -> int:
        return n_tokens(self.backend)

    @property
    def backend_tokenizer(self) -> Any:
        return self.backend

    @property
    def all_special_ids(self) -> list[int]:
        added = self.backend.get_added_tokens_decoder()
        return [number for number, token in added.items() if token.special]

    @property
    def model_max_length(self) -> int:
        return min(self.settings.get("model_max_length") or UNLIMITED, UNLIMITED)

    @model_max_length.setter
    def model_max_length(self, length: int) -> None:
        self.settings["model_max_length"] = length

    def __call__(
        self, texts: list[str], *, max_length: int, **options: Any
    ) -> dict[str, list[list[int]]]:
        truncation = {"max_length": max_length, "direction": self.truncation_side}
        if not truncation.items() <= (self.backend.truncation or {}).items():
            self.backend.enable_truncation(**truncation)
        return {"input_ids": [text.ids for text in self.backend.encode_batch_fast(texts)]}

    def save_pretrained(self, folder: Path) -> None:
        whole = json.loads(self.backend.to_str())
        write_json(folder / "tokenizer.json", {**whole, "truncation": None, "padding": None})
        sides = {"padding_side": self.padding_side, "truncation_side": self.truncation_side}
        own = {key: side for key, side in sides.items() if key in self.settings or side == "left"}
        write_json(folder / "tokenizer_config.json", self.settings | own)
        for name, content in self.beside.items():
            (folder / name).write_bytes(content)


def read_tokenizer(folder: Path) -> FileTokenizer | None:
    """Reads a tokenizer as transformers would; None where its class changes what the file says."""
    files = [folder / name for name in ("tokenizer.json", "tokenizer_config.json")]
    if not all(file.exists() for file in files):
        return None
    settings = read_settings(files[1])
    name = (settings.get("tokenizer_class") or "").removesuffix("Fast")
    if name not in AS_WRITTEN or KEYS.unknown(settings):
        return None
    backend = read_backend(folder)
    if name in WITH_CASE and not _agree(json.loads(backend.to_str())["normalizer"], settings):
        return None
    padding, truncation = backend.padding or {}, backend.truncation or {}
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = bool(settings.get("split_special_tokens"))
    beside = {file: (folder / file).read_bytes() for file in BESIDE if (folder / file).is_file()}
    special = special_tokens(settings, folder / "special_tokens_map.json", name)
    add_tokens(backend, settings, special)
    pad = special.get("pad_token", padding.get("pad_token"))
    pad = pad["content"] if isinstance(pad, dict) else pad
    return FileTokenizer(
        backend,
        settings.get("padding_side") or padding.get("direction", "right"),
        None if pad is None else backend.token_to_id(pad),
        settings.get("truncation_side") or truncation.get("direction", "right"),
        settings,
        beside,
    )


def read_backend(folder: Path) -> Any:
    """Reads `tokenizer.json` by the library tokenizers."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing narrower
        raise EncoderError(f"{folder}: tokenizer.json cannot be read ({error})") from None


def n_tokens(backend: Any) -> int:
    """Counts the rows that a table of all tokens needs."""
    return max(backend.get_vocab().values(), default=-1) + 1


def _agree(normalizer: dict[str, Any] | None, settings: dict[str, Any]) -> bool:
    """True where the settings of a tokenizer ask for what its file does."""
    asked = {
        "lowercase": settings.get("do_lower_case", True),
        "strip_accents": settings.get("strip_accents"),
        "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
    }
    return normalizer is not None and asked.items() <= normalizer.items()
