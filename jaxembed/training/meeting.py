"""How hosts meet, keep in touch, and notice that one is gone.

Each host is connected to host 0, which passes on what they say. JAX has no part in this: hosts meet
before its runtime starts, and one that is gone is noticed while the others wait for it in a
collective operation.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxembed.training.hosts import HostError, Hosts, LostHostError, end_process

BEATS = 6  # signs of life in the time after which a silent host counts as gone
LATE = 10  # seconds that host 0 may take, after the time-out, to say who did not come
LONG = 60  # seconds after which a host says for whom it waits


def meet_hosts(
    address: str,
    *,
    index: int,
    count: int,
    timeout: float = 300,
    on_loss: Callable[[str], None] = end_process,
) -> Hosts:
    """Waits for all hosts of a run.

    Args:
        address: name and port of host 0, `node-0:8475`, where it listens and the others call.
        timeout: seconds until a host that has not come, or has fallen silent, counts as lost.
        on_loss: called, from another thread, with a message when a host is lost.

    Raises:
        LostHostError: hosts did not come in time; it names them.
        HostError: a host was started with another number of hosts, or two with the same index.
    """
    if not 0 <= index < count:
        raise HostError(f"the index of a host lies between 0 and {count - 1}; got {index}")
    if count == 1:
        return Hosts()
    name, _, port = address.rpartition(":")
    if not (name and port.isdigit()):
        raise HostError(f"the address of host 0 is its name and a port, node-0:8475; got {address}")
    hosts = (_Other if index else _First)(index, count, timeout, on_loss)
    hosts.meet(name, int(port), time.monotonic() + timeout)
    return hosts


class _Line:
    """A connection over which JSON objects go, one a line."""

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

    def read(self, seconds: float | None = None) -> dict[str, Any] | None:
        """Waits for the next message, for so long; None when none came or the other end is gone."""
        try:
            self._connection.settimeout(seconds)
            line = self._stream.readline()
            message = json.loads(line) if line else None
        except (OSError, ValueError):
            return None
        self.heard = time.monotonic()
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._stream.close()
        self._connection.close()


class _Connected(Hosts, ABC):
    """What host 0 and the others have in common: lines that are read, and kept alive."""

    def __init__(
        self, index: int, count: int, timeout: float, on_loss: Callable[[str], None]
    ) -> None:
        super().__init__(index, count)
        self._timeout = timeout
        self._on_loss = on_loss
        self._answers: dict[str, list[Any]] = {}
        self._news = threading.Condition()
        self._over = False
        self._exchanges = 0
        self._peers: dict[int, _Line] = {}  # of host 0 all others, of another one host 0
        self._values: dict[str, dict[int, Any]] = {}  # of exchanges, as far as host 0 knows them

    def _start(self) -> None:
        for index in self._peers:
            threading.Thread(target=self._listen, args=(index,), daemon=True).start()
        threading.Thread(target=self._keep_alive, daemon=True).start()

    def _listen(self, index: int) -> None:
        peer = self._peers[index]
        while (message := peer.read()) is not None:
            if "end" in message:
                return self._lose(message["end"])
            if "bye" in message:
                with self._news:
                    peer.left = True
            elif "put" in message or "all" in message:
                self._take(index, message)
        if not peer.left:
            self._lose(f"host {index} ({peer.name}) is gone: its process ended or was killed")

    @abstractmethod
    def meet(self, name: str, port: int, deadline: float) -> None:
        """Waits for the others, with host 0 at that address."""

    @abstractmethod
    def _put(self, name: str, value: Any) -> None:
        """Hands in this host's value of an exchange."""

    @abstractmethod
    def _take(self, index: int, message: dict[str, Any]) -> None:
        """Takes what another host said of an exchange."""

    @abstractmethod
    def _missing(self, name: str) -> Sequence[int]:
        """Returns the hosts whose value of an exchange is known to be missing."""

    def exchange(self, name: str, value: Any) -> list[Any]:
        self._exchanges += 1
        name = f"{name} {self._exchanges}"
        self._put(name, value)
        with self._news:
            while name not in self._answers:
                if self._over:
                    raise LostHostError("another host is gone")
                if not self._news.wait(LONG) and (missing := self._missing(name)):
                    print(f"still waiting for {_listed(missing)}", file=sys.stderr, flush=True)
            return self._answers.pop(name)

    def _keep_alive(self) -> None:
        while not self._over:
            for index, peer in self._peers.items():
                silent = time.monotonic() - peer.heard
                if not peer.left and silent > self._timeout:
                    self._lose(
                        f"host {index} ({peer.name}) has given no sign of life for {silent:.0f} s"
                    )
                peer.send({"beat": self.index})
            time.sleep(self._timeout / BEATS)

    def _hang_up(self) -> None:
        for peer in self._peers.values():
            peer.close()

    def _tell(self, message: Mapping[str, Any]) -> None:
        for peer in self._peers.values():
            peer.send(message)

    def _lose(self, message: str) -> None:
        with self._news:
            if self._over:
                return
            self._over = True
        self._tell({"end": message})
        self._on_loss(message)
        self._hang_up()
        with self._news:
            self._news.notify_all()

    def leave(self, reason: str = "") -> None:
        with self._news:
            over, self._over = self._over, True
        if over:
            return self._hang_up()
        message = {"end": f"host {self.index} ended: {reason}"} if reason else {"bye": self.index}
        self._tell(message)
        self._hang_up()


