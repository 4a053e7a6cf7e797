"""The tokens of texts that were tokenized before: kept on the disk, read without a copy."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from xxhash import xxh3_64, xxh3_64_intdigest

from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.texts import check_texts
from jaxembed.encoders.tokenizer_file import PlainTokenizer

if TYPE_CHECKING:
    from jaxembed.encoders.tokenizer import TextTokenizer

TEXTS, CHARACTERS = 16_384, 2**22  # that are tokenized at once, at most
TOKENS_PER_FILE = 2**26  # 256 MiB; it takes about four times as much to write them


@dataclass(frozen=True, eq=False)
class Part:
    """The tokens of texts in the order of their hashes; those of a file are mapped into memory.

    `hashes` is uint64 `[n]`, ascending, `starts` int64 `[n + 1]`, and the tokens of text i are
    `ids[starts[i] : starts[i + 1]]`, int32. Parts travel to another process as the file's path.
    """

    hashes: np.ndarray
    starts: np.ndarray
    ids: np.ndarray
    file: Path | None = None

    def __reduce__(self):
        return read_part, (self.file,)


@dataclass(frozen=True, eq=False)
class TokenCache:
    """The token ids of texts for one tokenizer, by the hash of each text with its prompt.

    `cache_tokens` fills the folder, `TextTokenizer.with_cache` reads from it. What the tokenizer
    is, with its `max_length`, names the subfolder, so that several may share a folder and none gets
    the tokens of another. Files never change: what is added is one more file. Any number of threads
    and processes may read and add.

    Two different texts among a million share a hash with a probability of 3e-8.
    """

    folder: Path
    max_length: int
    parts: tuple[Part, ...]

    @classmethod
    def open(cls, tokenizer: TextTokenizer, folder: str | Path) -> TokenCache:
        """Opens what the folder has of this tokenizer, which may be nothing.

        Every file is read once and compared with the digest that is its name.

        Raises:
            EncoderError: a file is damaged or of another tokenizer, or the folder is no folder.
        """
        folder = Path(folder).expanduser().resolve()
        if folder.exists() and not folder.is_dir():
            raise EncoderError(f"{folder} is a file; give the token cache a folder")
        own = folder / fingerprint(tokenizer)
        for file in (files := sorted(own.glob("*.arrow"))):
            if _digest(file) != file.stem:
                raise EncoderError(f"{file} is damaged; delete it, its texts are tokenized again")
        return cls(own, tokenizer.max_length, tuple(map(read_part, files)))

    def __len__(self) -> int:
        return sum(len(part.hashes) for part in self.parts)

    def ids(
        self, texts: Sequence[str], tokenize: Callable[[list[str]], tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns `tokenize(texts)`, which is called for those that are not here.

        That is the ids of all tokens, one text after the other, and how many each text has, `[n]`.
        """
        found, lengths, ids = lookup(self.parts, text_hashes(texts))
        if found.all():
            return ids, lengths
        others, lengths[~found] = tokenize([texts[int(row)] for row in np.flatnonzero(~found)])
        everything = np.empty(lengths.sum(), np.int32)
        of_found = np.repeat(found, lengths)
        everything[of_found], everything[~of_found] = ids, others
        return everything, lengths


def cache_tokens(
    tokenizer: TextTokenizer,
    texts: Iterable[str],
    folder: str | Path,
    *,
    prompt: str = "",
    show_progress: bool = False,
) -> TokenCache:
    """Tokenizes the texts behind the prompt that the folder has not yet, and writes their tokens.

    Texts are tokenized some thousands at a time on all cores, and may come from a generator of more
    than memory holds. Files appear whole, one every 67 million tokens and one in the end.

    Raises:
        EncoderError: a text is no string, or what `TokenCache.open` refuses.

    >>> from jaxembed.encoders.finding import find
    >>> from jaxembed.encoders.tokenizer import load_tokenizer
    >>> tokenizer = load_tokenizer(find("all-MiniLM-L6-v2"), vocabulary=None, n_positions=512)
    >>> with TemporaryDirectory() as folder:
    ...     cache = cache_tokens(tokenizer, ["a bank", "a river", "a bank"], folder)
    ...     tokens = tokenizer.with_cache(folder)(["a river", "not cached"])
    >>> len(cache), tokens["input_ids"].shape
    (2, (2, 8))
    """
    from rich.progress import MofNCompleteColumn, Progress

    cache = TokenCache.open(tokenizer, folder)
    plain = replace(tokenizer, cache=None)
    new: list[Part] = []
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, disable=not show_progress, transient=True) as bar:
        task = bar.add_task("tokenizing", total=len(texts) if isinstance(texts, Sized) else None)
        for chunk in _chunks(texts):
            new += _tokenized(plain, [prompt + text for text in chunk], [*cache.parts, *new])
            if sum(len(part.ids) for part in new) >= TOKENS_PER_FILE:
                cache, new = _written(cache, new), []
            bar.advance(task, len(chunk))
    return _written(cache, new)


