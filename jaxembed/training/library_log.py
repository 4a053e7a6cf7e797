"""What libraries say of a failure: kept out of the screen, and in a file of the run.

When a checkpoint cannot be written, orbax, tensorstore and asyncio print hundreds of lines, from
threads of their own; the run says it in one.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIBRARIES = ("absl", "asyncio", "orbax", "tensorstore")
NAME = "libraries.log"


@contextlib.contextmanager
def library_log(folder: Path | None) -> Iterator[None]:
    """Collects what libraries warn of in a file of the folder, or nowhere if that is None.

    The file is made when there is something to write. Exceptions that end a thread, or that Python
    can raise to nobody, go there too.
    """
    handler: logging.Handler = logging.NullHandler()
    if folder is not None:
        handler = logging.FileHandler(folder / NAME, delay=True, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    handler.handleError = lambda record: None  # the disk may be what is full
    ours = logging.Logger("threads")
    ours.addHandler(handler)
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger, logger.propagate) for logger in loggers]
    hooks = threading.excepthook, sys.unraisablehook

    def write(unhandled: Any) -> None:
        about = unhandled.exc_type, unhandled.exc_value, unhandled.exc_traceback
        ours.warning("unhandled", exc_info=about)

    threading.excepthook, sys.unraisablehook = write, write
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = hooks
        for logger, propagate in before:
            logger.removeHandler(handler)
            logger.propagate = propagate
        handler.close()
