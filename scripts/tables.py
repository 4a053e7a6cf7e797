"""TOML files of named tables: the tasks of a training, the evaluations of a suite."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config import ConfigError


def read_tables(file: Path, kind: str) -> dict[str, Mapping[str, Any]]:
    """Reads the tables of a file, by name; `kind` is what each of them is, such as "task"."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # no TOML, or no text at all
        raise ConfigError(f"{file}: cannot be read ({error})") from None
    if not tables:
        raise ConfigError(f"{file} has no {kind}; write one table each, such as [similarity]")
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"{file}: {name} stands in no table; write [name] above it")
    return tables
