"""What there is to know of rows before the first step: how many, how long, and what looks wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxembed.data.column_names import like_a_row
from jaxembed.data.hashing import CHUNK
from jaxembed.data.rows import Rows, listed

SAMPLE = 2000  # rows whose tokens are counted
SHOWN = 60  # characters of an example


@dataclass(frozen=True)
class DataFacts:
    """Counts of rows, and of what is empty, over-long or double, each with the first example.

    `empty` and `over_long` are by role; the shares of over-long texts and the lengths in tokens are
    those of a sample. `dropped` says how many rows were left out before, and why; `stream_files`
    that the rows are the first of a stream. `taken`, `words`, and `spare` are those of `Rows`;
    `remarks` are further lines.
    """

    rows: int
    dropped: dict[str, int]
    empty: dict[str, tuple[int, str]]
    duplicates: tuple[int, str]
    tokens: dict[str, dict[str, float]]
    over_long: dict[str, tuple[float, str]]
    limit: dict[str, int] = field(default_factory=dict)
    stream_files: int = 0
    taken: str = ""
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spare: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Says what is worth a look, a line each; the first has the size."""
        lines = [f"{self.rows:,} rows"]
        if self.stream_files:
            lines = [f"a stream of {self.stream_files:,} files, of which these are the first rows:"]
        lines[0] += "".join(f"; {n:,} dropped: {why}" for why, n in self.dropped.items())
        lines += [self.taken] if self.taken else []
        for role, words in self.words.items():
            numbered = [f"{word} = {number}" for number, word in enumerate(words)]
            lines.append(f"{role}: {listed(numbered)}")
        if self.spare:
            lines.append(
                f"{listed(self.spare)}: hard negatives, not used; --hard-negatives uses them"
            )
        for role, tokens in self.tokens.items():
            lines.append(
                f"{role}: {tokens['mean']:.0f} tokens on average, 95 % have up to"
                f" {tokens['p95']:.0f}, the longest {tokens['longest']:.0f}"
            )
        for role, (share, example) in self.over_long.items():
            if share:
                lines.append(
                    f"{share:.1%} of {role} reach {self.limit[role]} tokens and are cut ({example})"
                )
        for role, (count, example) in self.empty.items():
            if count:
                lines.append(f"{count:,} of {role} are empty ({example})")
        count, example = self.duplicates
        if count:
            lines.append(f"{count:,} rows repeat another one ({example})")
        if 0 < count == self.rows - 1:
            lines.append("all rows are the same one, so there is nothing to tell apart")
        return [*lines, *self.remarks]


def data_facts(
    rows: Rows,
    hashes: np.ndarray,
    count_tokens: Callable[[list[str], str], Sequence[int] | np.ndarray],
    limits: dict[str, int],
) -> DataFacts:
    """Looks at all rows for what is empty or double, and at a sample for what is long.

    Args:
        hashes: `row_hashes(rows)`.
        count_tokens: the numbers of tokens of texts of a role, cut at the limit.
        limits: the number of tokens at which the texts of each role are cut.

    >>> from datasets import Dataset
    >>> from jaxembed.data import bind_columns, row_hashes
    >>> from jaxembed.typing import Roles
    >>> data = Dataset.from_dict({"a": ["x", "x", "y z"], "b": ["u", "u", " "]})
    >>> rows = bind_columns(data, Roles(("anchors", "positives")), "a,b")
    >>> count = lambda texts, role: [len(text.split()) for text in texts]
    >>> facts = data_facts(rows, row_hashes(rows), count, {"anchors": 2, "positives": 9})
    >>> print(*facts.lines()[4:], sep="\\n")
    33.3% of anchors reach 2 tokens and are cut (row 2: 'y z')
    1 of positives are empty (row 2: ' ')
    1 rows repeat another one (row 1: 'x' | 'u')
    """
    empty = {role: _empty(rows, role) for role in rows.text_roles}
    whole = np.ascontiguousarray(hashes)
    keys = whole.view([("", whole.dtype)] * whole.shape[1]).ravel()
    _, first = np.unique(keys, return_index=True)
    repeats = np.setdiff1d(np.arange(len(keys)), first)
    example = ""
    if len(repeats):
        row = int(repeats[0])
        texts = (_short(rows.texts(role, range(row, row + 1))[0]) for role in rows.text_roles)
        example = f"row {row}: {' | '.join(texts)}"

    sample = np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int))
    tokens, over_long = {}, {}
    for role in rows.text_roles:
        texts = rows.texts(role, sample)
        lengths = np.asarray(count_tokens(texts, role))
        tokens[role] = {
            "mean": float(lengths.mean()),
            "p95": float(np.quantile(lengths, 0.95)),
            "longest": float(lengths.max()),
        }
        long = np.flatnonzero(lengths >= limits[role])
        shown = f"row {sample[long[0]]}: {_short(texts[long[0]])}" if len(long) else ""
        over_long[role] = len(long) / len(sample), shown
    return DataFacts(
        len(rows),
        dict(rows.dropped),
        empty,
        (len(repeats), example),
        tokens,
        over_long,
        limits,
        taken=rows.taken,
        words=dict(rows.words),
        spare=rows.spare,
        remarks=_header(rows),
    )


def _header(rows: Rows) -> tuple[str, ...]:
    """Says that the names of the columns look like a row, as those of a file without a header."""
    if not like_a_row(rows.column_names):
        return ()
    names = " | ".join(map(_short, rows.column_names))
    return (f"the first line was read as the names of the columns and looks like a row: {names}",)


def _empty(rows: Rows, role: str) -> tuple[int, str]:
    count, example = 0, ""
    for start in range(0, len(rows), CHUNK):
        texts = rows.texts(role, range(start, min(start + CHUNK, len(rows))))
        blank = [number for number, text in enumerate(texts) if not text.strip()]
        if blank and not count:
            example = f"row {start + blank[0]}: {texts[blank[0]]!r}"
        count += len(blank)
    return count, example


def _short(text: Any) -> str:
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")
