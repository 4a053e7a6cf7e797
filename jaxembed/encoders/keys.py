"""The keys of a folder's JSON files: honoured, without effect, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxembed.encoders.checkpoint import read_json
from jaxembed.encoders.errors import EncoderError
from jaxembed.forms import Form


@dataclass(frozen=True)
class Keys:
    """The keys that a file may have.

    `used` are honoured, in the form that `jaxembed.forms` describes; `harmless` change no
    embedding; `only` are known but not supported: each has the values that change nothing.
    """

    used: Mapping[str, Form]
    harmless: Collection[str] = ()
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.harmless or key in self.only or key in self._names

    def read(self, file: Path) -> dict[str, Any]:
        """Reads a file of these keys.

        Raises:
            EncoderError: no such file, a value of another form, or a key or value that is not
                supported.
        """
        content = read_json(file, dict(self.used))
        self.check(content, file)
        if unknown := self.unknown(content):
            key = unknown[0]
            raise EncoderError(
                f"{file}: the key {key!r} ({_shown(content[key])}) is not known; remove it if it"
                " changes no embedding"
            )
        return content

    def check(self, content: Mapping[str, Any], file: Path) -> None:
        """Refuses values that are not supported."""
        for key, values in self.only.items():
            if key in content and content[key] not in values:
                due = " or ".join(map(_shown, values))
                raise EncoderError(
                    f"{file}: {key} = {_shown(content[key])} is not supported; only {due} is"
                )

    def unknown(self, content: Mapping[str, Any]) -> list[str]:
        """Lists the keys that are not known here."""
        return [key for key in content if key not in self]

    @property
    def _names(self) -> set[str]:
        return {key.removesuffix("?") for key in self.used}


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:60] + "…"
