"""What the data tests share: a cache of their own, and no network."""

import datasets.config
import huggingface_hub.constants
import pytest


@pytest.fixture(autouse=True)
def own_cache_and_offline(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
