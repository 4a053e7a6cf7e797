"""What all tests share: two CPU devices, no network, names for doctests."""

import importlib.util
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
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
