"""Huge pages for the arrays of a script on a CPU, where Linux gives them only to who asks.

XLA asks for the temporary memory of a program anew at every call: of a training step these are
hundreds of MB, in pages of 4 KiB tens of thousands of page faults. The allocator of glibc asks for
huge pages if a variable of the environment says so when a process starts; so a script of this
folder that imports this module begins once more with it, as the same process.
"""

import os
import sys
from pathlib import Path

SYSTEM = Path("/sys/kernel/mm/transparent_hugepage/enabled")
NAME, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def wanted(said: str, given: str) -> bool:
    """Returns True if the system leaves huge pages to programs, and nobody decided about them."""
    return "[madvise]" in said and TUNABLE not in given


def begin_again() -> None:
    """Starts this process anew with huge pages, where they have to be asked for."""
    given = os.environ.get(NAME, "")
    if SYSTEM.exists() and wanted(SYSTEM.read_text(), given):
        os.environ[NAME] = ":".join(filter(None, [given, f"{TUNABLE}=1"]))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if Path(sys.argv[0]).resolve().parent == Path(__file__).resolve().parent:
    begin_again()
