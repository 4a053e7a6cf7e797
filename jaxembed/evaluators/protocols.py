"""What an evaluator is, what it asks of a model, and the check of what it gets."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import numpy as np

Role = Literal["query", "document"]


@runtime_checkable
class EmbedFn(Protocol):
    """Texts to embeddings: row i of the `[n d]` NumPy array belongs to text i.

    `role` says what the texts are, for models with a prompt or encoder for each; None = neither.
    """

    def __call__(self, texts: list[str], *, role: Role | None) -> np.ndarray: ...


@runtime_checkable
class Evaluator(Protocol):
    """Holds its data, is built once, and measures any model: names of metrics to values."""

    @property
    def main_metric(self) -> str: ...

    def evaluate(self, embed: EmbedFn) -> dict[str, float]: ...


def embed_texts(embed: EmbedFn, texts: list[str], *, role: Role | None) -> np.ndarray:
    """Calls `embed` and refuses what would make every metric after it meaningless.

    Raises:
        ValueError: The result is not one row per text, or a row holds a NaN or an infinity.
    """
    embeddings = np.asarray(embed(texts, role=role))
    if embeddings.ndim != 2 or len(embeddings) != len(texts):
        raise ValueError(
            f"embed must return one row for each of its {len(texts)} texts (role {role!r}), "
            f"[{len(texts)} d]; got shape {list(embeddings.shape)}"
        )
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(broken) > 0:
        raise ValueError(
            f"embed returned NaN or infinity for {len(broken)} of {len(texts)} texts "
            f"(role {role!r}), the first {texts[broken[0]]!r}: has the training diverged?"
        )
    return embeddings
