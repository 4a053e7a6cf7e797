"""From texts to padded arrays, in few shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxembed.encoders.errors import EncoderError, TextError
from jaxembed.encoders.limits import read_limits
from jaxembed.encoders.tokenizer_file import (
    UNLIMITED,
    PlainTokenizer,
    read_backend,
    read_tokenizer,
)
from jaxembed.encoders.tokenizer_settings import read_settings

if TYPE_CHECKING:
    from jaxembed.encoders.token_cache import TokenCache

# Lengths that texts are padded to. Every length that occurs is one more program to compile.
BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192)

# One of these is there where a tokenizer is.
TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model"),
    *("sentencepiece.bpe.model", "tokenizer.model", "vocab.model", "bpe.codes", "emoji.json"),
)


@dataclass(frozen=True)
class TextTokenizer:
    """Tokenizes texts and pads them to the smallest bucket that holds the longest.

    `may_pad_left` False pads on the right whatever the tokenizer says, where the model's positions
    would count the padding before a text, so that its embedding would vary with its batch.
    `prompt_counts` False leaves the tokens of a prompt out of the pooling, as some models want it.
    Texts that the `cache` has are not tokenized again. A text with a token beyond the `vocabulary`
    raises TextError.
    """

    tokenizer: Any
    max_length: int
    buckets: tuple[int, ...] = BUCKETS
    prompt_counts: bool = True
    cache: TokenCache | None = None
    vocabulary: int | None = None  # tokens that the model embeds; all if None
    lower_case: bool = False  # the model folder asks for it, beside what the tokenizer says
    may_pad_left: bool = True

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
        lengths = lengths[:, None]
        starts = width - lengths if self.pads_left else 0
        position = np.arange(width)[None, :] - starts  # within the row's own tokens
        attention = (position >= 0) & (position < lengths)
        pad = self.tokenizer.pad_token_id or 0
        pad = pad if self.vocabulary is None or pad < self.vocabulary else 0
        input_ids = np.full((len(texts), width), pad, np.int32)
        input_ids[attention] = ids
        tokens = {"input_ids": input_ids, "attention_mask": attention.astype(np.int32)}
        if prompt and not self.prompt_counts:
            pooled = attention & (position >= self._prompt_length(prompt))
            tokens["pooling_mask"] = pooled.astype(np.int32)
        return tokens

    @property
    def pads_left(self) -> bool:
        """Whether padding stands before the texts."""
        return self.may_pad_left and self.tokenizer.padding_side == "left"

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
            ids, lengths = self.cache.ids(texts, self._tokenized)
        else:
            ids, lengths = self._tokenized(texts)
        if self.vocabulary is not None and ids.size and ids.max() >= self.vocabulary:
            at = int(np.argmax(ids >= self.vocabulary))
            row = int(np.searchsorted(np.cumsum(lengths), at, side="right"))
            token = token_of(self.tokenizer, int(ids[at]))
            raise TextError(
                row, f"has the token {token!r}, number {ids[at]}; the model embeds only"
                f" {self.vocabulary}: remove it from the text",
            )  # fmt: skip
        return ids, lengths

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
    may_pad_left: bool = True,
) -> TextTokenizer:
    """Reads the tokenizer of a model folder.

    `max_length` overrides the folder's own limits, which are those of `sentence_bert_config.json`
    or its siblings, or else of the tokenizer, up to the model's `n_positions`.
    """
    limits = read_limits(folder)
    tokenizer = read_tokenizer(folder) or _of_transformers(folder)
    if limits.get("do_lower_case"):
        _lower(tokenizer, folder)
    limit = n_positions or tokenizer.model_max_length
    published = limits.get("max_seq_length") or min(tokenizer.model_max_length, limit)
    if max_length is not None and not 2 <= max_length <= limit:
        raise EncoderError(f"max_seq_length must lie between 2 and {limit}; got {max_length}")
    length = int(max_length or min(published, limit))
    if length < 2:
        raise EncoderError(f"{folder}: a limit of {length} token leaves none of a text; raise it")
    tokenizer.model_max_length = length
    return TextTokenizer(
        tokenizer,
        length,
        prompt_counts=prompt_counts,
        vocabulary=vocabulary,
        may_pad_left=may_pad_left,
        lower_case=bool(limits.get("do_lower_case")),
    )


def token_of(tokenizer: Any, number: int) -> str | None:
    """Returns the token of a number."""
    if isinstance(tokenizer, PlainTokenizer):
        return tokenizer.backend.id_to_token(number)
    return tokenizer.convert_ids_to_tokens(number)


def _lower(tokenizer: Any, folder: Path) -> None:
    from tokenizers.normalizers import Lowercase, Sequence as Both

    if not tokenizer.is_fast:
        raise EncoderError(
            f"{folder}: do_lower_case needs a tokenizer.json; save the tokenizer with one"
        )
    backend = tokenizer.backend_tokenizer
    lower = Lowercase()
    backend.normalizer = Both([lower, backend.normalizer]) if backend.normalizer else lower


def _of_transformers(folder: Path) -> Any:
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise EncoderError(
            f"{folder} has no tokenizer files, such as tokenizer.json; save the model's tokenizer"
            " into it"
        )
    import transformers

    file = folder / "tokenizer_config.json"
    settings = read_settings(file) if file.exists() else {}
    options: dict[str, Any] = {}
    extra = settings.get("extra_special_tokens")
    if isinstance(extra, list) and not hasattr(transformers, "TokenizersBackend"):
        # transformers 5 writes a list under this name, which transformers 4 calls otherwise
        options = {"additional_special_tokens": extra, "extra_special_tokens": {}}
    try:
        read = transformers.AutoTokenizer.from_pretrained
        return read(folder, trust_remote_code=False, **options)
    except Exception as error:  # of any class of tokenizers, and of what its files hold
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise EncoderError(f"{folder}: the tokenizer cannot be read ({reason})") from None


def load_plain_tokenizer(
    folder: Path, *, vocabulary: int | None, max_length: int | None = None
) -> TextTokenizer:
    """Reads `tokenizer.json` alone, as the StaticEmbedding of sentence-transformers does.

    `max_length` overrides the file's own limit, if it has one.
    """
    if not (folder / "tokenizer.json").exists():
        raise EncoderError(f"{folder} has no tokenizer.json; save the model's tokenizer into it")
    backend = read_backend(folder)
    backend.no_padding()
    if max_length is not None:
        if max_length < 1:
            raise EncoderError(f"max_seq_length must be at least 1; got {max_length}")
        backend.enable_truncation(**{**(backend.truncation or {}), "max_length": max_length})
    length = backend.truncation["max_length"] if backend.truncation else UNLIMITED
    return TextTokenizer(PlainTokenizer(backend), length, vocabulary=vocabulary)
