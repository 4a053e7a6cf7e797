"""The manifest of a folder of results: what they belong to, and which of them are whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from config import ConfigError
from xxhash import xxh3_64


class Manifest:
    """The file `manifest.json`: an identity, and the digest of every file that was written whole.

    A folder of another identity is refused. A file that was cut off, damaged or deleted has another
    digest, and so counts as not there.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity: dict[str, Any] = json.loads(json.dumps(identity, default=str))
        self.digests: dict[str, str] = {}
        file = folder / "manifest.json"
        if file.exists():
            self.digests = self._read(file)
        elif files := sorted(folder.glob("embeddings-*")):
            raise ConfigError(f"{files[0]} is of no manifest; choose another --output")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._save()

    def has(self, name: str) -> bool:
        """Returns True if the file is there as it was written."""
        file = self.folder / name
        return name in self.digests and file.exists() and digest(file) == self.digests[name]

    def write(self, name: str, save: Callable[[BinaryIO], Any]) -> None:
        """Writes a file whole or not at all; `save` gets the open file."""
        write_whole(self.folder / name, save)
        self.digests[name] = digest(self.folder / name)
        self._save()

    def forget(self) -> None:
        """Lets no file count as there."""
        self.digests.clear()
        self._save()

    def _save(self) -> None:
        text = json.dumps({**self.identity, "files": self.digests}, indent=2) + "\n"
        write_whole(self.folder / "manifest.json", lambda stream: stream.write(text.encode()))

    def _read(self, file: Path) -> dict[str, str]:
        """Returns the digests of a manifest of the same identity."""
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            digests = dict(stored["files"])
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{file} is damaged; choose another --output") from None
        for name, value in self.identity.items():
            if stored.get(name) != value:
                raise ConfigError(
                    f"{self.folder} was begun with {name} {stored.get(name)!r}, this run has"
                    f" {value!r}; give the same, or another --output"
                )
        return digests


def write_whole(file: Path, save: Callable[[BinaryIO], Any]) -> None:
    """Writes a file whole or not at all; `save` gets the open file."""
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as stream:
        save(stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def digest(file: Path) -> str:
    """Computes a short name for the content of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, xxh3_64).hexdigest()
