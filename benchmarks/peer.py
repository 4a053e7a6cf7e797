"""The other side of a comparison: a script of `peers/` in another interpreter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Peer:
    """The process of the other interpreter: a line of JSON in, a line of JSON out."""

    def __init__(self, python: Path, script: str):
        if not shutil.which(python):
            raise ValueError(f"--torch-python must be an interpreter; got {python}")
        environment = os.environ | {"PYTHONPATH": str(HERE), "HF_HUB_OFFLINE": "1"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [python, HERE / "peers" / script], stdin=pipe, stdout=pipe, text=True, env=environment
        )
        self.versions = {f"library's {name}": v for name, v in self._read().items()}

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
            raise ValueError("the process of the library ended; what it says is above")
        return json.loads(line)
