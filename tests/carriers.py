"""Packages that scripts/test.sh installs for the models and data in them; they are not imported."""

import importlib.util
from pathlib import Path


def carried(package: str, inside: str) -> Path:
    """Returns a file or folder in an installed package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed: run sh scripts/test.sh, which does that"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / inside
