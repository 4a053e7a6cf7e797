"""The other sides of a comparison: scripts of `peers/`, each in the interpreter of its library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax

HERE = Path(__file__).parent
ST, REPRESENTAX = "sentence-transformers", "representax"
DType = Literal["float32", "bfloat16"]


def tolerance(dtype: DType, of_float32: float) -> float:
    """How far sides may be apart, relatively."""
    return of_float32 if dtype == "float32" else 5e-2


@dataclass(frozen=True)
class PeerFlags:
    """The interpreters of the libraries that are measured beside ours."""

    torch_python: Path | None = None
    """The interpreter of an environment with torch and sentence-transformers."""
    representax_python: Path | None = None
    """The interpreter of an environment with Representax."""

    @property
    def interpreters(self) -> dict[str, Path]:
        """Those that are given, by library.

        Raises:
            ValueError: one that is none.
        """
        given = {ST: self.torch_python, REPRESENTAX: self.representax_python}
        flags = dict(zip(given, ("--torch-python", "--representax-python"), strict=True))
        for library, python in given.items():
            if python and not shutil.which(python):
                raise ValueError(f"{flags[library]} must be an interpreter; got {python}")
        return {library: python for library, python in given.items() if python}


@dataclass(frozen=True)
class SideFlags(PeerFlags):
    """And the precision of all sides."""

    dtype: DType = "float32"
    """The precision of all sides. In bfloat16 PyTorch alone is beside ours, on the same device;
    its models compute under autocast, and losses in float32, as its trainer does."""

    @property
    def interpreters(self) -> dict[str, Path]:
        given = super().interpreters
        return given if self.dtype == "float32" else {ST: given[ST]} if ST in given else {}


class Peer:
    """The process of the other interpreter: a line of JSON in, a line of JSON out."""

    def __init__(self, library: str, python: Path, script: str):
        pipe = subprocess.PIPE
        self.library = library
        self.process = subprocess.Popen(
            [python, HERE / "peers" / script], stdin=pipe, stdout=pipe, text=True, env=environment()
        )
        self.versions = {f"{library}'s {name}": value for name, value in self._read().items()}

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        self.process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise ValueError(f"the process of {self.library} ended; what it says is above")
        return json.loads(line)


def environment() -> dict[str, str]:
    """What the processes of peers see: our clock and workloads, and no hub."""
    return os.environ | {"PYTHONPATH": str(HERE), "HF_HUB_OFFLINE": "1"}


def open_peers(flags: PeerFlags, topic: str) -> dict[str, Peer]:
    """Starts `peers/{library}_{topic}.py`, where there is one, in each given interpreter."""
    scripts = {library: f"{library.replace('-', '_')}_{topic}.py" for library in (ST, REPRESENTAX)}
    peers = {
        library: Peer(library, python, scripts[library])
        for library, python in flags.interpreters.items()
        if (HERE / "peers" / scripts[library]).exists()
    }
    check_device(versions_of(peers))
    return peers


def check_device(facts: dict[str, str]) -> None:
    """Makes sure that PyTorch, if it is there, computes where JAX does.

    Raises:
        ValueError: one of them computes on a GPU alone.
    """
    gpu, theirs = facts.get(f"{ST}'s device"), f"{ST}'s threads" in facts
    if theirs and bool(gpu) != (jax.default_backend() == "gpu"):
        raise ValueError(
            f"PyTorch computes on {gpu or 'the CPU'}, JAX on {jax.devices()[0].device_kind}: give"
            " --torch-python an environment with a PyTorch for that, or set JAX_PLATFORMS=cpu"
        )


def versions_of(peers: dict[str, Peer]) -> dict[str, str]:
    """Collects the versions of all of them."""
    return {name: value for peer in peers.values() for name, value in peer.versions.items()}


def close(peers: dict[str, Peer]) -> None:
    """Ends their processes."""
    for peer in peers.values():
        peer.close()
