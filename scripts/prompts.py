"""The prompts before queries, documents and other texts, as flags or the model's folder say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxembed.encoders import Encoder
from jaxembed.tasks import Task

WHAT = {"query": "queries", "document": "documents", None: "other texts"}


@dataclass(frozen=True)
class Prompts:
    """The text before the texts of each role, and those of the model's prompts that are not used.

    A role is "query", "document", or None, where a text is neither.
    """

    texts: Mapping[str | None, str]
    known: Mapping[str, str]  # the model's prompts, by name
    disabled: bool = False

    def __getitem__(self, role: str | None) -> str:
        return self.texts[role]

    def line(self) -> str:
        """Describes the prompts in one line; returns "" if there are none at all.

        >>> known = {"query": "find: ", "passage": "text: "}
        >>> Prompts({"query": "find: ", "document": "", None: ""}, known).line()
        'prompts: "query" for queries, none for documents; not used: "passage"; --no-prompts …'
        """
        used = {role: text for role, text in self.texts.items() if text or role is not None}
        unused = [name for name, text in self.known.items() if text and text not in used.values()]
        if not any(used.values()) and not unused:
            return ""
        parts = [f"{self._name(text)} for {WHAT[role]}" for role, text in used.items()]
        line = f"prompts: {', '.join(parts) if any(used.values()) else 'none'}"
        if unused:
            line += f"; not used: {', '.join(map(quoted, unused))}"
        return line if self.disabled else f"{line}; --no-prompts disables them"

    def _name(self, text: str) -> str:
        """Returns the name of a prompt; of a text that the model has no name for, the text."""
        names = [name for name, known in self.known.items() if known == text]
        return quoted(names[0] if names else text) if text else "none"


def quoted(name: str) -> str:
    return f'"{name}"'


def model_prompts(
    encoder: Encoder,
    *,
    query: str | None = None,
    document: str | None = None,
    disabled: bool = False,
) -> Prompts:
    """Returns the prompts of a model by the roles of texts, as sentence-transformers uses them.

    Queries have the prompt "query", documents "document", other texts the default one. Names that
    are given go before these, for other texts that of documents; "" is no prompt.

    Args:
        query, document: names of prompts of the model.
        disabled: none is used but those that are given.

    Raises:
        EncoderError: a name that the model does not have.
    """

    def chosen(name: str | None, usual: str) -> str:
        if name is not None:
            return encoder.prompt(name) if name else ""
        return "" if disabled else usual

    texts = {
        "query": chosen(query, encoder.prompt_for("query")),
        "document": chosen(document, encoder.prompt_for("document")),
        None: chosen(document, encoder.prompt(None)),
    }
    return Prompts(texts, encoder.prompts, disabled)


def training_line(encoder: Encoder, task: Task, name: str) -> str:
    """Describes in one line which prompts the texts of a task have; "" if there are none at all."""
    tokenizers = task.make.tokenizers
    used = {role: tokenizers[role][1] for role in task.rows.text_roles if tokenizers[role][1]}
    known = [quoted(prompt) for prompt, text in encoder.prompts.items() if text]
    start = f"prompts in training{f' of {name}' if name else ''}: "
    if used:
        return start + ", ".join(f"{quoted(text)} before {role}" for role, text in used.items())
    if known:
        return f"{start}none; the model has {', '.join(known)}: --query-prompt, --document-prompt"
    return ""
