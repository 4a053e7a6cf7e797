"""Dense: a linear map and an activation, of texts or of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax import Array

from jaxembed.encoders.checkpoint import write_json, write_tensors
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.keys import Keys
from jaxembed.encoders.modules.activations import ACTIVATIONS
from jaxembed.encoders.modules.module import SENTENCE, read_parameters
from jaxembed.forms import At
from jaxembed.typing import Params, Tokens

KEYS = Keys(
    used={
        "in_features": At(int, least=1),
        "out_features": At(int, least=1),
        "bias?": bool,
        "activation_function?": str,
        "module_input_name?": str,
        "module_output_name?": (str, None),
        "use_residual?": bool,
    }
)


@dataclass(frozen=True)
class Dense:
    """A linear map, an activation and, with `residual`, the input added: `[… d] -> [… e]`.

    Where widths differ the residual goes through a linear map of its own.
    """

    in_features: int
    out_features: int
    activation: str = "torch.nn.modules.activation.Tanh"
    residual: bool = False
    reads: str = SENTENCE
    writes: str = SENTENCE
    published_type = "sentence_transformers.models.Dense"

    @classmethod
    def read(cls, folder: Path) -> tuple[Dense, Params]:
        config = KEYS.read(folder / "config.json")
        activation = config.get("activation_function", cls.activation)
        package, _, name = activation.rpartition(".")
        if name not in ACTIVATIONS or package.split(".")[0] != "torch":
            raise EncoderError(
                f"{folder}: activation {activation} is none of {', '.join(ACTIVATIONS)} of torch.nn"
            )
        reads = config.get("module_input_name", SENTENCE)
        dense = cls(
            config["in_features"],
            config["out_features"],
            activation,
            config.get("use_residual", False),
            reads,
            config.get("module_output_name") or reads,
        )
        shape = (dense.out_features, dense.in_features)
        shapes: dict[str, tuple[int, ...]] = {"linear.weight": shape}
        if config.get("bias", True):
            shapes["linear.bias"] = shape[:1]
        if dense.residual and dense.in_features != dense.out_features:
            shapes["residual.weight"] = shape
        tensors = read_parameters(folder, shapes)
        params = {"kernel": tensors["linear.weight"].T}
        if "linear.bias" in tensors:
            params["bias"] = tensors["linear.bias"]
        if "residual.weight" in tensors:
            params["residual"] = tensors["residual.weight"].T
        return dense, params

    def width_of(self, width: int) -> int:
        if width != self.in_features:
            raise ValueError(f"in_features is {self.in_features}, {self.reads} has {width}")
        return self.out_features

    def __call__(
        self, params: Params, features: Array, tokens: Tokens, keys: Array | None = None
    ) -> Array:
        mapped = features @ params["kernel"]
        if "bias" in params:
            mapped += params["bias"]
        mapped = ACTIVATIONS[self.activation.rpartition(".")[2]](mapped)
        if self.residual:
            mapped += features @ params["residual"] if "residual" in params else features
        return mapped

    def write(self, folder: Path, params: Params) -> None:
        config: dict[str, Any] = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": "bias" in params,
            "activation_function": self.activation,
        }
        if (self.reads, self.writes) != (SENTENCE, SENTENCE):
            config |= {"module_input_name": self.reads, "module_output_name": self.writes}
        if self.residual:
            config["use_residual"] = True
        write_json(folder / "config.json", config)
        tensors = {"linear.weight": np.asarray(params["kernel"]).T}
        if "bias" in params:
            tensors["linear.bias"] = np.asarray(params["bias"])
        if "residual" in params:
            tensors["residual.weight"] = np.asarray(params["residual"]).T
        write_tensors(folder, tensors)
