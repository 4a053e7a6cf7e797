"""Where compiled programs are kept, so that a later run starts sooner."""

from __future__ import annotations

from pathlib import Path

import jax


def keep_programs(folder: Path | None) -> None:
    """Reads and writes compiled programs in a folder; no folder leaves that to JAX's own flags.

    Programs of several CPU devices are neither read nor written: XLA loses the order of their
    collectives when it reads them, so that they hang, or compute wrong values.
    """
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        jax.config.update("jax_enable_compilation_cache", False)
    elif folder is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder.expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
