"""What an evaluator is, what it asks of a model, and the check of what it gets."""

from __future__ import annotations

import inspect
from typing import Any, Literal, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from jaxembed.evaluators.checking import shown

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
        ValueError: `embed` is no function of texts and role, its result is no array of numbers or
            not one row per text, or a row holds a NaN or an infinity.
    """
    check_embed(embed)
    embeddings = as_numbers(embed(texts, role=role), role)
    if embeddings.ndim != 2 or len(embeddings) != len(texts) or embeddings.shape[1] == 0:
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


def check_embed(embed: Any) -> None:
    """Refuses what cannot be called as an `EmbedFn`."""
    try:
        inspect.signature(embed).bind([], role=None)
    except ValueError:  # a function of C has no signature
        return
    except TypeError:
        raise ValueError(
            "embed must be a function of texts and role, such as"
            f" lambda texts, *, role: encoder.encode(texts); got {shown(embed)}"
        ) from None


def as_numbers(found: Any, role: Role | None) -> np.ndarray:
    """Returns an array of real numbers, and refuses anything else."""
    try:
        embeddings = np.asarray(found)
    except ValueError:  # rows of different lengths
        embeddings = np.empty(0, object)
    kind = embeddings.dtype.kind
    if kind not in "fiub" and not (kind == "V" and jnp.issubdtype(embeddings.dtype, jnp.floating)):
        raise ValueError(
            f"embed must return an array of real numbers (role {role!r}); got {shown(found)}"
        )
    return embeddings
