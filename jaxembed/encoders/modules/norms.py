"""Normalize and LayerNorm: the lengths and the distribution of features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxembed.encoders.checkpoint import write_json, write_tensors
from jaxembed.encoders.keys import Keys
from jaxembed.encoders.modules.module import SENTENCE, read_parameters
from jaxembed.forms import At
from jaxembed.similarity import unit
from jaxembed.typing import Params, Tokens

EPSILON = 1e-5  # of PyTorch's layer norm
NORMALIZE = Keys(used={"module_input_name?": str, "module_output_name?": (str, None)})
LAYER_NORM = Keys(used={"dimension": At(int, least=1)})


@dataclass(frozen=True)
class Normalize:
    """To unit length."""

    reads: str = SENTENCE
    writes: str = SENTENCE
    published_type = "sentence_transformers.models.Normalize"

    @classmethod
    def read(cls, folder: Path) -> tuple[Normalize, Params]:
        file = folder / "config.json"
        config = NORMALIZE.read(file) if file.exists() else {}
        reads = config.get("module_input_name", SENTENCE)
        return cls(reads, config.get("module_output_name") or reads), {}

    def width_of(self, width: int) -> int:
        return width

    def __call__(
        self, params: Params, features: Array, tokens: Tokens, keys: Array | None = None
    ) -> Array:
        return unit(features)

    def write(self, folder: Path, params: Params) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if (self.reads, self.writes) != (SENTENCE, SENTENCE):
            config = {"module_input_name": self.reads, "module_output_name": self.writes}
            write_json(folder / "config.json", config)


@dataclass(frozen=True)
class LayerNorm:
    """To mean 0 and variance 1 over the features, then scaled and shifted."""

    dimension: int
    published_type = "sentence_transformers.models.LayerNorm"
    reads = SENTENCE
    writes = SENTENCE

    @classmethod
    def read(cls, folder: Path) -> tuple[LayerNorm, Params]:
        module = cls(LAYER_NORM.read(folder / "config.json")["dimension"])
        shape = (module.dimension,)
        tensors = read_parameters(folder, {"norm.weight": shape, "norm.bias": shape})
        return module, {"scale": tensors["norm.weight"], "bias": tensors["norm.bias"]}

    def width_of(self, width: int) -> int:
        if width != self.dimension:
            raise ValueError(f"dimension is {self.dimension}, {self.reads} has {width}")
        return width

    def __call__(
        self, params: Params, features: Array, tokens: Tokens, keys: Array | None = None
    ) -> Array:
        centered = features - jnp.mean(features, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centered), axis=-1, keepdims=True)
        return centered * jax.lax.rsqrt(variance + EPSILON) * params["scale"] + params["bias"]

    def write(self, folder: Path, params: Params) -> None:
        write_json(folder / "config.json", {"dimension": self.dimension})
        names = {"norm.weight": "scale", "norm.bias": "bias"}
        write_tensors(folder, {name: np.asarray(params[own]) for name, own in names.items()})
