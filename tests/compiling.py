"""A `jit` that compiles fast: compiling is most of the time of tests on small arrays."""

import functools
import types

import jax

OPTIONS = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
if jax.__version_info__ < (0, 11):  # later versions do not have these emitters, slow to compile
    OPTIONS |= {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}

jit = functools.partial(jax.jit, compiler_options=OPTIONS)


def compile_fast(monkeypatch):
    """Makes the package compile fast: its training step, states and encoders."""
    jax_of_the_package = types.SimpleNamespace(**{**vars(jax), "jit": jit})
    for module in ("training.step", "training.state", "encoders.folder"):
        monkeypatch.setattr(f"jaxembed.{module}.jax", jax_of_the_package)
