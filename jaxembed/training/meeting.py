"""How hosts meet, keep in touch, and notice that one is gone.

Each host is connected to host 0, which passes on what they say. JAX has no part in this: hosts meet
before its runtime starts, and one that is gone is noticed while the others wait for it in a
collective operation.
"""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxembed.training.connection import Connection
from jaxembed.training.door import Caller, Door, proof
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
    token: str = "",
    on_loss: Callable[[str], None] = end_process,
) -> Hosts:
    """Waits for all hosts of a run.

    Args:
        address: name and port of host 0, `node-0:8475`, where it listens and the others call.
        timeout: seconds until a host that has not come, or has fallen silent, counts as lost.
        token: what only the hosts of a run know. One who calls with another is dropped, and cannot
            end the run.
        on_loss: called, from another thread, with a message when a host is lost.

    Raises:
        LostHostError: hosts did not come in time; it names them.
        HostError: a host was started with another number of hosts, or two with the same index.
    """
    if not 0 <= index < count:
        raise HostError(f"the index of a host lies between 0 and {count - 1}; got {index}")
    if count == 1:
        return Hosts()
    name, port = split_address(address)
    hosts = (_Other if index else _First)(index, count, timeout, token, on_loss)
    hosts.meet(name, port, time.monotonic() + timeout)
    return hosts


def split_address(address: str) -> tuple[str, int]:
    """Returns the name and the port of an address such as `node-0:8475`."""
    name, _, port = address.rpartition(":")
    if not (name and port.isdecimal() and 0 < int(port) < 2**16):
        raise HostError(
            "the address of host 0 is its name and a port from 1 to 65535, such as node-0:8476; got"
            f" {address}"
        )
    return name, int(port)


class _Connected(Hosts, ABC):
    """What host 0 and the others have in common: lines that are read, and kept alive."""

    def __init__(
        self, index: int, count: int, timeout: float, token: str, on_loss: Callable[[str], None]
    ) -> None:
        super().__init__(index, count)
        self._timeout = timeout
        self._token = token
        self._on_loss = on_loss
        self._answers: dict[str, list[Any]] = {}
        self._news = threading.Condition()
        self._over = False
        self._exchanges = 0
        self._peers: dict[int, Connection] = {}  # of host 0 all others, of another one host 0
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
        callers: queue.Queue[Caller] = queue.Queue()
        self._door = Door(port, self._token, callers.put)
        while len(self._peers) < self.count - 1 and time.monotonic() < deadline:
            try:
                self._welcome(callers.get(timeout=max(0.01, deadline - time.monotonic())))
            except queue.Empty:
                continue
        self._door.answer = self._refuse
        while not callers.empty():
            self._refuse(callers.get())
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

    def _welcome(self, caller: Caller) -> None:
        """Takes in a host of the run, or ends it where that was started with other numbers."""
        problem = ""
        if caller.count != self.count:
            problem = (
                f"host {caller.index} ({caller.name}) was started with {caller.count} hosts, host 0"
                f" with {self.count}"
            )
        elif caller.index >= self.count:
            return self._door.drop(caller.line, caller.name, f"it has index {caller.index}")
        elif caller.index == 0 or caller.index in self._peers:
            problem = f"both {self._name_of(caller.index)} and {caller.name} were started as host"
            problem += f" {caller.index}"
        if problem:
            caller.line.send({"refused": problem})
            caller.line.close()
            self._tell({"refused": problem})
            self._hang_up()
            raise HostError(problem)
        caller.line.name = caller.name
        self._peers[caller.index] = caller.line

    def _refuse(self, caller: Caller) -> None:
        """Sends a host away that comes when all are there."""
        other = self._name_of(caller.index)
        message = f"host {caller.index} of this run is {other}, which runs; stop it first"
        caller.line.send({"refused": message})
        self._door.drop(caller.line, caller.name, f"it was started as host {caller.index} too")

    def _name_of(self, index: int) -> str:
        return self._peers[index].name if index in self._peers else socket.gethostname()

    def _hang_up(self) -> None:
        self._door.close()
        super()._hang_up()

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
                line = Connection(socket.create_connection((name, port), timeout=5))
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LostHostError(
                        f"host 0 does not answer at {where} ({error}); start it, and let the hosts"
                        " reach its ports"
                    ) from None
                time.sleep(0.2)
        greeting = {"hello": self.index, "count": self.count, "name": socket.gethostname()}
        line.send({**greeting, "token": proof(self._token)})
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
