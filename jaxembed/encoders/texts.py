"""What texts must be: strings in an order, each of which UTF-8 can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from jaxembed.encoders.errors import EncoderError, TextError


def check_kind(texts: Any) -> None:
    """Refuses what gives keys, names of columns, bytes, or no order, where texts are due."""
    other = isinstance(texts, Mapping | Set | bytes | bytearray | memoryview)
    if other or hasattr(texts, "columns") or not hasattr(type(texts), "__iter__"):
        raise EncoderError(
            f"texts must be a string or an iterable of strings; got {type(texts).__name__}"
        )
    if getattr(texts, "ndim", 1) != 1:
        raise EncoderError(f"texts must have one axis; got an array of {texts.ndim}")


def check_texts(texts: Iterable[Any], first: int = 0) -> None:
    """Refuses what is no string that UTF-8 can hold, by its row; the first text is row `first`."""
    for row, text in enumerate(texts, first):
        if not isinstance(text, str):
            shown = " ".join(repr(text).split())
            shown = shown if len(shown) <= 60 else shown[:60] + "…"
            raise TextError(row, f"must be a string; got {type(text).__name__} {shown}")
        if fault := fault_of(text):
            raise TextError(row, fault)


def fault_of(text: str) -> str | None:
    """Says where a text has half of a surrogate pair, which UTF-8 cannot hold; None without one."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"{text[error.start]!r} at character {error.start}"
        return f"has {half}, half of a pair; mend or omit it"
    return None
