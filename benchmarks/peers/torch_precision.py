"""Where PyTorch computes, and how precisely: as ours does, on the other side of a comparison."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from sides import resident_growth

ON_GPU = torch.cuda.is_available() and os.environ.get("JAX_PLATFORMS") != "cpu"
DEVICE = "cuda" if ON_GPU else "cpu"
FACTS = {"device": torch.cuda.get_device_name()} if ON_GPU else {}


def prepare() -> None:
    """Sets as many threads as JAX takes; on a GPU float32 is not rounded to less."""
    torch.set_num_threads(os.cpu_count() or 1)
    torch.backends.cuda.matmul.allow_tf32 = False
    if ON_GPU:  # also of the tensors that classes of losses make
        torch.set_default_device(DEVICE)


def precision(dtype: str) -> torch.autocast:
    """In bfloat16 the library's way: autocast."""
    return torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == "bfloat16")


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
