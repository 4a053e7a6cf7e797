"""An encoder of either source, for tests that name its parameters."""

from pathlib import Path

import pytest

import jaxembed

FLAX = pytest.param("transformers", marks=pytest.mark.flax_transformers)
TINY = Path(__file__).parents[1] / "goldens/encoders/tiny"


@pytest.fixture(scope="module", params=["jaxembed", FLAX])
def source(request):
    return request.param


@pytest.fixture(scope="module")
def encoder(source):
    return jaxembed.load(TINY, source=source)
