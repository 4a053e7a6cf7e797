"""Runs a function of a test where it can compile for TPUs, on a machine that has none.

libtpu stays out of the environment, where every start of JAX would look for TPUs; a process of its
own finds it in the folder `libtpu` of the environment, where scripts/test.sh installs it.
"""

import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LIBTPU = Path(sys.prefix) / "libtpu"
needs_libtpu = pytest.mark.skipif(
    not LIBTPU.is_dir(), reason=f"no {LIBTPU}: scripts/test.sh installs libtpu"
)


def on_tpus(function: Callable[..., Any], *arguments: Any, topology: str = "v5e:2x4") -> Any:
    """Returns `function(devices, *arguments)`, called in a process of its own.

    `devices` are those of the topology: programs can be lowered and compiled for them, not run. The
    function stands at the top of its file; arguments and result go through JSON.
    """
    environment = {
        **os.environ,
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(LIBTPU)]),
        "TPU_SKIP_MDS_QUERY": "1",
    }
    file = Path(inspect.getfile(function)).relative_to(ROOT)
    module = ".".join(file.with_suffix("").parts)
    call = [module, function.__name__, topology, json.dumps(arguments)]
    process = subprocess.run(
        [sys.executable, __file__, *call],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if process.returncode:
        raise RuntimeError(f"{function.__name__} for {topology}: {process.stderr[-4000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def main(module: str, name: str, topology: str, arguments: str) -> None:
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    function = getattr(importlib.import_module(module), name)
    print(json.dumps(function(devices, *json.loads(arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
