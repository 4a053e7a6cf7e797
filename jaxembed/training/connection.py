"""A connection between two hosts, over which JSON objects go, one a line."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any


class Connection:
    """One end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._stream = connection.makefile("rb")
        self._lock = threading.Lock()
        self.heard = time.monotonic()
        self.name = ""  # of the host at the other end
        self.left = False  # whether it said goodbye

    def send(self, message: Mapping[str, Any]) -> bool:
        """Sends a message; says whether the other end could still be reached."""
        try:
            with self._lock:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def read(self, seconds: float | None = None, *, limit: int = -1) -> dict[str, Any] | None:
        """Waits for the next message, for so long; None when none came or the other end is gone.

        A message of more than `limit` bytes is none.
        """
        try:
            self._connection.settimeout(seconds)
            line = self._stream.readline(limit)
            message = json.loads(line) if line else None
        except (OSError, ValueError, RecursionError):
            return None
        self.heard = time.monotonic()
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._stream.close()
        self._connection.close()
