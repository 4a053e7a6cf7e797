"""One batch: the rows of a plan as arrays, in the form that objectives read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxembed.data.hashing import split_words, text_hashes
from jaxembed.data.rows import Rows

if TYPE_CHECKING:
    from jaxembed.typing import Roles

Tokenize = Callable[[list[str], str], Mapping[str, np.ndarray]]


def make_batch(rows: Rows, roles: Roles, indices: np.ndarray, tokenize: Tokenize) -> dict[str, Any]:
    """Reads, tokenizes and hashes the rows of `indices`, int64 `[n]`, where -1 is padding.

    A batch has, in NumPy:
        each text role: the entries of `tokenize(texts, role)`, `[n t]`
        negatives: the same, `[n k t]`, with `negatives_where`, bool `[n k]`, if the rows have any;
            a missing one is the empty text
        each label role: float32 or int32 `[n]` (`[n width]` for lists)
        where: bool `[n]`, False for padding, which holds the values of a real row
        ids, anchor_ids, negative_ids: uint32 `[n 2]`, `[n 2]` and `[n k 2]`, if `roles.ids`: the
            hashes of the second text (of the only one, where there is one), of the first and of the
            negatives

    >>> from datasets import Dataset
    >>> from jaxembed.data.columns import bind_columns
    >>> from jaxembed.typing import Roles
    >>> roles = Roles(("left", "right"), {"scores": float})
    >>> data = Dataset.from_dict({"left": ["a", "b"], "right": ["cc", "d"], "score": [0.5, 1.0]})
    >>> lengths = lambda texts, role: {"length": np.array([[len(text)] for text in texts])}
    >>> batch = make_batch(bind_columns(data, roles), roles, np.array([1, 0, -1]), lengths)
    >>> batch["right"]["length"].T, batch["scores"], batch["where"]
    (array([[1, 2, 1]]), array([1. , 0.5, 1. ], dtype=float32), array([ True,  True, False]))
    """
    where = indices >= 0
    filler = indices[where][0] if where.any() else 0
    filled = np.where(where, indices, filler)
    texts = {role: rows.texts(role, filled) for role in roles.texts}
    batch: dict[str, Any] = {role: dict(tokenize(texts[role], role)) for role in roles.texts}
    batch["where"] = where
    for role in roles.labels:
        batch[role] = rows.labels(role, filled)
    if roles.ids:
        batch["anchor_ids"] = split_words(text_hashes(texts[roles.texts[0]]))
        batch["ids"] = split_words(text_hashes(texts[roles.texts[:2][-1]]))
    if rows.max_negatives:
        batch |= _negatives(rows, roles, filled, tokenize)
    return batch


def _negatives(rows: Rows, roles: Roles, indices: np.ndarray, tokenize: Tokenize) -> dict[str, Any]:
    n, k = len(indices), rows.max_negatives
    lists = rows.negatives(indices)
    flat = [text for texts in lists for text in texts + [""] * (k - len(texts))]
    tokens = tokenize(flat, "negatives")
    batch: dict[str, Any] = {
        "negatives": {name: array.reshape(n, k, -1) for name, array in tokens.items()},
        "negatives_where": np.arange(k) < np.array([[len(texts)] for texts in lists]),
    }
    if roles.ids:
        batch["negative_ids"] = split_words(text_hashes(flat)).reshape(n, k, 2)
    return batch
