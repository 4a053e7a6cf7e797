"""Starting the training script as several hosts: processes that meet on this machine."""

import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/goldens/encoders/tiny"
TRAIN = [sys.executable, str(ROOT / "scripts/train.py")]


def environment(devices=1, **more):
    """CPU devices, and programs that compile fast."""
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    flags += " --xla_llvm_disable_expensive_passes=true"
    if version("jax") < "0.11":  # later versions do not have these emitters, slow to compile
        flags += " --xla_cpu_use_fusion_emitters=false"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "XLA_FLAGS": flags, **more}


def free_port():
    """A port that is free, and the one before it too."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("", port - 1))
            except OSError:
                continue
            return port


def start(flags, *, hosts, devices=1, timeout=60, indices=None, flags_of=lambda index: ()):
    """Starts the script on the hosts of these indices, all if None; returns their processes."""
    port = free_port()
    processes = []
    for index in range(hosts) if indices is None else indices:
        where = ["--coordinator", f"localhost:{port}", "--n-hosts", str(hosts)]
        where += ["--host-index", str(index), "--host-timeout-s", str(timeout)]
        processes.append(process([*TRAIN, *where, *flags, *flags_of(index)], devices))
    return processes


def process(command, devices=1, **more):
    """Starts a process with so many CPU devices."""
    out = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment(devices, **more), stdout=out, stderr=out, text=True
    )


def resume(output, *, hosts=1, **options):
    """Goes on with a run; a host alone is started without flags of hosts."""
    if hosts == 1:
        return [process([*TRAIN, "--resume", str(output)])]
    return start(["--resume", str(output)], hosts=hosts, **options)


def finish(processes, seconds=600):
    """Waits for processes; returns (status, stdout, stderr) of each."""
    results = []
    for process in processes:
        out, err = process.communicate(timeout=seconds)
        results.append((process.returncode, out, err))
    return results
