"""What compiled programs, and calls of them, take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from sides import resident_growth

from jaxembed.training.compiled import program_cost


def figures(program: Any) -> dict[str, int]:
    """Bytes of temporaries, and operations where HLO describes them: not those of GPUs' kernels."""
    try:
        flops = {"flops": program_cost(program).flops}
    except ValueError:
        flops = {}
    return {**flops, "temporaries": program.memory_analysis().temp_size_in_bytes}


def call_memory(call: Callable[[], object], program: Any) -> int | None:
    """Bytes that a call takes: measured on CPUs; on other devices its program says so."""
    if jax.default_backend() == "cpu":
        return resident_growth(call)
    memory = program.memory_analysis()
    new_outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return memory.temp_size_in_bytes + new_outputs
