"""One process at a time writes to a folder: a lock that names its holder, and ends with it.

The lock is the operating system's, so that of a killed process is free at once. Hosts that share a
folder may not share locks: there the holder's signs of life count.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

NAME = ".lock"
BEAT = 10.0  # seconds between signs of life

_held: dict[Path, dict[str, Any]] = {}  # by this process, which the system lets lock twice


class LockedError(ValueError):
    """Another process writes to the folder; the message names it."""


@contextlib.contextmanager
def locked(folder: Path, *, beat: float = BEAT) -> Iterator[None]:
    """Holds the lock of a folder, which is made if it is not there.

    Where the last holder ran on another host and left no word of its end, this waits for two signs
    of life that may come, `beat` seconds apart.

    Raises:
        LockedError: another process holds it; the message has its host and number.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name, locked(Path(name)), locked(Path(name)):
    ...     pass
    Traceback (most recent call last):
    ...
    jaxembed.folder_lock.LockedError: /... is in use by process ... on ..., since ...; wait...
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.resolve() / NAME
    if file in _held:  # to open it and close it again would end our lock
        raise _refusal(folder, _held[file])
    stream = _acquire(folder, file, beat)
    _held[file] = _read(stream)
    over = threading.Event()
    threading.Thread(target=_beat, args=(stream, beat, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        file.unlink(missing_ok=True)  # while it is locked, so that nobody locks a file that is gone
        _held.pop(file)
        stream.close()


def clear(folder: Path) -> None:
    """Deletes all that is in a folder, but its lock."""
    import shutil

    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != NAME:
            entry.unlink()


def _acquire(folder: Path, file: Path, beat: float) -> TextIO:
    """Locks the file, writes our name into it, and returns it open."""
    while True:
        stream = file.open("a+", encoding="utf-8")
        try:
            holder, locks = _read(stream), _lock(stream)
            if locks is Locks.TAKEN or _is_alive(stream, holder, locks, beat):
                raise _refusal(folder, holder)
            if file.exists() and os.path.samestat(os.fstat(stream.fileno()), file.stat()):
                break  # not deleted by its last holder between our opening and our locking it
        except BaseException:
            stream.close()
            raise
        stream.close()
    stream.truncate(0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    json.dump({"host": socket.gethostname(), "process": os.getpid(), "since": since}, stream)
    stream.flush()
    return stream


class Locks(enum.Enum):
    """What the operating system says of a lock."""

    OURS = enum.auto()
    TAKEN = enum.auto()
    UNKNOWN = enum.auto()  # the file system has no locks


def _lock(stream: TextIO) -> Locks:
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Locks.TAKEN if error.errno in (errno.EAGAIN, errno.EACCES) else Locks.UNKNOWN
    return Locks.OURS


def _is_alive(stream: TextIO, holder: dict[str, Any], locks: Locks, beat: float) -> bool:
    """Whether a holder that the system's locks do not tell of gives signs of life."""
    if not holder or (holder.get("host") == socket.gethostname() and locks is Locks.OURS):
        return False
    seen, end = os.fstat(stream.fileno()).st_mtime_ns, time.monotonic() + 2.5 * beat
    while time.monotonic() < end:
        if os.stat(stream.fileno()).st_mtime_ns != seen:
            return True
        time.sleep(beat / 10)
    return False


def _beat(stream: TextIO, beat: float, over: threading.Event) -> None:
    while not over.wait(beat):
        with contextlib.suppress(OSError, ValueError):
            os.utime(stream.fileno())


def _read(stream: TextIO) -> dict[str, Any]:
    try:
        stream.seek(0)
        holder = json.load(stream)
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _refusal(folder: Path, holder: dict[str, Any]) -> LockedError:
    who = "another process"
    if holder:
        who = f"process {holder.get('process')} on {holder.get('host')}, since"
        who += f" {holder.get('since')}"
    return LockedError(
        f"{folder} is in use by {who}; wait for it, stop it, or choose another folder"
    )
