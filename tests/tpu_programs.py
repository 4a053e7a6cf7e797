"""Compiles for TPUs on a machine without any: runs functions of tests in a process with libtpu.

libtpu stays out of the environment, where every start of JAX would look for TPUs; a process of its
own finds it in the folder `libtpu` of the environment, where scripts/test.sh installs it. One such
process serves all tests of a run: they share a worker.

The cost of a compiled program depends only on its StableHLO and the compiler. `facts` looks it up
by their hash in tests/tpu_programs.json and compiles what is not there. The exhaustive lane
compiles all and compares. `python -m tests.tpu_programs store` records the facts of earlier runs.
"""

import atexit
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import IO, Any

import pytest

ROOT = Path(__file__).parents[1]
LIBTPU = Path(sys.prefix) / "libtpu"
ANSWER = "answer: "  # prefix of answers; other lines are messages of the compiler
STORED = Path(__file__).with_suffix(".json")
RECORDED = ROOT / "build/tests/tpu_programs.json"
COMPILE_ALL = "COMPILE_ALL_TPU_PROGRAMS"  # an environment variable, of the exhaustive lane


def needs_libtpu(test):
    """Marks a test that compiles for TPUs."""
    without = not LIBTPU.is_dir()
    skip = pytest.mark.skipif(without, reason=f"no {LIBTPU}: scripts/test.sh installs libtpu")
    return pytest.mark.xdist_group("tpus")(skip(test))


def on_tpus(function: Callable[..., Any], *arguments: Any, topology: str = "v5e:2x4") -> Any:
    """Returns `function(devices, *arguments)`, called in the process that compiles for TPUs.

    `devices` are those of the topology: programs can be lowered and compiled for them, not run. The
    function stands at the top of its file; arguments and result go through JSON.
    """
    file = Path(inspect.getfile(function)).relative_to(ROOT)
    module = ".".join(file.with_suffix("").parts)
    process, messages = server()
    if process.poll() is not None:  # it was ended since the call before
        server.cache_clear()
        process, messages = server()
    assert process.stdin is not None
    assert process.stdout is not None
    limit = Timer(600, process.kill)
    limit.start()
    try:
        print(json.dumps([module, function.__name__, topology, arguments]), file=process.stdin)
        process.stdin.flush()
        answer = next((line for line in process.stdout if line.startswith(ANSWER)), None)
    finally:
        limit.cancel()
    if answer is None:  # the compiler ended the process, or it took too long
        server.cache_clear()
        messages.seek(0)
        said = messages.read()[-4000:]
        raise RuntimeError(f"{function.__name__} for {topology} ended the process: {said}")
    found = json.loads(answer.removeprefix(ANSWER))
    if "error" in found:
        raise RuntimeError(f"{function.__name__} for {topology}: {found['error']}")
    return found["result"]


@functools.cache
def server() -> tuple[subprocess.Popen[str], IO[str]]:
    """Starts the process; returns it and the file of its messages."""
    environment = {
        **os.environ,
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "0",  # this compiler's programs cannot be read again
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(LIBTPU)]),
        "TPU_SKIP_MDS_QUERY": "1",
    }
    messages = tempfile.TemporaryFile("w+")  # noqa: SIM115 - the process writes to it
    process = subprocess.Popen(
        [sys.executable, __file__],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=messages,
        text=True,
    )
    atexit.register(process.kill)
    return process, messages


def end_server() -> None:
    """Ends the process, if there is one, whose compiler keeps gigabytes; a later call starts it."""
    if server.cache_info().currsize:
        process, messages = server()
        process.kill()
        process.communicate()
        messages.close()
        server.cache_clear()


def cost(compiled) -> dict[str, Any]:
    from jaxembed.training.compiled import program_cost

    return dataclasses.asdict(program_cost(compiled))


def facts(lowered, devices, read: Callable[[Any], dict[str, Any]] = cost) -> dict[str, Any]:
    """Returns `read(lowered.compile())`, a JSON value; for TPUs, the stored facts if there are any.

    Facts hold for one version of the compiler and of the code that reads them.
    """
    if devices[0].platform != "tpu":
        return read(lowered.compile())
    parts = [lowered.as_text(), devices[0].device_kind, str([device.coords for device in devices])]
    parts += [importlib.metadata.version("jax"), (LIBTPU / "installed").read_text()]
    parts += [inspect.getsource(read)]
    readers = ("compiled", "hlo", "memory_traffic")
    parts += [(ROOT / f"jaxembed/training/{name}.py").read_text() for name in readers]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    stored = known_facts().get(key)
    if stored and not os.environ.get(COMPILE_ALL):
        return stored
    found = json.loads(json.dumps(read(lowered.compile())))
    assert stored in (None, found), f"{STORED} has {stored}, compiled anew: {found}"
    RECORDED.parent.mkdir(parents=True, exist_ok=True)
    RECORDED.write_text(json.dumps({**json_of(RECORDED), key: found}))
    return found


def json_of(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.exists() else {}


def known_facts() -> dict[str, Any]:
    return {**json_of(STORED), **json_of(RECORDED)}


def store() -> None:
    """Writes the facts of programs that were compiled here into the repository."""
    lines = (f"{json.dumps(key)}: {json.dumps(x)}" for key, x in sorted(known_facts().items()))
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> None:
    """Answers the calls of the standard input, one a line."""
    from jax.experimental import topologies

    @functools.cache
    def devices_of(topology: str):
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices

    for line in sys.stdin:
        module, name, topology, arguments = json.loads(line)
        try:
            function = getattr(importlib.import_module(module), name)
            answer = {"result": function(devices_of(topology), *arguments)}
        except BaseException:
            answer = {"error": traceback.format_exc()[-4000:]}
        print(ANSWER + json.dumps(answer), flush=True)


if __name__ == "__main__":
    store() if sys.argv[1:] == ["store"] else main()
