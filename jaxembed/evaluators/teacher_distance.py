"""How near embeddings lie to those of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Num

from jaxembed.evaluators.checking import check_texts
from jaxembed.evaluators.protocols import EmbedFn, embed_texts

BLOCK = 8192  # rows that are compared at once


@dataclass(frozen=True, eq=False, repr=False)
class MSEEvaluator:
    """Computes `negative_mse`, -100 times the mean of `(embedding - teacher)²` over all numbers.

    That is what sentence-transformers' `MSEEvaluator` gives. A block of rows at a time is compared,
    so that the teacher's embeddings may be a `np.memmap`.

    Args:
        texts: What the model embeds; for a student of another language, the translations.
        teacher: `[n d]`, what it should embed them to.

    Raises:
        ValueError: No texts, a text that is none, a teacher that has not a row of finite numbers
            for each, or (while evaluating) a model with another width than the teacher's.

    Source: Reimers and Gurevych, "Making Monolingual Sentence Embeddings Multilingual using
    Knowledge Distillation", 2020, equation 1.

    >>> evaluator = MSEEvaluator(["a", "bb"], np.array([[1.0], [1.5]]))
    >>> evaluator.evaluate(lambda texts, *, role: np.array([[len(text)] for text in texts]))
    {'negative_mse': -12.5}
    """

    texts: Sequence[str]
    teacher: Num[np.ndarray, "n d"]

    def __post_init__(self) -> None:
        check_texts(texts=self.texts)
        if not hasattr(self.teacher, "shape"):
            raise ValueError(f"teacher must be an array [n d], got {type(self.teacher).__name__}")
        if not np.issubdtype(self.teacher.dtype, np.number):
            raise ValueError(f"teacher must hold numbers, got {self.teacher.dtype}")
        shape = np.shape(self.teacher)
        if len(shape) != 2 or shape[0] != len(self.texts) or shape[1] == 0:
            raise ValueError(
                f"teacher must have a row for each of the {len(self.texts)} texts, "
                f"[{len(self.texts)} d]; got shape {list(shape)}"
            )
        for start in range(0, shape[0], BLOCK):
            finite = np.isfinite(self.teacher[start : start + BLOCK]).all(axis=1)
            if not finite.all():
                row = start + int(np.argmin(finite))
                raise ValueError(f"row {row} of teacher holds NaN or infinity: drop the text")

    @property
    def main_metric(self) -> str:
        """The name of the metric that ranks models."""
        return "negative_mse"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Embeds all texts in one call (role None); returns `{"negative_mse": …}`."""
        embeddings = embed_texts(embed, list(self.texts), role=None)
        width, own = self.teacher.shape[1], embeddings.shape[1]
        if own != width:
            raise ValueError(
                f"the model embeds to {own} features and its teacher to {width}: "
                f"compare embeddings of one width"
            )
        total = 0.0
        for start in range(0, len(embeddings), BLOCK):
            rows = slice(start, start + BLOCK)
            difference = np.subtract(embeddings[rows], self.teacher[rows], dtype=np.float64)
            total += float(np.sum(difference**2))
        return {"negative_mse": -100 * total / (len(embeddings) * width)}
