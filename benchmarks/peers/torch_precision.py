"""Where PyTorch computes, and how precisely: as ours does, on the other side of a comparison."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from sides import resident_growth
from torch import nn

ON_GPU = torch.cuda.is_available() and os.environ.get("JAX_PLATFORMS") != "cpu"
DEVICE = "cuda" if ON_GPU else "cpu"
FACTS = {"device": torch.cuda.get_device_name()} if ON_GPU else {}


def prepare() -> None:
    """Sets as many threads as JAX takes, and on GPUs the products in TF32 that it takes too."""
    torch.set_num_threads(os.cpu_count() or 1)
    torch.backends.cuda.matmul.allow_tf32 = True


def compute_in(model: nn.Module, dtype: str) -> None:
    """In bfloat16 the trainer's way: forward under autocast, also of a cached loss's second pass,
    and float32 behind it.
    """
    if dtype == "bfloat16":
        forward = torch.autocast(DEVICE, torch.bfloat16)(model.forward)
        model.forward = lambda *given, **options: in_float32(forward(*given, **options))


def in_float32(out: Any) -> Any:
    """Raises what a model hands back, in dicts."""
    if torch.is_tensor(out):
        return out.float() if out.dtype == torch.bfloat16 else out
    return {name: in_float32(part) for name, part in out.items()} if isinstance(out, dict) else out


def finish() -> None:
    """Waits for what has been started."""
    if ON_GPU:
        torch.cuda.synchronize()


def memory_growth(call: Callable[[], object]) -> int | None:
    """Measures how far a call raises the bytes in use at its peak, where it computes."""
    if not ON_GPU:
        return resident_growth(call)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before
