"""Which published tensors fill which parameters of a family."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxembed.encoders.checkpoint import weight
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.families.architecture import Architecture, Family
from jaxembed.encoders.parameters import PUBLISHED, Path_, flatten, unflatten
from jaxembed.typing import Params

IN_A_LAYER = re.compile(r"(^|\.)(layers?|albert_layers)\.\d+\.")
BUFFERS = ("inv_freq", "position_ids", "masked_bias")  # in old checkpoints, of no use


class Names:
    """The names of one architecture's tensors: parameters are filled from them and published."""

    def __init__(self, family: Family, a: Architecture) -> None:
        self.family, self.a = family, a

    def fill(
        self,
        folder: Path,
        checkpoint: Mapping[str, np.ndarray],
        shapes: Mapping[Path_, Any],
        *,
        cut: int | None,
    ) -> tuple[Params, dict[str, np.ndarray]]:
        """Returns the parameters, float32, and the tensors that the model does not use.

        With `cut`, further layers in the checkpoint are left out.

        Raises:
            EncoderError: tensors that are missing, of another shape, or of layers that the
                configuration does not have.
        """
        checkpoint = _without_prefix(checkpoint, self.family.prefixes)
        used: set[str] = set()
        missing: list[str] = []

        def read(name: str, part: int, parts: int, path: Path_, shape: tuple) -> np.ndarray | None:
            if name not in checkpoint:
                missing.append(name)
                return None
            used.add(name)
            tensor = checkpoint[name]
            expected = (shape[0] * parts, *shape[1:])
            published = expected[::-1] if path[-1] == "kernel" else expected
            if path[-1] == "kernel":
                published = (shape[1] * parts, shape[0])
            tensor = weight(folder, name, tensor)
            if tensor.shape != published:
                raise EncoderError(
                    f"{folder}: tensor {name} must be {published}; got {tensor.shape}"
                )
            tensor = np.split(tensor, parts)[part] if parts > 1 else tensor
            return tensor.T if path[-1] == "kernel" else tensor

        params = {}
        for path, leaf in shapes.items():
            if path[0] != "layers":
                name, part, parts = self._name(path)
                params[path] = read(name, part, parts, path, leaf.shape)
                continue
            layers = []
            for number in range(self.a.n_parameter_layers):
                if self._is_identity(path, number):
                    layers.append(np.ones(leaf.shape[1:], np.float32))
                    continue
                name, part, parts = self._name(path, number)
                layers.append(read(name, part, parts, path, leaf.shape[1:]))
            params[path] = None if any(x is None for x in layers) else np.stack(layers)
        if missing:
            raise EncoderError(
                f"{folder}: model.safetensors lacks {len(missing)} tensors, such as {missing[0]}"
                f"{_wrapped(missing[0], checkpoint)}"
            )
        unused = {name: tensor for name, tensor in checkpoint.items() if name not in used}
        beyond = [name for name in unused if self._is_of_a_layer(name)]
        if beyond and cut is None:
            raise EncoderError(
                f"{folder}: model.safetensors has the tensor {beyond[0]}, for which config.json has"
                f" no layer (it has {self.a.n_layers}), or no bias"
            )
        for name in unused:
            if IN_A_LAYER.search(name) and name not in beyond and not name.endswith(BUFFERS):
                raise EncoderError(
                    f"{folder}: model.safetensors has the tensor {name}, which no layer of this"
                    " model type has; save a model without it"
                )
        return unflatten(params), {n: x for n, x in unused.items() if n not in beyond}

    def publish(self, params: Params) -> dict[str, np.ndarray]:
        """Returns the parameters as published tensors."""
        parts_of: dict[str, dict[int, np.ndarray]] = {}
        for path, leaf in flatten(params).items():
            array = np.asarray(leaf)
            layered = path[0] == "layers"
            for number, x in enumerate(array if layered else [array]):
                if layered and self._is_identity(path, number):
                    continue
                name, part, _ = self._name(path, number)
                parts_of.setdefault(name, {})[part] = x.T if path[-1] == "kernel" else x
        return {
            name: np.concatenate([parts[i] for i in sorted(parts)]) if len(parts) > 1 else parts[0]
            for name, parts in parts_of.items()
        }

    def _name(self, path: Path_, number: int = 0) -> tuple[str, int, int]:
        """Returns the published name of a parameter, and which part of it of how many."""
        layered = path[0] == "layers"
        key = "/".join(path[layered:-1])
        entry = (self.family.layer if layered else self.family.outside)[key]
        name, part, parts = entry if isinstance(entry, tuple) else (entry, 0, 1)
        last = PUBLISHED.get(path[-1], path[-1])
        return f"{name.format(*divmod(number, self.a.inner_layers))}.{last}", part, parts

    def _is_identity(self, path: Path_, number: int) -> bool:
        """Returns True if a norm has no parameters, as the first one of a ModernBERT."""
        return number == 0 and path[1] == "attention_norm" and not self.a.first_attention_norm

    def _is_of_a_layer(self, name: str) -> bool:
        entries = (x if isinstance(x, str) else x[0] for x in self.family.layer.values())
        patterns = {re.escape(entry).replace(r"\{\}", r"\d+") for entry in entries if "{}" in entry}
        return any(re.fullmatch(rf"{pattern}\.(weight|bias)", name) for pattern in patterns)


def _wrapped(name: str, checkpoint: Mapping[str, np.ndarray]) -> str:
    """Says under which name a wrapper of the model has saved a tensor, if it has."""
    longer = next((found for found in checkpoint if found.endswith(f".{name}")), None)
    if longer is None:
        return ""
    return f"; it has {longer}: save the model itself, or take {longer.removesuffix(name)} away"


def _without_prefix(
    checkpoint: Mapping[str, np.ndarray], prefixes: tuple[str, ...]
) -> Mapping[str, np.ndarray]:
    """Drops the prefix that a model saved with a task's head has, and the head."""
    for prefix in prefixes:
        if any(name.startswith(prefix) for name in checkpoint):
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in checkpoint.items()
                if name.startswith(prefix)
            }
    return checkpoint
