"""Runs the benchmark suite: `python -m benchmarks --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from suite import run_command

run_command()
