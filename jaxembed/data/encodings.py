"""Whether a file of texts is UTF-8, and where it is not."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

LOOKED_AT = 2**20  # bytes


def encoding_of(file: Path) -> str | None:
    """Says what is no UTF-8 in the beginning of a file, and the remedy; None if it all is."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as stream:
        head = stream.read(LOOKED_AT)
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "it is UTF-16; save the file as UTF-8"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < LOOKED_AT)
    except UnicodeDecodeError as error:
        line = head.count(b"\n", 0, error.start) + 1
        near = head[max(0, error.start - 3) : error.start + 1]
        return f"line {line} is no UTF-8, at {near!r}; save the file as UTF-8"
    return None
