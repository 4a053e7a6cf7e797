"""Parameters of Flax models and the published tensors that fill them, without torch.

Their names differ in the last part only, and the matrices of linear layers are transposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxembed.encoders.checkpoint import read_tensors, weight
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.lora import base_of, merge_adapter
from jaxembed.typing import Params

Path_ = tuple[str, ...]
PUBLISHED = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
OLD = {"gamma": "weight", "beta": "bias"}


def published(path: Path_) -> str:
    """Returns the name of the published tensor that fills the parameter at that path."""
    return ".".join((*path[:-1], PUBLISHED.get(path[-1], path[-1])))


def read_checkpoint(folder: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a folder by their published names, old ones renamed.

    An adapter in the folder is merged into its base.

    Raises:
        EncoderError: broken files, floats of 8 bits with scales apart, or an adapter that does not
            fit.
    """
    checkpoint = {}
    for name, tensor in read_tensors(base_of(folder)).items():
        rest, dot, last = name.rpartition(".")
        checkpoint[rest + dot + OLD.get(last, last)] = tensor
    _refuse_scales(folder, checkpoint)
    return merge_adapter(folder, checkpoint)


def _refuse_scales(folder: Path, checkpoint: Mapping[str, np.ndarray]) -> None:
    """Refuses floats of 8 bits that other tensors scale."""
    eight = {n.removesuffix("weight") for n, x in checkpoint.items() if x.dtype.itemsize == 1
             and jnp.issubdtype(x.dtype, jnp.floating)}  # fmt: skip
    for name in checkpoint if eight else ():
        rest, dot, last = name.rpartition(".")
        if "scale" in last and rest + dot in eight:
            raise EncoderError(
                f"{folder}: tensor {name} scales weights of 8 bits, which is not supported;"
                " dequantise the model with its own library and save it again"
            )


def find_parameters(
    folder: Path, checkpoint: Mapping[str, np.ndarray], shapes: Mapping[Path_, Any]
) -> dict[Path_, np.ndarray]:
    """Returns those of the parameters that the checkpoint has, float32.

    Raises:
        EncoderError: a tensor of another shape.
    """
    found = {}
    for path, expected in shapes.items():
        tensor = checkpoint.get(name := published(path))
        if tensor is None:
            continue
        tensor = _transposed(path, weight(folder, name, tensor))
        if tensor.shape != expected.shape:
            raise EncoderError(
                f"{folder}: tensor {name} must be {expected.shape}; got {tensor.shape}"
            )
        found[path] = tensor
    return found


def publish(params: Params) -> dict[str, np.ndarray]:
    """Returns the parameters as published tensors."""
    return {
        published(path): _transposed(path, np.asarray(leaf))
        for path, leaf in flatten(params).items()
    }


def flatten(tree: Params) -> dict[Path_, Any]:
    """Returns the leaves of nested dicts by their paths."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {tuple(entry.key for entry in path): leaf for path, leaf in leaves}


def unflatten(flat: Mapping[Path_, Any]) -> Params:
    """Returns the nested dicts of leaves by their paths."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = leaf
    return tree


def _transposed(path: Path_, tensor: np.ndarray) -> np.ndarray:
    return tensor.T if path[-1] == "kernel" else tensor
