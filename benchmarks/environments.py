"""The environments of the other libraries: made once each, by venv and pip, below one folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """What a library needs: packages, and a version of Python; none in particular if (3, 11)."""

    packages: tuple[str, ...]
    python: tuple[int, int] = (3, 11)
    ours: bool = False  # whether jaxembed is installed beside it


# The order of installing counts: torch in this version is built for CPUs alone.
ENVIRONMENTS = {
    "sentence-transformers": Environment((
        "torch==2.13.0",
        "sentence-transformers==6.2.0 transformers==5.23.0 accelerate datasets xxhash",
    )),
    "representax": Environment(("representax[hf]==0.0.2",), python=(3, 12)),
    "mteb": Environment(
        ("torch==2.13.0", "mteb==2.26.24 pytrec-eval-terrier"), ours=True
    ),
}  # fmt: skip
ROOT = Path(__file__).parents[1]


def open_environment(name: str, folder: Path) -> Path:
    """Returns the interpreter of an environment, which is made if it is not there yet.

    Raises:
        ValueError: it cannot be made.
    """
    wanted = ENVIRONMENTS[name]
    home = folder / name
    python, mark = home / "bin/python", home / "installed"
    content = f"{wanted}\n"
    if mark.exists() and mark.read_text() == content:
        return python
    print(f"installing {name} into {home}", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    call([find_python(wanted.python), "-m", "venv", str(home)], name)
    packages = [*wanted.packages, *([f"-e {ROOT}"] if wanted.ours else [])]
    for group in packages:
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        call([*install, *group.split()], name)
    mark.write_text(content)
    return python


def find_python(least: tuple[int, int]) -> str:
    """Finds an interpreter of at least that version: this one, one on the path, one of pyenv.

    Raises:
        ValueError: there is none.
    """
    names = [f"python3.{minor}" for minor in range(least[1], least[1] + 4)]
    found = [sys.executable, *filter(None, map(shutil.which, names))]
    found += map(str, sorted((Path.home() / ".pyenv/versions").glob("3.*/bin/python")))
    for python in found:
        asked = [python, "-c", "import sys; print(*sys.version_info[:2])"]
        said = subprocess.run(asked, capture_output=True, text=True)
        if said.returncode == 0 and tuple(map(int, said.stdout.split())) >= least:
            return python
    version = ".".join(map(str, least))
    raise ValueError(f"there is no Python of {version} or later, on the path or of pyenv")


def call(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ValueError(f"the environment of {name} cannot be made: {said[-1] if said else ''}")
