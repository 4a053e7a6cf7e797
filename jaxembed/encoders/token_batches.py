"""From texts to batches of tokens of like length, or rows that hold several texts, ahead of use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import numpy as np

from jaxembed.encoders.errors import TextError
from jaxembed.encoders.packing import NARROWEST, pack
from jaxembed.encoders.tokenizer import TextTokenizer

PACKED = 16  # tokens that a text of the batch size stands for in packed rows
TOKENIZED = 2048  # texts that are tokenized at once, while the devices work on those before

Argument = TypeVar("Argument")
Value = TypeVar("Value")


def token_batches(
    tokenizer: TextTokenizer, texts: Sequence[str], prompt: str = "", *, batch_size: int
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yields the row numbers and the tokens of batches of like length, the longest first.

    Texts of about as many characters are tokenized together, once, ahead of their use, and sorted
    by their number of tokens. A batch always has `batch_size` rows, so that few shapes occur: where
    there are fewer row numbers, the further rows repeat the first.
    """
    order = np.argsort([-len(text) for text in texts], kind="stable")
    size = -(-TOKENIZED // batch_size) * batch_size

    def tokenized(rows: np.ndarray) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        tokens = _tokens_of(tokenizer, texts, rows, prompt)
        lengths = tokens["attention_mask"].sum(axis=1)
        by_length = np.argsort(-lengths, kind="stable")
        parts = [by_length[s : s + batch_size] for s in range(0, len(rows), batch_size)]
        return [(rows[part], _cut(tokenizer, tokens, part, batch_size)) for part in parts]

    groups = (order[start : start + size] for start in range(0, len(order), size))
    return chain.from_iterable(_ahead(tokenized, groups))


def packed_batches(
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    prompt: str = "",
    *,
    batch_size: int,
    n_devices: int = 1,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yields the row numbers `[r k]`, -1 for none, and the tokens of `r` rows of several texts.

    There are two shapes: narrow rows for short texts, and rows that hold the longest.
    """
    order = np.argsort([-len(text) for text in texts], kind="stable")
    left = tokenizer.pads_left
    widest = NARROWEST

    def packed(rows: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        nonlocal widest
        tokens = _tokens_of(tokenizer, texts, rows, prompt)
        lengths = tokens["attention_mask"].sum(axis=1)
        widest = max(widest, tokenizer.width(int(lengths.max())))
        for part, width in ((lengths > NARROWEST, widest), (lengths <= NARROWEST, NARROWEST)):
            if not part.any():
                continue
            n_rows = -(-batch_size * PACKED // (width * n_devices)) * n_devices
            its_tokens = {name: array[part] for name, array in tokens.items()}
            (block,) = pack(its_tokens, width=width, multiple=n_rows, left=left)["blocks"]
            numbers = np.where(block["texts"] >= 0, rows[part][block["texts"]], -1)
            for start in range(0, len(numbers), n_rows):
                call = slice(start, start + n_rows)
                yield numbers[call], {name: array[call] for name, array in block.items()}

    groups = (order[start : start + TOKENIZED] for start in range(0, len(order), TOKENIZED))
    return chain.from_iterable(_ahead(lambda rows: list(packed(rows)), groups))


def _tokens_of(
    tokenizer: TextTokenizer, texts: Sequence[str], rows: np.ndarray, prompt: str
) -> dict[str, np.ndarray]:
    try:
        return tokenizer([texts[int(row)] for row in rows], prompt)
    except TextError as error:
        raise error.in_row(int(rows[error.row])) from None


def _cut(
    tokenizer: TextTokenizer, tokens: Mapping[str, np.ndarray], rows: np.ndarray, batch_size: int
) -> dict[str, np.ndarray]:
    """Returns the rows, filled up to `batch_size`, with the columns of the first row's bucket."""
    width = tokenizer.width(int(tokens["attention_mask"][rows[0]].sum()))
    left = tokenizer.pads_left
    columns = slice(-width, None) if left else slice(width)
    rows = np.append(rows, np.repeat(rows[:1], batch_size - len(rows)))
    return {name: array[rows, columns] for name, array in tokens.items()}


def _ahead(function: Callable[[Argument], Value], arguments: Iterable[Argument]) -> Iterator[Value]:
    """Yields the function's values; a thread computes the next one while the last is used."""
    with ThreadPoolExecutor(1) as pool:
        pending: deque[Future[Value]] = deque()
        for argument in arguments:
            pending.append(pool.submit(function, argument))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
