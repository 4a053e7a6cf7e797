"""One batch: the rows of a plan as arrays, in the form that objectives read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxembed.data.hashing import split_words, text_hashes
from jaxembed.data.rows import Rows

if TYPE_CHECKING:
    from jaxembed.typing import Roles

Tokenize = Callable[[list[str], str], Mapping[str, np.ndarray]]
Damage = Callable[[list[str], np.ndarray], list[str]]
Draw = Callable[[Sequence[list[str]], np.ndarray], list[list[str]]]


def make_batch(
    rows: Rows,
    roles: Roles,
    indices: np.ndarray,
    tokenize: Tokenize,
    *,
    networks: Mapping[str, Sequence[str]] | None = None,
    damage: Damage | None = None,
    draw: Draw | None = None,
    negatives_per_row: int | None = None,
) -> dict[str, Any]:
    """Reads, tokenizes and hashes the rows of `indices`, int64 `[n]`, where -1 is padding.

    Indices `[n 2]` say the row of the first text and that of the second apart; labels are the
    first's. `networks` are those that read texts by tokens of their own: name -> roles.
    `damage(texts, row numbers)` makes the texts of noisy roles. `draw(negatives, row numbers)`
    returns `negatives_per_row` of each row's negatives, or fewer; all are taken if it is None.

    A batch has, in NumPy:
        each text role: the entries of `tokenize(texts, role)`, `[n t]`
        negatives: the same, `[n k t]`, with `negatives_where`, bool `[n k]`, if the rows have any;
            a missing one is the empty text
        guide_anchors, …: the same of `tokenize(texts, "guide_anchors")`, by network and role
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
    by_column = indices[:, None] if indices.ndim == 1 else indices  # [n 1] or [n 2]
    where = by_column[:, 0] >= 0
    filler = by_column[where][0] if where.any() else 0
    filled = np.where(where[:, None], by_column, filler)
    texts: dict[str, list[str]] = {}
    for position, role in enumerate(rows.text_roles):
        of_role = filled[:, min(position, filled.shape[1] - 1)]
        texts[role] = rows.texts(role, of_role)
        if role in rows.noisy and damage is not None:
            texts[role] = damage(texts[role], of_role)
    filled = filled[:, 0]
    batch: dict[str, Any] = {role: dict(tokenize(texts[role], role)) for role in texts}
    for network, its_roles in (networks or {}).items():
        for role in its_roles:
            if role in texts:
                name = f"{network}_{role}"
                batch[name] = dict(tokenize(texts[role], name))
    batch["where"] = where
    for role in rows.label_types:
        batch[role] = rows.labels(role, filled)
    if roles.ids:
        batch["anchor_ids"] = split_words(text_hashes(texts[roles.texts[0]]))
        batch["ids"] = split_words(text_hashes(texts[roles.texts[:2][-1]]))
    if rows.max_negatives:
        names = [
            "negatives",
            *(f"{name}_negatives" for name, its in (networks or {}).items() if "negatives" in its),
        ]
        lists, k = rows.negatives(filled), rows.max_negatives
        if draw is not None and negatives_per_row is not None:
            lists, k = draw(lists, filled), negatives_per_row
        batch |= _negatives(lists, k, roles, tokenize, names)
    return batch


def _negatives(
    lists: Sequence[list[str]], k: int, roles: Roles, tokenize: Tokenize, names: Sequence[str]
) -> dict[str, Any]:
    n = len(lists)
    flat = [text for texts in lists for text in texts + [""] * (k - len(texts))]
    batch: dict[str, Any] = {
        "negatives_where": np.arange(k) < np.array([[len(texts)] for texts in lists])
    }
    for name in names:
        tokens = tokenize(flat, name)
        batch[name] = {entry: array.reshape(n, k, -1) for entry, array in tokens.items()}
    if roles.ids:
        batch["negative_ids"] = split_words(text_hashes(flat)).reshape(n, k, 2)
    return batch
