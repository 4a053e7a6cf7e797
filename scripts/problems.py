"""What a command says of an exception, its exit status, and the end of its process.

No traceback reaches the screen, unless the environment variable JAXEMBED_DEBUG is set. That of an
exception that nobody foresaw is in a file, which the message names.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

DEBUG = "JAXEMBED_DEBUG"
HERE = {Path(__file__).parent.name, "jaxembed"}  # the folders whose lines a message may name


def problem_of(error: BaseException, *, kept: str = "", smaller: str = "") -> tuple[int, str]:
    """Returns the exit status for an exception, and one line that says what is wrong.

    `kept` is what a message says of what was written before, `smaller` what needs less memory.
    """
    kept = f"; {kept}" if kept else ""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, f"stopped{kept}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        needed = one_line(error).partition("RESOURCE_EXHAUSTED: ")[2] or "the machine has no more"
        return 1, f"out of memory ({needed}); {smaller}{kept}"
    if isinstance(error, ValueError):  # wrong flags, data, model or folder
        return 2, one_line(error)
    if isinstance(error, OSError):  # a full disk, a folder that may not be written
        return 1, f"{one_line(error)}{kept}"
    return 1, f"unforeseen {type(error).__name__}: {one_line(error)}{_whereabouts(error)}{kept}"


def one_line(error: BaseException) -> str:
    """Returns the message of an exception without line breaks; its end is omitted if it is long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 1000 or isinstance(error, ValueError) else f"{text[:1000]}…"


def _whereabouts(error: BaseException) -> str:
    """Writes the traceback to a file; says where that is, and which line of ours was the last."""
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent.name in HERE or "jaxembed" in Path(frame.filename).parts
    ]
    place = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    handle, file = tempfile.mkstemp(prefix="jaxembed-", suffix=".traceback")
    with os.fdopen(handle, "w", errors="backslashreplace") as stream:
        stream.write("".join(traceback.format_exception(error)))
    return f"{place}; this is a fault of the program, its traceback is in {file}"


def end(status: int) -> NoReturn:
    """Ends this process now: threads of libraries may wait for what will never be written."""
    for child in multiprocessing.active_children():
        child.terminate()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(status)
