"""The port where host 0 of a run listens: hosts of the run come in, strangers are dropped."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from jaxembed.forms import At, FormError, check_form
from jaxembed.training.connection import Connection
from jaxembed.training.hosts import HostError

AT_ONCE = 64  # callers that are listened to
BYTES = 4096  # of a greeting
PATIENCE = 5.0  # seconds for a greeting; a stranger may call and say nothing
TOLD = 5  # strangers of whom a line is printed

GREETING = {"hello": At(int, least=0), "count": At(int, least=1), "name": str, "token": str}


@dataclass(frozen=True)
class Caller:
    """A host of the run, as it says."""

    index: int
    count: int
    name: str
    line: Connection


def proof(token: str) -> str:
    """Returns what a host shows to prove that it knows the token of the run."""
    return hashlib.sha256(f"jaxembed {token}".encode()).hexdigest()


class Door:
    """Listens at a port; `answer` gets every caller that knows the token, in a thread of its own.

    Raises:
        HostError: the port cannot be listened on.
    """

    def __init__(self, port: int, token: str, answer: Callable[[Caller], None]) -> None:
        self.answer = answer
        self._proof = proof(token)
        self._free = threading.Semaphore(AT_ONCE)
        self._strangers = 0
        try:
            self._server = socket.create_server(("", port), backlog=AT_ONCE)
        except OSError as error:
            raise HostError(f"host 0 cannot listen on port {port} ({error.strerror})") from None
        threading.Thread(target=self._open, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def drop(self, line: Connection, who: str, why: str) -> None:
        """Hangs up on a stranger, and says so of the first few."""
        line.close()
        self._strangers += 1
        if self._strangers <= TOLD:
            last = "; of others nothing is said" if self._strangers == TOLD else ""
            print(f"dropped {who}: {why}{last}", file=sys.stderr, flush=True)

    def _open(self) -> None:
        while True:
            try:
                connection, address = self._server.accept()
            except OSError:
                return
            if not self._free.acquire(blocking=False):
                connection.close()
                continue
            where = (connection, f"a stranger at {address[0]}")
            threading.Thread(target=self._listen, args=where, daemon=True).start()

    def _listen(self, connection: socket.socket, who: str) -> None:
        line = Connection(connection)
        try:
            hello = check_form(line.read(PATIENCE, limit=BYTES), GREETING, "its greeting")
        except FormError as error:
            return self.drop(line, who, str(error))
        finally:
            self._free.release()
        index, token = hello["hello"], hello["token"].encode("utf-8", "replace")
        if not hmac.compare_digest(token, self._proof.encode()):
            line.send({"refused": "host 0 is of another run: its --output differs"})
            return self.drop(line, who, f"it is host {index} of another run")
        self.answer(Caller(index, hello["count"], hello["name"], line))
