"""Which column of the data plays which role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaxembed.data.arrow_types import is_list, is_text, plain_type
from jaxembed.data.column_names import (
    SCORES,
    known_names,
    may_be_left,
    of_negatives,
    own_name,
)
from jaxembed.data.completeness import one_text_a_row, only_complete, without_labels
from jaxembed.data.errors import DataError
from jaxembed.data.labels import holds_numbers, read_labels
from jaxembed.data.rows import Rows, check_labels, check_negatives, check_texts, listed

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from jaxembed.typing import Roles

Columns = str | Sequence[str] | Mapping[str, str | Sequence[str]]
Chosen = dict[str, list[str]]  # role -> columns


def bind_columns(
    dataset: Dataset,
    roles: Roles,
    columns: Columns | None = None,
    *,
    use_negatives: bool = False,
    find_optional: bool = True,
    drop_incomplete: bool = False,
    drop_labels: Sequence[str] = (),
) -> Rows:
    """Finds the column of each role and checks all its values; other columns are left alone.

    A role has the column that `columns` names, else that of its own name (or the singular), else of
    a well-known one ("query", "positive", "score", …). The roles that are then without one take
    what is left, in its order, if these are exactly the columns that they need. Nothing else is
    taken. Where a text column has lists, such as several positives, each text makes a row. Texts
    that are numbers, as all numbers of CSV are, are read as such for labels; words are classes,
    numbered in alphabetical order (`Rows.words`).

    Args:
        columns: names of columns ("query,answer", or a sequence): first the texts in the order of
            the roles, then labels and negatives. Or "role=column", or a mapping of roles to
            columns. There may be several columns of "negatives", of texts (null: none) or of lists.
        use_negatives: takes the columns negative, negative_1, neg, … where `columns` names none.
        find_optional: takes the columns of optional roles by their names, if `columns` names none.
        drop_incomplete: leaves out rows without a text or label that they need, or with an empty
            one, and counts them in `dropped`, instead of refusing the data.
        drop_labels: drops, and counts, the rows with these labels, such as "-1".

    Raises:
        DataError: a role without a column or with a choice, no such column, or one that holds what
            its role cannot use; it names the columns, or the column and the row.

    >>> from datasets import Dataset
    >>> from jaxembed.typing import Roles
    >>> data = Dataset.from_dict({"query": ["a", "b"], "reply": ["c", "d"], "wrong": ["e", None]})
    >>> roles = Roles(("anchors", "positives"), negatives=True)
    >>> rows = bind_columns(data, roles, "query,reply,wrong")
    >>> rows.texts("positives", range(2)), rows.negatives(range(2)), rows.max_negatives
    (['c', 'd'], [['e'], []], 1)
    >>> rows.taken
    'anchors = query, positives = reply, negatives = wrong'
    """
    table = Table(dataset)
    chosen = _chosen(table, roles, columns or (), find_optional)
    tied = {role: chosen[other] for role, other in roles.same_as.items() if role not in chosen}
    text_roles = (*roles.texts, *(role for role in chosen if _is_further(role, roles)))
    negatives = [name for name in table.names if of_negatives(name)]
    if (use_negatives or roles.needs_negatives) and "negatives" not in chosen:
        if not (negatives and roles.negatives):
            reason = "the objective takes none" if negatives else table.there_are()
            raise DataError(
                f"there are no negatives to use: {reason}; say which they are with negatives=…"
            )
        chosen["negatives"] = negatives

    of_roles = chosen | tied
    in_order = [role for role in (*text_roles, *roles.labels, "negatives") if role in of_roles]
    bound = {role: tuple(table.only(name) for name in of_roles[role]) for role in in_order}
    bound, dropped = one_text_a_row(bound, text_roles, null=drop_incomplete)
    labels = {role: kind for role, kind in roles.labels.items() if role in bound}
    if drop_incomplete:
        bound, incomplete = only_complete(bound, text_roles, tuple(labels))
        dropped |= incomplete
    if drop_labels:
        bound, without = _dropped(bound, labels, drop_labels)
        dropped |= without
    for role in text_roles:
        check_texts(role, bound[role][0])
    words = {}
    for role, kind in labels.items():
        column, words[role] = read_labels(role, bound[role][0], kind)
        bound[role] = (column,)
        check_labels(role, column, kind)
    max_negatives = sum(check_negatives(column) for column in bound.get("negatives", ()))
    if bound.get("negatives") and not max_negatives:
        named = listed([column.column_names[0] for column in bound["negatives"]])
        raise DataError(f"{named} has no negatives in any row; leave the negatives away")
    used = {name for names in chosen.values() for name in names}
    unused = tuple(name for name in table.names if name not in used)
    return Rows(
        bound,
        text_roles,
        labels,
        max_negatives,
        roles.noisy & tied.keys(),
        dropped,
        {role: its for role, its in words.items() if its},
        unused,
        tuple(name for name in negatives if name in unused and roles.negatives),
    )


@dataclass(frozen=True)
class Table:
    """The columns of a data set, and what each could be."""

    dataset: Dataset
    types: Mapping[str, pa.DataType] = field(init=False)

    def __post_init__(self) -> None:
        schema = self.dataset.features.arrow_schema
        types = {column.name: plain_type(column.type) for column in schema}
        object.__setattr__(self, "types", types)

    @property
    def names(self) -> list[str]:
        return self.dataset.column_names

    def only(self, name: str) -> Dataset:
        """Returns the data set of one column, in Arrow form."""
        return self.dataset.select_columns([name]).with_format("arrow")

    def may_be_text(self, name: str) -> bool:
        """Returns True if a column holds texts or lists of texts."""
        kind = self.types[name]
        return is_text(kind.value_type if is_list(kind) else kind)

    def may_be_label(self, name: str) -> bool:
        """Returns True if a column holds numbers, be they written as texts."""
        import pyarrow.types as kinds

        kind = self.types[name]
        while is_list(kind):
            kind = kind.value_type
        if is_text(kind):
            return holds_numbers(self.only(name))
        return kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)

    def may_be(self, role: str, roles: Roles, name: str) -> bool:
        """Returns True if a column could play a role by its type."""
        if role in roles.texts:
            return self.may_be_text(name)
        words = roles.labels[role] is int and self.may_be_text(name)
        return words or self.may_be_label(name)

    def there_are(self) -> str:
        return f"the columns are {listed(self.names)}"


def find_column(table: Table, role: str, known: set[str], taken: Sequence[str] = ()) -> str | None:
    """Returns the column of a role's own name, its singular, or a well-known name.

    Raises:
        DataError: two columns have well-known names.
    """
    free = [name for name in table.names if name not in taken]
    if (own := own_name(role, free)) is not None:
        return own
    found = [name for name in free if name.casefold() in known]
    if len(found) > 1:
        raise _which(role, found, table)
    return found[0] if found else None


def _chosen(table: Table, roles: Roles, columns: Columns, find_optional: bool) -> Chosen:
    """Finds the columns of the roles: by the user, by their names, by what is left."""
    single = [role for role in roles.texts if role not in roles.same_as]
    needed = [role for role in roles.labels if role not in roles.optional]
    chosen = _named(columns, table, roles)
    found = () if not find_optional or roles.optional & chosen.keys() else roles.optional
    for role in (*roles.same_as, *sorted(found), *single, *needed):
        taken = [name for names in chosen.values() for name in names]
        free = [name for name in table.names if name not in taken]
        if role not in chosen and (own := own_name(role, free)) is not None:
            chosen[role] = [own]
    for role in (*single, *needed):
        if role not in chosen:
            taken = [name for names in chosen.values() for name in names]
            _find_known(chosen, role, taken, table, roles, single)
    missing = [role for role in (*single, *needed) if role not in chosen]
    if missing:
        _take_rest(chosen, missing, table, roles)
    return chosen


def _find_known(
    chosen: Chosen,
    role: str,
    taken: Sequence[str],
    table: Table,
    roles: Roles,
    single: Sequence[str],
) -> None:
    """Gives a role the column of a well-known name that could play it by its type."""
    known = known_names(role, single)
    free = [name for name in table.names if name not in taken]
    found = [name for name in free if name.casefold() in known]
    fit = [name for name in found if table.may_be(role, roles, name)] or found
    if role == "scores" and fit and fit[0].casefold() not in SCORES:
        # A label may be a class rather than a score, so it is taken where nothing else could be
        fit += [name for name in free if name not in found and _holds_floats(table, name)]
    if len(fit) > 1:
        raise _which(role, fit, table)
    if fit:
        chosen[role] = fit


def _holds_floats(table: Table, name: str) -> bool:
    import pyarrow.types as kinds

    kind = table.types[name]
    return kinds.is_floating(kind) or (is_text(kind) and table.may_be_label(name))


def _take_rest(chosen: Chosen, missing: Sequence[str], table: Table, roles: Roles) -> None:
    """Gives the roles without a column those that are left, if these are exactly what they need."""
    taken = {name for names in chosen.values() for name in names}
    left = [name for name in table.names if name not in taken]
    aside = [name for name in left if of_negatives(name) and roles.negatives]
    left = [name for name in left if name not in aside]
    texts = [role for role in missing if role in roles.texts]
    labels = [role for role in missing if role not in roles.texts]
    numbers = [name for name in left if labels and table.may_be_label(name)]
    words = [name for name in left if name not in numbers and table.may_be_text(name)]
    if not labels:
        words = [name for name in left if table.may_be_text(name)]
    exact = (
        (len(left), len(words), len(numbers)) == (len(missing), len(texts), len(labels))
        and all(may_be_left(name, text=True) for name in words)
        and all(may_be_left(name, text=False) for name in numbers)
    )
    if not exact:
        role = labels[0] if labels and len(words) == len(texts) else missing[0]
        could = [name for name in left if table.may_be(role, roles, name)]
        raise _which(role, could, table)
    names = [*words, *numbers]
    chosen.update({role: [name] for role, name in zip([*texts, *labels], names, strict=True)})


def _which(role: str, could: Sequence[str], table: Table) -> DataError:
    might = f"it could be {listed(could)}" if could else "none could be by its type"
    return DataError(
        f"which column holds the {role}? {might}; name it with --columns {role}=…; "
        f"{table.there_are()}"
    )


def _dropped(
    bound: Mapping[str, tuple[Dataset, ...]],
    labels: Mapping[str, type],
    drop_labels: Sequence[str],
) -> tuple[dict[str, tuple[Dataset, ...]], dict[str, int]]:
    if "labels" not in labels:
        raise DataError("the loss has no labels of which some could be dropped; omit --drop-label")
    return without_labels(bound, "labels", drop_labels)


def _named(columns: Columns, table: Table, roles: Roles) -> Chosen:
    """Reads the columns that the user names."""
    if isinstance(columns, Mapping):
        lists = {role: [v] if isinstance(v, str) else v for role, v in columns.items()}
        columns = [f"{role}={name}" for role, names in lists.items() for name in names]
    elif isinstance(columns, str):
        columns = [item.strip() for item in columns.split(",")]
    places = (*roles.texts, *roles.labels, *(["negatives"] if roles.negatives else []))
    chosen: Chosen = {}
    for item in columns:
        role, _, name = (None, "", item) if item in table.names else item.rpartition("=")
        if name not in table.names:
            raise DataError(f"there is no column {name!r}; {table.there_are()}")
        if not role:
            taken = {*chosen, *roles.same_as, "negatives"}
            free = [place for place in places if place not in taken]
            words = table.may_be_text(name)
            if words and (roles.negatives or roles.several):  # a further text is no label
                of_texts = [place for place in free if place in roles.texts]
                free = of_texts or (free if table.may_be_label(name) else [])
            further = f"{roles.texts[-1]}_{1 + sum(_is_further(r, roles) for r in chosen) + 1}"
            rest = further if roles.several and words else "negatives"
            role = free[0] if free else rest
        known = role in places or _is_further(role, roles)
        if not known or (role in chosen and role != "negatives"):
            raise DataError(f"no place for column {name!r}; the places are {', '.join(places)}")
        chosen.setdefault(role, []).append(name)
    return chosen


def _is_further(role: str, roles: Roles) -> bool:
    """Returns True if a role is a second, third, … column of a last text role with several."""
    stem, _, number = role.rpartition("_")
    return roles.several and stem == roles.texts[-1] and number.isdigit()
