"""What all tests share: lanes, two CPU devices, fast compiling, no network, names for doctests."""

import builtins
import importlib.util
import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling is most of the time of tests on small arrays, here and in scripts that they start.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=2",
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        if version("jax") < "0.11"
        else "",  # later versions do not have these emitters, slow to compile
    ]
)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# Each worker, and what it starts, computes with one thread: there are as many workers as cores.
os.environ.update(NPROC="1", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
# Compiled programs are shared by workers, by the processes that they start, and by later runs.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parent / "build/tests/programs")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compilation_cache  # JAX has no public way to choose what is read

from tests import durations, tpu_programs

_read_program = compilation_cache.get_executable_and_time


def read_program(key, options, backend, devices, *others):
    """Reads a compiled program, unless it is one of several CPU devices.

    XLA loses the order of collectives when it reads such a program: it hangs, or its values are
    wrong.
    """
    if len(devices) > 1:
        return None, None
    return _read_program(key, options, backend, devices, *others)


compilation_cache.get_executable_and_time = read_program

WITH_FLAX = importlib.util.find_spec("transformers.models.auto.modeling_flax_auto") is not None


def pytest_configure(config):
    if WITH_FLAX:  # else the same tests run a second time, with transformers 5
        config.pluginmanager.register(durations.Durations(config.option.exhaustive), "seconds")


def pytest_addoption(parser):
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="run the tests that are marked exhaustive too: all cells, kills and topologies",
    )


def case_of(item) -> str:
    """Returns the case of a test in the files that are parametrized over losses, "" elsewhere."""
    by_case = ("test_contract.py", "test_goldens.py", "test_grid.py", "test_streaming.py")
    if item.path.name not in by_case or not hasattr(item, "callspec"):
        return ""
    case = item.callspec.params.get("case")
    if isinstance(case, dict):  # a golden
        return case["loss"]
    return case.name if case else ""


def group_of(item) -> str:
    """Returns the group of a test, which runs on one worker: its file, or one loss in a file."""
    marker = item.get_closest_marker("xdist_group")
    if marker:
        return marker.args[0]
    file = item.path.relative_to(item.config.rootpath).as_posix()
    loss = case_of(item).split("-")[0]
    return f"{file}::{loss}" if loss else file


@pytest.hookimpl(wrapper=True)  # before xdist, which reads the groups first of all others
def pytest_collection_modifyitems(config, items):
    """Selects the lane and sorts groups by duration, the longest first."""
    if not WITH_FLAX:
        for item in items:
            if item.get_closest_marker("flax_transformers"):
                item.add_marker(pytest.mark.skip("transformers 5 has no Flax models"))
    if not config.option.exhaustive:
        deselected = [item for item in items if item.get_closest_marker("exhaustive")]
        items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=deselected)
    groups = {item: group_of(item) for item in items}
    seconds = durations.of_groups()

    def order(item):
        group = groups[item]
        return -seconds[group], group, case_of(item)  # stable otherwise

    items.sort(key=order)
    for item in items:
        item.user_properties.append(("group", groups[item]))
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(groups[item]))
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around the record of a test's processor time
def pytest_runtest_teardown(item, nextitem):
    """Frees the compiled programs of a group at its end: those of all groups are gigabytes."""
    yield
    if nextitem is None or group_of(nextitem) != group_of(item):
        tpu_programs.end_server()
        jax.clear_caches()


@pytest.fixture
def strict_promotion():
    """No implicit promotion of dtypes or ranks."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace):
    doctest_namespace["jax"] = jax
    doctest_namespace["jnp"] = jnp
    doctest_namespace["np"] = np
    yield
    vars(builtins).pop("_", None)  # the last value shown; tyro wants builtins that can be hashed
