"""The shapes, aliases and Protocols that the parts of jaxembed share.

Letters in shapes: `n` rows, `m` candidates, `k` negatives per row, `d` features, `l` layers, `t`
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int, Real, UInt32

__all__ = [
    "PACKED",
    "SAMPLE",
    "Batch",
    "Embeddings",
    "EncodeFn",
    "Ids",
    "Labels",
    "LossFn",
    "NegativeIds",
    "Negatives",
    "NegativesWhere",
    "ObjectiveFn",
    "PairedFn",
    "PairedTokensFn",
    "Params",
    "ReduceFn",
    "Roles",
    "Scalar",
    "Scores",
    "SimilarityFn",
    "Tokens",
    "TokensFn",
    "Values",
    "Where",
]  # fmt: skip

Params = Any  # a pytree of arrays
Tokens = Mapping[str, Int[Array, "..."]]  # input_ids, attention_mask, …: [n t]
# A batch has text columns, which are Tokens, or `places` in blocks; arrays with leading n; "where".
Batch = Mapping[str, Any]
PACKED = "packed"  # the entry with the blocks that the columns which have only `places` share
SAMPLE = "sample"  # the metric that is no number: arrays that `embedding_health` takes

Embeddings = Float[Array, "n d"]
Negatives = Float[Array, "n k d"]
Values = Float[Array, " n"]
Where = Bool[Array, " n"]
Labels = Int[Array, " n"]
Scores = Real[Array, " n"] | Bool[Array, " n"]
NegativesWhere = Bool[Array, "n k"]
Ids = UInt32[Array, "n 2"]
NegativeIds = UInt32[Array, "n k 2"]
Scalar = ArrayLike


@runtime_checkable
class LossFn(Protocol):
    """A loss: embeddings by position, everything else by keyword, one array out."""

    def __call__(self, *args: Any, **kwargs: Any) -> Array: ...


@runtime_checkable
class SimilarityFn(Protocol):
    """All pairs: `[n d], [m d] -> [n m]`, greater is closer (a distance: smaller is closer)."""

    def __call__(self, left: Array, right: Array, /) -> Array: ...


@runtime_checkable
class PairedFn(Protocol):
    """Row by row: `[... d], [... d] -> [...]`, leading axes broadcast."""

    def __call__(self, left: Array, right: Array, /) -> Array: ...


@runtime_checkable
class TokensFn(Protocol):
    """All pairs by tokens: `[n t d], [m s d] -> [n m]`, with masks `[n t]` and `[m s]`."""

    def __call__(
        self,
        queries: Array,
        documents: Array,
        /,
        *,
        query_mask: Array | None = None,
        document_mask: Array | None = None,
    ) -> Array: ...


@runtime_checkable
class PairedTokensFn(Protocol):
    """Row by row by tokens: `[... t d], [... s d] -> [...]`, leading axes broadcast."""

    def __call__(
        self,
        queries: Array,
        documents: Array,
        /,
        *,
        query_mask: Array | None = None,
        document_mask: Array | None = None,
    ) -> Array: ...


@runtime_checkable
class ReduceFn(Protocol):
    """Per-row values to a scalar, over the rows that are real: `[n], where[n] -> []`."""

    def __call__(self, values: Array, where: Array | None, /) -> Array: ...


@runtime_checkable
class EncodeFn(Protocol):
    """Tokens to embeddings, `[n d]` or `[n l d]`. Without a key it is deterministic.

    `key` is one key, from which every row derives its own, or an array of one key per row.
    """

    def __call__(
        self, params: Params, tokens: Tokens, *, key: jax.Array | None = None
    ) -> Array: ...


@runtime_checkable
class ObjectiveFn(Protocol):
    """The scalar to minimise, with metrics and carried values; only `params` is differentiated."""

    def __call__(
        self,
        params: Params,
        batch: Batch,
        *,
        key: jax.Array | None,
        frozen: Params | None = None,
        carried: Params | None = None,
    ) -> tuple[Array, tuple[dict[str, Any], Params | None]]: ...


@dataclass(frozen=True)
class Roles:
    """The columns that an objective reads from the data.

    `texts` are the text columns in order, `labels` the other columns with their element type; those
    among them that are `optional` may be absent. With `negatives`, a row may bring further texts,
    and has to with `needs_negatives`; with `ids`, a batch carries the hashes of its texts. A text
    role in `same_as` reads the column of another role where the data has none for it, and, if it is
    `noisy`, a damaged copy. With `several`, further text columns have the roles `texts_2`, ….
    """

    texts: tuple[str, ...]
    labels: Mapping[str, type] = field(default_factory=dict)
    negatives: bool = False
    ids: bool = False
    optional: frozenset[str] = frozenset()
    needs_negatives: bool = False
    same_as: Mapping[str, str] = field(default_factory=dict)
    noisy: frozenset[str] = frozenset()
    several: bool = False
