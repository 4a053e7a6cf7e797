"""Losses are tested without implicit promotion of dtypes or ranks."""

import pytest


@pytest.fixture(autouse=True)
def strictly(strict_promotion):
    pass
