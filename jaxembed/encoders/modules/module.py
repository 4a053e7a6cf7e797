"""What every module does: it reads one of the features, and writes one."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from jax import Array

from jaxembed.encoders.checkpoint import read_tensors
from jaxembed.encoders.errors import EncoderError
from jaxembed.typing import Params, Tokens

# The features that modules pass on, by their published names.
TOKENS = "token_embeddings"  # [n t d]
SENTENCE = "sentence_embedding"  # [n d], or [n k d] of rows that hold k texts
ALL_LAYERS = "all_layer_embeddings"  # [n l t d]


class Module(Protocol):
    """One link of the chain: it computes the features it `writes` from those it `reads`.

    It reads its configuration and parameters from a folder, and writes itself back. `keys`, one per
    row, are there in training only, to draw dropout.
    """

    published_type: str

    @property
    def reads(self) -> str: ...

    @property
    def writes(self) -> str: ...

    def width_of(self, width: int) -> int:
        """Returns the number of features for as many; raises ValueError if it takes others."""
        ...

    def __call__(
        self, params: Params, features: Array, tokens: Tokens, keys: Array | None = None
    ) -> Array: ...

    def write(self, folder: Path, params: Params) -> None: ...


def read_parameters(folder: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Reads the tensors of a module, which must be these.

    Raises:
        EncoderError: a tensor that is missing, of another shape, or beside these.
    """
    tensors = read_tensors(folder)
    for name, shape in shapes.items():
        if name not in tensors or tensors[name].shape != shape:
            got = f"; got {tensors[name].shape}" if name in tensors else ""
            raise EncoderError(f"{folder}: model.safetensors must hold {name} {shape}{got}")
    if beside := sorted(tensors.keys() - shapes.keys()):
        raise EncoderError(f"{folder}: model.safetensors holds {beside[0]}, which nothing uses")
    return {name: np.asarray(tensors[name], np.float32) for name in shapes}
