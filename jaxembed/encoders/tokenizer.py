"""From texts to padded arrays, in few shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxembed.encoders.checkpoint import read_json
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.tokenizer_file import (
    UNLIMITED,
    PlainTokenizer,
    n_tokens,
    read_backend,
    read_tokenizer,
)

if TYPE_CHECKING:
    from jaxembed.encoders.token_cache import TokenCache

# Lengths that texts are padded to. Every length that occurs is one more program to compile.
BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class TextTokenizer:
    """Tokenizes texts and pads them to the smallest bucket that holds the longest.

    `prompt_counts` False leaves the tokens of a prompt out of the pooling, as some models want it.
    Texts that the `cache` has are not tokenized again.
    """

    tokenizer: Any
    max_length: int
    buckets: tuple[int, ...] = BUCKETS
    prompt_counts: bool = True
    cache: TokenCache | None = None

    def __post_init__(self) -> None:
        if self.cache is not None and self.cache.max_length != self.max_length:
            raise EncoderError(
                f"the token cache is for max_length {self.cache.max_length}, the tokenizer has"
                f" {self.max_length}; open it again by with_cache"
            )

    def __call__(self, texts: Sequence[str], prompt: str = "") -> dict[str, np.ndarray]:
        """Returns `input_ids` and `attention_mask`, int32 `[n t]`, of the texts behind the prompt.

        With a prompt that does not count there is a `pooling_mask [n t]` too.
        """
        ids, lengths = self.ids([prompt + text for text in texts])
        width = self.width(int(lengths.max(initial=0)))
        left = self.tokenizer.padding_side == "left"
        lengths = lengths[:, None]
        starts = width - lengths if left else 0
        position = np.arange(width)[None, :] - starts  # within the row's own tokens
        attention = (position >= 0) & (position < lengths)
        input_ids = np.full((len(texts), width), self.tokenizer.pad_token_id or 0, np.int32)
        input_ids[attention] = ids
        tokens = {"input_ids": input_ids, "attention_mask": attention.astype(np.int32)}
        if prompt and not self.prompt_counts:
            pooled = attention & (position >= self._prompt_length(prompt))
            tokens["pooling_mask"] = pooled.astype(np.int32)
        return tokens

    def width(self, longest: int) -> int:
        """Returns what texts of up to `longest` tokens are padded to.

        Beyond the last bucket that is `max_length`, or without a limit a multiple of the bucket.
        """
        beyond = self.max_length
        if beyond == UNLIMITED:
            beyond = -(-longest // self.buckets[-1]) * self.buckets[-1]
        return min(
            next((size for size in self.buckets if size >= longest), beyond), self.max_length
        )

    def with_buckets(self, buckets: Sequence[int]) -> TextTokenizer:
        """Returns the same with other lengths to pad to."""
        return replace(self, buckets=tuple(sorted(buckets)))

    def with_cache(self, folder: str | Path) -> TextTokenizer:
        """Returns the same with the tokens that `cache_tokens` wrote into the folder."""
        from jaxembed.encoders.token_cache import TokenCache

        return replace(self, cache=TokenCache.open(self, folder))

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of all tokens, int32, one text after the other, and their numbers `[n]`.

        Texts stand without a prompt, special tokens are among the ids.
        """
        if self.cache is not None:
            return self.cache.ids(texts, self._tokenized)
        return self._tokenized(texts)

    def _tokenized(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        lists = self._ids(list(texts))
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        return np.fromiter(chain.from_iterable(lists), np.int32, lengths.sum()), lengths

    def _ids(self, texts: list[str]) -> list[list[int]]:
        encoded = self.tokenizer(
            texts, truncation=True, max_length=self.max_length, return_attention_mask=False
        )
        return encoded["input_ids"]

    def _prompt_length(self, prompt: str) -> int:
        """Counts the tokens of the prompt with the special ones before it, not those behind."""
        ids = self._ids([prompt])[0]
        return len(ids) - (ids[-1] in self.tokenizer.all_special_ids)


def load_tokenizer(
    folder: Path,
    *,
    vocabulary: int | None,
    n_positions: int | None,
    max_length: int | None = None,
    prompt_counts: bool = True,
) -> TextTokenizer:
    """Reads the tokenizer of a model folder.

    `max_length` overrides the folder's own limits, which are those of `sentence_bert_config.json`
    or else of the tokenizer, up to the model's `n_positions`. A token beyond its `vocabulary` is
    refused.
    """
    settings = folder / "sentence_bert_config.json"
    config = read_json(settings) if settings.exists() else {}
    tokenizer = read_tokenizer(folder) or _of_transformers(folder)
    _check_vocabulary(folder, len(tokenizer), vocabulary)
    if config.get("do_lower_case") and tokenizer.is_fast:
        from tokenizers.normalizers import Lowercase, Sequence as Both

        backend = tokenizer.backend_tokenizer
        lower = Lowercase()
        backend.normalizer = Both([lower, backend.normalizer]) if backend.normalizer else lower
    limit = n_positions or tokenizer.model_max_length
    published = config.get("max_seq_length") or min(tokenizer.model_max_length, limit)
    if max_length is not None and not 2 <= max_length <= limit:
        raise EncoderError(f"max_seq_length must lie between 2 and {limit}; got {max_length}")
    length = max_length or min(published, limit)
    tokenizer.model_max_length = length
    return TextTokenizer(tokenizer, length, prompt_counts=prompt_counts)


def _of_transformers(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0]
        raise EncoderError(f"{folder}: the tokenizer cannot be read ({reason})") from None


def load_plain_tokenizer(
    folder: Path, *, vocabulary: int | None, max_length: int | None = None
) -> TextTokenizer:
    """Reads `tokenizer.json` alone, as the StaticEmbedding of sentence-transformers does.

    `max_length` overrides the file's own limit, if it has one. A token beyond the model's
    `vocabulary` is refused.
    """
    backend = read_backend(folder)
    _check_vocabulary(folder, n_tokens(backend), vocabulary)
    backend.no_padding()
    if max_length is not None:
        if max_length < 1:
            raise EncoderError(f"max_seq_length must be at least 1; got {max_length}")
        backend.enable_truncation(**{**(backend.truncation or {}), "max_length": max_length})
    length = backend.truncation["max_length"] if backend.truncation else UNLIMITED
    return TextTokenizer(PlainTokenizer(backend), length)


def _check_vocabulary(folder: Path, n_tokens: int, vocabulary: int | None) -> None:
    if vocabulary is not None and n_tokens > vocabulary:
        raise EncoderError(
            f"{folder}: the tokenizer has {n_tokens} tokens, the model embeds {vocabulary}"
        )
