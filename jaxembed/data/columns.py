"""Which column of the data plays which role."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxembed.data.completeness import one_text_a_row, only_complete
from jaxembed.data.errors import DataError
from jaxembed.data.rows import (
    Rows,
    check_labels,
    check_negatives,
    check_texts,
    innermost_type,
    is_text,
    type_of,
)

if TYPE_CHECKING:
    from datasets import Dataset

    from jaxembed.typing import Roles

Columns = str | Sequence[str] | Mapping[str, str | Sequence[str]]
Chosen = dict[str, list[str]]  # role -> columns

# What published data sets call the first and the second text of a row, and what they label it with.
FIRST = ("anchor", "query", "question", "premise", "sentence1", "text1", "text", "sentence")
SECOND = ("positive", "answer", "document", "passage", "hypothesis", "sentence2", "text2")
LABELS = {float: ("score", "similarity", "similarity_score", "label"), int: ("label", "class")}
NEGATIVES = re.compile(r"(hard_)?negatives?(_?\d+)?")


def bind_columns(
    dataset: Dataset,
    roles: Roles,
    columns: Columns | None = None,
    *,
    use_negatives: bool = False,
    find_optional: bool = True,
    drop_incomplete: bool = False,
) -> Rows:
    """Finds the column of each role and checks all its values; other columns are left alone.

    A role that `columns` leaves out takes the column of its own name (or the singular), else of a
    well-known name ("query", "positive", "score", …), else what is left, if there is no choice.
    Where a text column has lists, such as several positives, each of their texts makes a row.

    Args:
        columns: names of columns ("query,answer", or a sequence): first the texts in the order of
            the roles, then labels and negatives. Or "role=column", or a mapping of roles to
            columns. There may be several columns of "negatives", of texts (null: none) or of lists.
        use_negatives: takes the columns negative, negative_1, … where `columns` has no negatives.
        find_optional: takes the columns of optional roles by their names, if `columns` names none.
        drop_incomplete: leaves out rows without a text or label that they need, or with an empty
            one, and counts them in `dropped`, instead of refusing the data.

    Raises:
        DataError: a role without a column, no such column, or one that holds what its role cannot
            use; it names the column and the row.

    >>> from datasets import Dataset
    >>> from jaxembed.typing import Roles
    >>> data = Dataset.from_dict({"query": ["a", "b"], "reply": ["c", "d"], "wrong": ["e", None]})
    >>> roles = Roles(("anchors", "positives"), negatives=True)
    >>> rows = bind_columns(data, roles, "query,reply,wrong")
    >>> rows.texts("positives", range(2)), rows.negatives(range(2)), rows.max_negatives
    (['c', 'd'], [['e'], []], 1)
    """
    texts = [name for name in dataset.column_names if is_text(type_of(_only(dataset, name)))]
    single = [role for role in roles.texts if role not in roles.same_as]
    others = [
        name for name in dataset.column_names if not is_text(innermost_type(_only(dataset, name)))
    ]
    negatives = [name for name in dataset.column_names if NEGATIVES.fullmatch(name)]

    chosen = _named(columns or (), dataset, roles, others)
    found = () if not find_optional or roles.optional & chosen.keys() else roles.optional
    for role in (*roles.same_as, *sorted(found)):
        _find_by_name(chosen, role, (), dataset)
    for role, known in zip(single, (FIRST, SECOND), strict=False):
        _find_by_name(chosen, role, known, dataset)
    needed = [role for role in roles.labels if role not in roles.optional]
    for role in needed:
        _find_by_name(chosen, role, LABELS[roles.labels[role]], dataset)
    _find_rest(chosen, single, [name for name in texts if name not in negatives], dataset)
    _find_rest(chosen, needed, others, dataset)
    tied = {role: chosen[other] for role, other in roles.same_as.items() if role not in chosen}
    text_roles = (*roles.texts, *(role for role in chosen if _is_further(role, roles)))
    if (use_negatives or roles.needs_negatives) and "negatives" not in chosen:
        if not (negatives and roles.negatives):
            reason = "the objective takes none" if negatives else _there_are(dataset)
            raise DataError(
                f"there are no negatives to use: {reason}; say which they are with negatives=…"
            )
        chosen["negatives"] = negatives

    bound = {
        role: tuple(_only(dataset, name) for name in names)
        for role, names in (chosen | tied).items()
    }
    bound, dropped = one_text_a_row(bound, text_roles)
    labels = {role: kind for role, kind in roles.labels.items() if role in bound}
    if drop_incomplete:
        bound, incomplete = only_complete(bound, text_roles, tuple(labels))
        dropped |= incomplete
    for role in text_roles:
        check_texts(role, bound[role][0])
    for role, kind in labels.items():
        check_labels(role, bound[role][0], kind)
    max_negatives = sum(check_negatives(column) for column in bound.get("negatives", ()))
    noisy = roles.noisy & tied.keys()
    return Rows(bound, text_roles, labels, max_negatives, noisy, dropped)


def _only(dataset: Dataset, name: str) -> Dataset:
    return dataset.select_columns([name]).with_format("arrow")


def _named(columns: Columns, dataset: Dataset, roles: Roles, others: Sequence[str]) -> Chosen:
    """Reads the columns that the user names."""
    if isinstance(columns, Mapping):
        lists = {role: [v] if isinstance(v, str) else v for role, v in columns.items()}
        columns = [f"{role}={name}" for role, names in lists.items() for name in names]
    elif isinstance(columns, str):
        columns = [item.strip() for item in columns.split(",")]
    places = (*roles.texts, *roles.labels, *(["negatives"] if roles.negatives else []))
    chosen: Chosen = {}
    for item in columns:
        role, _, name = item.rpartition("=")
        if name not in dataset.column_names:
            raise DataError(f"there is no column {name!r}; {_there_are(dataset)}")
        if not role:
            is_text_column = name not in others
            taken = {*chosen, *roles.same_as, "negatives"}
            free = [place for place in places if place not in taken]
            if is_text_column and (roles.negatives or roles.several):  # a further text is no label
                free = [place for place in free if place in roles.texts]
            further = f"{roles.texts[-1]}_{1 + sum(_is_further(r, roles) for r in chosen) + 1}"
            rest = further if roles.several and is_text_column else "negatives"
            role = free[0] if free else rest
        known = role in places or _is_further(role, roles)
        if not known or (role in chosen and role != "negatives"):
            raise DataError(f"no place for column {name!r}; the places are {', '.join(places)}")
        chosen.setdefault(role, []).append(name)
    return chosen


def _is_further(role: str, roles: Roles) -> bool:
    """Says whether a role is a second, third, … column of a last text role with several."""
    stem, _, number = role.rpartition("_")
    return roles.several and stem == roles.texts[-1] and number.isdigit()


def _find_by_name(chosen: Chosen, role: str, known: Sequence[str], dataset: Dataset) -> None:
    for name in (role, role.removesuffix("s"), *known):
        if role not in chosen and name in dataset.column_names and [name] not in chosen.values():
            chosen[role] = [name]


def _find_rest(
    chosen: Chosen, roles: Sequence[str], candidates: Sequence[str], dataset: Dataset
) -> None:
    """Gives the roles without a column those that are left, if it is clear which."""
    missing = [role for role in roles if role not in chosen]
    left = [name for name in candidates if all(name not in names for names in chosen.values())]
    if missing and len(left) != len(missing):
        raise DataError(
            f"which column holds the {missing[0]}? Say it with {missing[0]}=…; "
            f"{_there_are(dataset)}"
        )
    chosen.update({role: [name] for role, name in zip(missing, left, strict=False)})


def _there_are(dataset: Dataset) -> str:
    return f"the columns are {', '.join(dataset.column_names)}"