class _First(_Connected):
    """Host 0, which listens, collects and passes on."""

    def meet(self, name: str, port: int, deadline: float) -> None:
        try:
            server = socket.create_server(("", port), backlog=self.count)
        except OSError as error:
            raise HostError(f"host 0 cannot listen on port {port} ({error.strerror})") from None
        with server:
            while len(self._peers) < self.count - 1 and time.monotonic() < deadline:
                server.settimeout(max(0.01, deadline - time.monotonic()))
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                self._welcome(_Line(connection))
        if missing := sorted(set(range(1, self.count)) - self._peers.keys()):
            message = (
                f"{_listed(missing)} of {self.count} did not come within {self._timeout:.0f} s;"
                " start every host with the same --coordinator and --n-hosts, each with its index"
            )
            self._tell({"end": message})
            self._hang_up()
            raise LostHostError(message)
        self._tell({"welcome": socket.gethostname()})
        self._start()

    def _welcome(self, line: _Line) -> None:
        hello = line.read(5) or {}  # a stranger may call and say nothing
        if not {"hello", "count", "name"} <= hello.keys():
            return line.close()
        index, name = hello["hello"], hello["name"]
        problem = ""
        if hello["count"] != self.count:
            problem = (
                f"host {index} ({name}) was started with {hello['count']} hosts, host 0 with"
                f" {self.count}"
            )
        elif index in self._peers or index == 0:
            other = self._peers[index].name if index else socket.gethostname()
            problem = f"both {other} and {name} were started as host {index}"
        if problem:
            line.send({"refused": problem})
            line.close()
            self._tell({"refused": problem})
            self._hang_up()
            raise HostError(problem)
        line.name = name
        self._peers[index] = line

    def _put(self, name: str, value: Any) -> None:
        self._collect(0, name, value)

    def _missing(self, name: str) -> Sequence[int]:
        return sorted(set(range(self.count)) - self._values.get(name, {}).keys())

    def _take(self, index: int, message: dict[str, Any]) -> None:
        self._collect(index, message["put"], message["value"])

    def _collect(self, index: int, name: str, value: Any) -> None:
        with self._news:
            values = self._values.setdefault(name, {})
            values[index] = value
            if len(values) < self.count:
                return
            del self._values[name]
            answer = [values[host] for host in range(self.count)]
            self._answers[name] = answer
            self._news.notify_all()
        self._tell({"all": name, "values": answer})


class _Other(_Connected):
    """A host that calls host 0."""

    def meet(self, name: str, port: int, deadline: float) -> None:
        where = f"{name}:{port}"
        line = None
        while line is None:
            try:
                line = _Line(socket.create_connection((name, port), timeout=5))
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LostHostError(
                        f"host 0 does not answer at {where} ({error}); start it, and let the hosts"
                        " reach its ports"
                    ) from None
                time.sleep(0.2)
        line.send({"hello": self.index, "count": self.count, "name": socket.gethostname()})
        patience = max(deadline - time.monotonic(), 0) + LATE
        answer = line.read(patience) or {"end": f"host 0 at {where} ended while the hosts met"}
        if "welcome" not in answer:
            line.close()
            if "end" in answer:
                raise LostHostError(answer["end"])
            raise HostError(answer.get("refused", f"at {where} there is no host 0 of a run"))
        line.name = answer["welcome"]
        self._peers[0] = line
        self._start()

    def _put(self, name: str, value: Any) -> None:
        self._peers[0].send({"put": name, "value": value})

    def _missing(self, name: str) -> Sequence[int]:
        return []  # host 0 knows

    def _take(self, index: int, message: dict[str, Any]) -> None:
        with self._news:
            self._answers[message["all"]] = message["values"]
            self._news.notify_all()


def _listed(indices: Sequence[int]) -> str:
    word = "host" if len(indices) == 1 else "hosts"
    return f"{word} {', '.join(map(str, indices))}"
