"""What an evaluator finds where embeddings are cut or quantised: each is an evaluator itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from jaxembed.evaluators.checking import is_count, shown
from jaxembed.evaluators.protocols import EmbedFn, Evaluator, Role, embed_texts
from jaxembed.evaluators.suite import Suite

INTEGERS, BITS = ("int8", "uint8"), ("binary", "ubinary")
PRECISIONS = ("float32", *INTEGERS, *BITS)
BLOCK = 8192  # embeddings that are quantised at once


class Quantize(Protocol):
    """Stores embeddings `[n d]` in a byte or, eight features to a byte, in a bit per feature.

    `jaxembed.encoders.inference.quantize_embeddings` is one. `ranges` `[2 d]` are given for "int8"
    and "uint8" only: the least and the greatest value of every feature. The bytes of "int8" and
    "binary" are those of "uint8" and "ubinary" less 128.
    """

    def __call__(
        self, embeddings: np.ndarray, precision: str, ranges: np.ndarray | None, /
    ) -> np.ndarray: ...


def at_dims(evaluator: Evaluator, dims: Sequence[int]) -> Evaluator:
    """Builds the evaluator of embeddings that are cut to their first features.

    A metric `spearman` becomes `spearman_dim_128` for each of `dims`; that of the greatest is the
    main one. Texts are embedded once. Of a suite each member is cut by itself, and means follow.

    Raises:
        ValueError: No dims, one below 1 or given twice, or (while evaluating) one that is more than
            the model's width.

    Source: Kusupati et al., "Matryoshka Representation Learning", 2022.

    >>> from jaxembed.evaluators import TripletEvaluator
    >>> def embed(texts, *, role):
    ...     return np.array([[1, len(text)] for text in texts], np.float32)
    >>> at_dims(TripletEvaluator(["a"], ["b"], ["abcd"]), [1, 2]).evaluate(embed)
    {'accuracy_dim_1': 0.0, 'accuracy_dim_2': 1.0}
    """
    check_dims(dims)
    if isinstance(evaluator, Suite):
        members = {name: at_dims(each, dims) for name, each in evaluator.evaluators.items()}
        return Suite(members, f"{evaluator.main_metric}_dim_{max(dims)}")
    return AtDims(evaluator, dims)


def at_precisions(
    evaluator: Evaluator,
    precisions: Sequence[str],
    quantize: Quantize,
    *,
    ranges: Float[np.ndarray, "2 d"] | None = None,
) -> Evaluator:
    """Builds the evaluator of embeddings that are stored in less than a float per feature.

    A metric `spearman` becomes `spearman_int8` for each of `precisions`; that of the first is the
    main one. As in sentence-transformers' evaluators, embeddings are scaled to length 1 first, bits
    count as the numbers 0 and 1, and integers are compared as they are. Texts are embedded once. Of
    a suite each member is quantised by itself, and means follow.

    Args:
        evaluator: Any evaluator.
        precisions: Some of "float32", "int8", "uint8", "binary" and "ubinary".
        quantize: See `Quantize`.
        ranges: Of "int8" and "uint8", the least and greatest values of embeddings of length 1; by
            default those of what the evaluator embeds as documents or, without a document, of all.

    Raises:
        ValueError: No precisions, one that is unknown or given twice.

    Source: Yamada et al., "Efficient Passage Retrieval with Hashing for Open-domain Question
    Answering", 2021.

    >>> from jaxembed.evaluators import TripletEvaluator
    >>> def quantize(x, precision, ranges):  # here bits only
    ...     return np.packbits(x > 0, axis=1)
    >>> def embed(texts, *, role):
    ...     return np.array([[1, len(text) - 2] for text in texts], np.float32)
    >>> evaluator = TripletEvaluator(["a", "abc"], ["b", "abcd"], ["abcd", "abcde"])
    >>> at_precisions(evaluator, ["ubinary"], quantize).evaluate(embed)  # abcd and abcde are one
    {'accuracy_ubinary': 0.5}
    """
    check_precisions(precisions)
    if isinstance(evaluator, Suite):
        members = {
            name: at_precisions(each, precisions, quantize, ranges=ranges)
            for name, each in evaluator.evaluators.items()
        }
        return Suite(members, f"{evaluator.main_metric}_{precisions[0]}")
    return AtPrecisions(evaluator, precisions, quantize, ranges)


@dataclass(frozen=True, eq=False, repr=False)
class AtDims:
    """See `at_dims`."""

    evaluator: Evaluator
    dims: Sequence[int]

    def __post_init__(self) -> None:
        check_evaluator(self.evaluator)
        check_dims(self.dims)

    @property
    def main_metric(self) -> str:
        return f"{self.evaluator.main_metric}_dim_{max(self.dims)}"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        kept = Kept(embed)

        def embed_cut(texts: list[str], *, role: Role | None) -> np.ndarray:
            embeddings = kept(texts, role=role)
            if embeddings.shape[1] < dim:
                raise ValueError(
                    f"the model embeds to {embeddings.shape[1]} features, "
                    f"which cannot be cut to {dim}: drop it from dims"
                )
            return embeddings[:, :dim]

        values = {}
        for dim in self.dims:
            found = self.evaluator.evaluate(embed_cut)
            values |= {f"{name}_dim_{dim}": value for name, value in found.items()}
        return values


@dataclass(frozen=True, eq=False, repr=False)
class AtPrecisions:
    """See `at_precisions`."""

    evaluator: Evaluator
    precisions: Sequence[str]
    quantize: Quantize
    ranges: Float[np.ndarray, "2 d"] | None = None

    def __post_init__(self) -> None:
        check_evaluator(self.evaluator)
        check_precisions(self.precisions)
        if not callable(self.quantize):
            raise ValueError(f"quantize must be a function, got {shown(self.quantize)}")

    @property
    def main_metric(self) -> str:
        return f"{self.evaluator.main_metric}_{self.precisions[0]}"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        kept, ranges = Kept(embed, unit=True), self.ranges
        if ranges is None and set(INTEGERS) & set(self.precisions):
            self.evaluator.evaluate(kept)  # so that all documents are there
            ranges = kept.ranges()

        def embed_quantised(texts: list[str], *, role: Role | None) -> np.ndarray:
            embeddings = kept(texts, role=role)
            numbers = np.empty(embeddings.shape, np.float32)
            for start in range(0, len(texts), BLOCK):
                rows = slice(start, start + BLOCK)
                numbers[rows] = self.quantised(embeddings[rows], precision, ranges)
            return numbers

        values = {}
        for precision in self.precisions:
            found = self.evaluator.evaluate(embed_quantised)
            values |= {f"{name}_{precision}": value for name, value in found.items()}
        return values

    def quantised(
        self, embeddings: np.ndarray, precision: str, ranges: np.ndarray | None
    ) -> np.ndarray:
        """Computes the integers or the bits, as numbers `[n d]`."""
        codes = self.quantize(embeddings, precision, ranges if precision in INTEGERS else None)
        if precision not in BITS:
            return codes
        flipped = np.uint8(128 if precision == "binary" else 0)
        return np.unpackbits(codes.view(np.uint8) ^ flipped, axis=1, count=embeddings.shape[1])


def check_evaluator(evaluator: Any) -> None:
    if isinstance(evaluator, type) or not isinstance(evaluator, Evaluator):
        raise ValueError(f"an evaluator is needed, got {shown(evaluator)}")


def check_dims(dims: Any) -> None:
    numbers = [] if isinstance(dims, str) or not hasattr(dims, "__len__") else list(dims)
    if not numbers or not all(map(is_count, numbers)) or len({*numbers}) < len(numbers):
        raise ValueError(
            f"dims must be different numbers of 1 or more, such as (256, 128), got {dims!r}"
        )


def check_precisions(names: Any) -> None:
    several = [] if isinstance(names, str) or not hasattr(names, "__len__") else list(names)
    for name in several:
        if name not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {name!r}")
    if not several or len({*several}) < len(several):
        raise ValueError(f"precisions must be different ones of {PRECISIONS}, got {names!r}")


class Kept:
    """Embeds what an evaluator asks for, and keeps it for when it asks again."""

    def __init__(self, embed: EmbedFn, *, unit: bool = False) -> None:
        self.embed, self.unit = embed, unit
        self.embeddings: dict[tuple[Role | None, tuple[str, ...]], np.ndarray] = {}

    def __call__(self, texts: list[str], *, role: Role | None) -> np.ndarray:
        call = role, tuple(texts)
        if call not in self.embeddings:
            embeddings = embed_texts(self.embed, texts, role=role)
            if self.unit:
                embeddings = embeddings.astype(np.float32)
                lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
                embeddings /= np.maximum(lengths, 1e-12)
            self.embeddings[call] = embeddings
        return self.embeddings[call]

    def ranges(self) -> Float[np.ndarray, "2 d"]:
        """Finds the least and the greatest value per feature of all documents, or of all."""
        documents = [x for (role, _), x in self.embeddings.items() if role == "document"]
        found = documents or list(self.embeddings.values())
        low, high = [x.min(axis=0) for x in found], [x.max(axis=0) for x in found]
        return np.stack([np.min(low, axis=0), np.max(high, axis=0)])
