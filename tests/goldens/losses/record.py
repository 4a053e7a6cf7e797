"""Records what loss classes of the PyTorch library compute: inputs, value and every gradient.

Everything is float64. The library casts some labels and scores to float32 by `Tensor.float()`;
while it is recorded, `float()` keeps float64, so that nothing is lost.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent
Arrays = dict[str, np.ndarray]


class Recorder:
    """Collects the cases of one family and saves them as `family.json` and `family.npz`."""

    def __init__(self, family: str):
        self.family = family
        self.cases: list[dict[str, Any]] = []
        self.arrays: Arrays = {}

    def add(
        self,
        name: str,
        loss: str,
        compute: Callable[[dict[str, Tensor]], Tensor],
        *,
        embeddings: Arrays,
        keywords: Arrays | None = None,
        parameters: Arrays | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """Records one case.

        `loss` is the path below `jaxembed.losses`. `embeddings` go in by position in their order,
        `keywords` and `parameters` by keyword; embeddings and parameters are differentiated.
        `settings` are JSON; a function is its name, or `[name, {keyword: value}]`. `compute` gets
        all arrays as tensors by name and calls the library's class.
        """
        keywords, parameters = keywords or {}, parameters or {}
        tensors = {
            key: torch.tensor(array, requires_grad=key in {**embeddings, **parameters})
            for key, array in {**embeddings, **keywords, **parameters}.items()
        }
        with mock.patch.object(Tensor, "float", Tensor.double):
            value = compute(tensors)
        if value.requires_grad:
            value.backward()
        differentiated = [*embeddings, *parameters]
        for key, tensor in tensors.items():
            self.arrays[f"{name}/{key}"] = tensor.detach().numpy()
            if key in differentiated:
                gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
                self.arrays[f"{name}/d_{key}"] = gradient.numpy()
        self.cases.append(
            {
                "name": name,
                "loss": loss,
                "embeddings": [*embeddings],
                "keywords": [*keywords],
                "parameters": [*parameters],
                "settings": settings or {},
                "value": float(value.detach()),
            }
        )

    def save(self) -> None:
        assert len({case["name"] for case in self.cases}) == len(self.cases)
        text = json.dumps(self.cases, indent=1)
        (HERE / f"{self.family}.json").write_text(text + "\n")
        np.savez_compressed(HERE / f"{self.family}.npz", **self.arrays)
        print(f"{self.family}: {len(self.cases)} cases")


class Columns(torch.nn.Module):
    """Stands where a loss class expects its model: hands back the embeddings it is given."""

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        return features


def batch(*embeddings: Tensor) -> list[dict[str, Tensor]]:
    """Makes the columns that a loss class hands to `Columns`; `[n k d]` are k of them."""
    parts = [part for x in embeddings for part in (x.unbind(1) if x.ndim == 3 else [x])]
    return [{"sentence_embedding": part} for part in parts]


def draw(name: str, **shapes: tuple[int, ...]) -> Arrays:
    """Draws standard normal arrays; the seed is the name, so that a new case changes no other."""
    rng = np.random.default_rng([*name.encode()])
    return {key: rng.normal(size=shape) for key, shape in shapes.items()}
