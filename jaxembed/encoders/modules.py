"""The modules behind the transformer, as the folders of sentence-transformers chain them.

A module reads its configuration and parameters from a folder, is applied to features, and writes
itself back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxembed.encoders.checkpoint import read_json, read_tensors, write_json, write_tensors
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.pooling import MODES, pool
from jaxembed.similarity import unit
from jaxembed.typing import Params, Tokens


class Module(Protocol):
    """One link of the chain."""

    published_type: str

    def __call__(self, params: Params, features: Array, tokens: Tokens) -> Array: ...

    def write(self, folder: Path, params: Params) -> None: ...


@dataclass(frozen=True)
class Pooling:
    """Token vectors `[n t d]` to text vectors `[n e]`, several modes joined."""

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    width: int | None = None
    published_type = "sentence_transformers.models.Pooling"

    @classmethod
    def read(cls, folder: Path) -> tuple[Pooling, Params]:
        config = read_json(folder / "config.json")
        modes = config.get("pooling_mode")
        if modes is None:  # one boolean per mode, before sentence-transformers 6
            modes = [mode for mode in MODES if config.get(_old_name(mode))] or ["mean"]
        modes = (modes,) if isinstance(modes, str) else tuple(modes)
        if unknown := [mode for mode in modes if mode not in MODES]:
            raise EncoderError(f"{folder}: pooling mode {unknown[0]!r} is none of {list(MODES)}")
        width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
        return cls(modes, config.get("include_prompt", True), width), {}

    def __call__(self, params: Params, features: Array, tokens: Tokens) -> Array:
        return pool(
            features,
            tokens["attention_mask"],
            tokens.get("pooling_mask"),
            modes=self.modes,
            segments=tokens.get("segment_ids"),
            n_segments=tokens["texts"].shape[-1] if "segment_ids" in tokens else 1,
        )

    def write(self, folder: Path, params: Params) -> None:
        if self.modes == tuple(mode for mode in MODES if mode in self.modes):
            # Booleans are read by every version of sentence-transformers; their order is fixed.
            modes: dict[str, Any] = {_old_name(mode): mode in self.modes for mode in MODES}
            config = {"word_embedding_dimension": self.width, **modes}
        else:
            config = {"embedding_dimension": self.width, "pooling_mode": list(self.modes)}
        write_json(folder / "config.json", config | {"include_prompt": self.include_prompt})


def _old_name(mode: str) -> str:
    special = {"cls": "cls_token", "lasttoken": "lasttoken"}
    return "pooling_mode_" + special.get(mode, mode.removesuffix("_tokens") + "_tokens")


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "Tanh": jnp.tanh,
    "Identity": lambda x: x,
    "ReLU": jax.nn.relu,
    "GELU": lambda x: jax.nn.gelu(x, approximate=False),
    "SiLU": jax.nn.silu,
    "Sigmoid": jax.nn.sigmoid,
}


@dataclass(frozen=True)
class Dense:
    """A linear map and an activation, `[n d] -> [n e]`."""

    in_features: int
    out_features: int
    activation: str = "torch.nn.modules.activation.Tanh"
    published_type = "sentence_transformers.models.Dense"

    @classmethod
    def read(cls, folder: Path) -> tuple[Dense, Params]:
        config = read_json(folder / "config.json")
        activation = config.get("activation_function", cls.activation)
        if activation.rpartition(".")[2] not in ACTIVATIONS:
            raise EncoderError(f"{folder}: activation {activation} is none of {list(ACTIVATIONS)}")
        if config.get("use_residual"):
            raise EncoderError(f"{folder}: a Dense module with a residual is not supported")
        dense = cls(config["in_features"], config["out_features"], activation)
        tensors = read_tensors(folder)
        shape = (dense.out_features, dense.in_features)
        if tensors.get("linear.weight", np.empty(0)).shape != shape:
            raise EncoderError(f"{folder}: model.safetensors must hold linear.weight {shape}")
        params = {"kernel": tensors["linear.weight"].T}
        if "linear.bias" in tensors:
            params["bias"] = tensors["linear.bias"]
        return dense, params

    def __call__(self, params: Params, features: Array, tokens: Tokens) -> Array:
        features = features @ params["kernel"]
        if "bias" in params:
            features += params["bias"]
        return ACTIVATIONS[self.activation.rpartition(".")[2]](features)

    def write(self, folder: Path, params: Params) -> None:
        config = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": "bias" in params,
            "activation_function": self.activation,
        }
        write_json(folder / "config.json", config)
        tensors = {"linear.weight": np.asarray(params["kernel"]).T}
        if "bias" in params:
            tensors["linear.bias"] = np.asarray(params["bias"])
        write_tensors(folder, tensors)


@dataclass(frozen=True)
class Normalize:
    """To unit length."""

    published_type = "sentence_transformers.models.Normalize"

    @classmethod
    def read(cls, folder: Path) -> tuple[Normalize, Params]:
        return cls(), {}

    def __call__(self, params: Params, features: Array, tokens: Tokens) -> Array:
        return unit(features)

    def write(self, folder: Path, params: Params) -> None:
        folder.mkdir(parents=True, exist_ok=True)


MODULES = {"Pooling": Pooling, "Dense": Dense, "Normalize": Normalize}
