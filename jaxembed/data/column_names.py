"""What published data sets call their columns: the names by which a role finds its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# By kind of role. A role's own name and its singular come before all of these.
FIRST = {
    *("anchor", "query", "question", "premise", "sentence1", "sentence_1", "sentence_a"),
    *("text1", "text_1", "text_a", "question1"),
}
SECOND = {
    *("positive", "pos", "positive_passages", "answer", "response", "document", "passage"),
    *("context", "hypothesis", "sentence2", "sentence_2", "sentence_b"),
    *("text2", "text_2", "text_b", "question2"),
}
ONLY = {"text", "sentence", *FIRST}
SCORES = {"score", "similarity", "similarity_score", "relatedness_score"}
CLASSES = {"label", "labels", "class", "gold_label", "is_duplicate"}
LABELS = {"scores": SCORES | {"label", "labels"}, "labels": CLASSES}
NEGATIVES = re.compile(r"((hard_)?neg(ative)?s?(_?\d+)?|negative_passages)")

# What describes a row without being one of its texts or labels, so that it is taken for one only
# where it is named.
BESIDE = re.compile(
    r"(.*[_ ])?(ids?|idx|index|uuid|guid|key|url|uri|link|lang|language|split|source|type|prompt|"
    r"task|task_name|subset|domain|year|date|time|timestamp|unnamed: \d+|index_level_\d+_*|"
    r"pos_scores|neg_scores|pos_id|neg_id)|[a-z]*id\d?|[a-z]*Id|[a-z]*ID"
)
OTHER_WORDS = 3  # of a name that reads like a sentence: a row where the header should be


def known_names(role: str, texts: Sequence[str]) -> set[str]:
    """Returns the well-known names of a role; `texts` are the text roles with a column each."""
    if role not in texts:
        return LABELS.get(role, set())
    if len(texts) == 1:
        return ONLY
    return (FIRST, SECOND)[texts.index(role)] if role in texts[:2] else set()


def own_name(role: str, names: Iterable[str]) -> str | None:
    """Returns the column that has the role's own name, or its singular."""
    there = set(names)
    return next((name for name in (role, role.removesuffix("s")) if name in there), None)


def of_negatives(name: str) -> bool:
    """Returns True if a column is one of negatives, by its name."""
    return NEGATIVES.fullmatch(name.casefold()) is not None


def may_be_left(name: str, *, text: bool) -> bool:
    """Returns True if a column may be a text or a label because no other is left."""
    plain = name.casefold()
    if BESIDE.fullmatch(plain) or BESIDE.fullmatch(name) or of_negatives(name):
        return False
    return plain not in (SCORES | CLASSES if text else FIRST | SECOND | {"text", "sentence"})


def like_a_row(names: Sequence[str]) -> bool:
    """Returns True if the names of columns look like the texts of a row rather than like names.

    >>> like_a_row(["query", "answer"]), like_a_row(["who keeps the lighthouse", "a sailor"])
    (False, True)
    """
    return any(
        len(name.split()) > OTHER_WORDS - 1 or name.endswith((".", "?", "!")) or _number(name)
        for name in names
    )


def _number(name: str) -> bool:
    return re.fullmatch(r"[+-]?\d+([.,]\d+)?", name) is not None
