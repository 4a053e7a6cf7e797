"""The console of commands: what it prints is literal, whatever brackets or colons are in it."""

from __future__ import annotations

import sys
from typing import Any, TextIO

import rich.console


class Console(rich.console.Console):
    """A rich console for which a text is never markup: names, paths and texts of data are printed.

    >>> Console().say("a task [/named] :smile: [red]so[/red]")
    a task [/named] :smile: [red]so[/red]
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def say(self, text: str) -> None:
        """Prints a line, however long."""
        self.print(text, soft_wrap=True)


def write_anything(*streams: TextIO) -> None:
    """Lets streams write characters that their encoding lacks, as escapes; stdout and stderr."""
    for stream in streams or (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