def lookup(parts: Iterable[Part], hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds hashes: which are there, bool `[n]`, how many tokens each has, `[n]`, and all tokens.

    The tokens are int32, one text after the other; a text that is not there has none.
    """
    found, lengths = np.zeros(len(hashes), bool), np.zeros(len(hashes), np.int64)
    matches = []
    rows = np.argsort(hashes)  # a search in order stays in the processor's cache
    for part in parts:
        at = np.searchsorted(part.hashes, hashes[rows])
        there = part.hashes[np.minimum(at, len(part.hashes) - 1)] == hashes[rows]
        its_rows, at = rows[there], at[there]
        found[its_rows] = True
        lengths[its_rows] = part.starts[at + 1] - part.starts[at]
        matches.append((part, its_rows, at))
        rows = rows[~there]
    ids = np.empty(lengths.sum(), np.int32)
    targets = np.cumsum(lengths) - lengths
    for part, its_rows, at in matches:
        its_lengths = lengths[its_rows]
        ids[_spans(targets[its_rows], its_lengths)] = part.ids[_spans(part.starts[at], its_lengths)]
    return found, lengths, ids


def text_hashes(texts: Sequence[str]) -> np.ndarray:
    """Hashes texts to uint64 `[n]`: xxh3_64 of their UTF-8 bytes."""
    encoded = (text.encode(errors="surrogatepass") for text in texts)  # the tokenizer refuses them
    return np.fromiter(map(xxh3_64_intdigest, encoded), np.uint64, len(texts))


def fingerprint(tokenizer: TextTokenizer) -> str:
    """Computes a short name for all that decides which ids a text gets.

    That is what the tokenizer says of itself, `max_length` and the version of the library; padding
    is not among it.
    """
    import tokenizers

    inner = tokenizer.tokenizer
    plain = isinstance(inner, PlainTokenizer)
    backend = inner.backend if plain else getattr(inner, "backend_tokenizer", None)
    facts: dict[str, Any] = {
        "kind": type(inner).__name__,
        "max_length": tokenizer.max_length,
        "truncation_side": getattr(inner, "truncation_side", "right"),
        "split_special_tokens": getattr(inner, "split_special_tokens", False),
        "tokenizers": tokenizers.__version__,
    }
    if backend is None:
        facts["saved"] = _saved(inner)
    else:
        facts["saved"] = json.loads(backend.to_str())
        if hasattr(inner, "backend_tokenizer"):  # each call says how it pads and cuts
            facts["saved"] |= {"truncation": None, "padding": None}
    return xxh3_64(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_part(file: Path) -> Part:
    """Maps a file into memory."""
    import pyarrow as pa

    reader = pa.ipc.open_file(pa.memory_map(str(file)))
    if (reader.schema.metadata or {}).get(b"tokenizer") != file.parent.name.encode():
        raise EncoderError(f"{file} holds no tokens of the tokenizer of its folder; delete it")
    batch = reader.get_batch(0)
    lists = batch.column("input_ids")
    arrays = (batch.column("hash"), lists.offsets, lists.values)
    hashes, starts, ids = (array.to_numpy(zero_copy_only=True) for array in arrays)
    return Part(hashes, starts, ids, file)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Cuts texts into lists of a bounded number of texts and characters."""
    chunk: list[str] = []
    characters = 0
    for row, text in enumerate(texts):
        check_texts([text], row)
        chunk.append(text)
        characters += len(text)
        if len(chunk) == TEXTS or characters >= CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _tokenized(tokenizer: TextTokenizer, texts: list[str], parts: Sequence[Part]) -> list[Part]:
    """Tokenizes those that are in no part yet, each once; no part if there are none."""
    hashes, first = np.unique(text_hashes(texts), return_index=True)
    new = ~lookup(parts, hashes)[0]
    if not new.any():
        return []
    ids, lengths = tokenizer.ids([texts[row] for row in first[new]])
    return [Part(hashes[new], _starts(lengths), ids)]


def _written(cache: TokenCache, parts: Sequence[Part]) -> TokenCache:
    """Writes parts to one file, whole or not at all; returns the cache with it."""
    if not parts:
        return cache
    import pyarrow as pa

    part = _merged(parts)
    arrays = {
        "hash": pa.array(part.hashes),
        "input_ids": pa.LargeListArray.from_arrays(pa.array(part.starts), pa.array(part.ids)),
    }
    batch = pa.RecordBatch.from_pydict(arrays, metadata={"tokenizer": cache.folder.name})
    cache.folder.mkdir(parents=True, exist_ok=True)
    partial = cache.folder / f"{uuid4().hex}.partial"
    try:
        with partial.open("xb") as stream:
            with pa.ipc.new_file(stream, batch.schema) as writer:
                writer.write_batch(batch)
            stream.flush()
            os.fsync(stream.fileno())
        file = cache.folder / f"{_digest(partial)}.arrow"
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return replace(cache, parts=(*cache.parts, read_part(file)))


def _merged(parts: Sequence[Part]) -> Part:
    hashes = np.concatenate([part.hashes for part in parts])
    lengths = np.concatenate([np.diff(part.starts) for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    order = np.argsort(hashes)
    begins, starts = _starts(lengths), _starts(lengths[order])
    merged = np.empty_like(ids)
    for first in range(0, len(order), TEXTS):
        rows = order[first : first + TEXTS]
        merged[starts[first] : starts[first + len(rows)]] = ids[_spans(begins[rows], lengths[rows])]
    return Part(hashes[order], starts, merged)


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])


def _spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Counts up from each start, so many numbers, one after the other.

    >>> _spans(np.array([7, 0]), np.array([2, 3]))
    array([7, 8, 0, 1, 2])
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def _saved(tokenizer: Any) -> dict[str, str]:
    """Returns the digests of what a tokenizer saves that has no JSON of its own."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {file.name: _digest(file) for file in Path(folder).iterdir()}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, xxh3_64).hexdigest()
