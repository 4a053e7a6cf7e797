"""What all tests share: two CPU devices, fast compiling, no network, names for doctests."""

import builtins
import importlib.util
import os
from importlib.metadata import version

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

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def pytest_collection_modifyitems(items):
    """Keeps the tests of a file on one worker; the many tests of the losses run case by case."""

    def case_of(item):
        case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
        by_case = item.path.name in ("test_contract.py", "test_grid.py", "test_streaming.py")
        return case.name if by_case and case else ""

    if importlib.util.find_spec("transformers.models.auto.modeling_flax_auto") is None:
        for item in items:
            if item.get_closest_marker("flax_transformers"):
                item.add_marker(pytest.mark.skip("transformers 5 has no Flax models"))
    items.sort(key=lambda item: (str(item.path), case_of(item)))  # stable otherwise
    for item in items:
        if item.path.name != "test_goldens.py":
            item.add_marker(pytest.mark.xdist_group(case_of(item) or str(item.path)))


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
