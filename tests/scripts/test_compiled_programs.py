"""Compiled programs of several CPU devices are not read from a folder."""

from contextlib import contextmanager
from pathlib import Path

import jax
import pytest


@contextmanager
def restored(*names):
    before = {name: getattr(jax.config, name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.mark.parametrize("n_devices", [1, 2])
def test_only_programs_of_one_cpu_device_are_kept(n_devices, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    from compiled_programs import keep_programs

    monkeypatch.setattr(jax, "device_count", lambda: n_devices)
    names = ("jax_enable_compilation_cache", "jax_compilation_cache_dir")
    with restored(*names, "jax_persistent_cache_min_compile_time_secs"):
        jax.config.update("jax_enable_compilation_cache", True)  # a command before may disable it
        keep_programs(tmp_path)
        enabled, folder = (getattr(jax.config, name) for name in names)
        assert enabled == (n_devices == 1)
        assert (folder == str(tmp_path)) == (n_devices == 1)
