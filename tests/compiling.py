"""A `jit` that compiles fast: compiling is most of the time of tests on small arrays."""

import functools
import types

import jax

OPTIONS = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
if jax.__version_info__ < (0, 11):  # later versions do not have these emitters, slow to compile
    OPTIONS |= {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}

jit = functools.partial(jax.jit, compiler_options=OPTIONS)


def counted(function, traces):
    """Returns the function; a list gets an entry each time that it is traced for a new program.

    The size of a jitted function's cache says less: the caches of a long process share their room.
    """

    @functools.wraps(function)
    def traced(*args, **kwargs):
        traces.append(function)
        return function(*args, **kwargs)

    return traced


def compile_fast(monkeypatch):
    """Makes the package compile fast: its training step, states and encoders."""
    jax_of_the_package = types.SimpleNamespace(**{**vars(jax), "jit": jit})
    for module in ("training.step", "training.state", "encoders.folder"):
        monkeypatch.setattr(f"jaxembed.{module}.jax", jax_of_the_package)
