"""The folder of a run: what --overwrite may delete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from config import Config, ConfigError


def check_deletable(config: Config) -> None:
    """Refuses to delete what is no run, or what this run reads.

    Raises:
        ConfigError: the output folder holds something else, or something that is still needed.
    """
    output = config.output.expanduser()
    if not output.exists():
        return
    if not output.is_dir():
        raise ConfigError(f"{output} is a file; choose another --output")
    if any(output.iterdir()) and not is_run(output):
        raise ConfigError(
            f"{output} holds no run, so --overwrite does not delete it; choose another --output, or"
            " empty it"
        )
    for name, path in read_by(config):
        if path.exists() and path.resolve().is_relative_to(output.resolve()):
            raise ConfigError(
                f"--overwrite would delete {name}, {path}, with {output}; choose another --output"
            )


def is_run(folder: Path) -> bool:
    """Returns True if there are the flags of a run."""
    try:
        flags = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(flags, dict) and {"loss", "steps", "data"} <= flags.keys()


def read_by(config: Config) -> Iterator[tuple[str, Path]]:
    """Yields what a run reads, or stands in, as far as it may be a path."""
    yield "the folder you are in", Path.cwd()
    for flag in ("model", "guide", "teacher_model", "data", "evaluate", "tasks", "token_cache"):
        values = getattr(config, flag)
        for value in values if isinstance(values, tuple) else (values,):
            if value is not None:
                yield f"--{flag.replace('_', '-')}", Path(value).expanduser()
