"""WeightedLayerPooling: token vectors of several layers to their weighted mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxembed.encoders.checkpoint import write_json, write_tensors
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.keys import Keys
from jaxembed.encoders.modules.module import ALL_LAYERS, TOKENS, read_parameters
from jaxembed.forms import At
from jaxembed.typing import Params, Tokens

KEYS = Keys(
    used={
        "embedding_dimension?": int,
        "word_embedding_dimension?": int,  # before sentence-transformers 5.4
        "layer_start?": At(int, least=0),
        "num_hidden_layers?": At(int, least=1),
    }
)


@dataclass(frozen=True)
class WeightedLayerPooling:
    """The mean of all layers from `first` on, weighted by learned numbers: `[n l t d] -> [n t d]`.

    Layer 0 are the embeddings.
    """

    width: int | None
    first: int = 4
    n_layers: int = 12
    published_type = "sentence_transformers.models.WeightedLayerPooling"
    reads = ALL_LAYERS
    writes = TOKENS

    @classmethod
    def read(cls, folder: Path) -> tuple[WeightedLayerPooling, Params]:
        config = KEYS.read(folder / "config.json")
        module = cls(
            config.get("embedding_dimension", config.get("word_embedding_dimension")),
            config.get("layer_start", cls.first),
            config.get("num_hidden_layers", cls.n_layers),
        )
        if module.first > module.n_layers:
            raise EncoderError(
                f"{folder}: layer_start {module.first} lies beyond num_hidden_layers,"
                f" {module.n_layers}"
            )
        shape = (module.n_layers + 1 - module.first,)
        tensors = read_parameters(folder, {"layer_weights": shape})
        return module, {"weights": tensors["layer_weights"]}

    def width_of(self, width: int) -> int:
        return width

    def __call__(
        self, params: Params, features: Array, tokens: Tokens, keys: Array | None = None
    ) -> Array:
        if features.shape[1] != self.n_layers + 1:
            raise EncoderError(
                f"WeightedLayerPooling is made for {self.n_layers} layers; the transformer has"
                f" {features.shape[1] - 1}"
            )
        weights = params["weights"]
        layers = features[:, self.first :].astype(jnp.promote_types(features.dtype, jnp.float32))
        return jnp.einsum("nltd,l->ntd", layers, weights) / jnp.sum(weights)

    def write(self, folder: Path, params: Params) -> None:
        config = {
            "word_embedding_dimension": self.width,
            "layer_start": self.first,
            "num_hidden_layers": self.n_layers,
        }
        write_json(folder / "config.json", config)
        write_tensors(folder, {"layer_weights": np.asarray(params["weights"])})
