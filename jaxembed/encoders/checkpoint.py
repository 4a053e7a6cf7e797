"""JSON and safetensors files of model folders, read with a clear word when they are broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxembed.encoders.errors import EncoderError


def read_json(file: Path) -> Any:
    """Reads a JSON file of a model folder."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EncoderError(f"{file} is missing: this is no whole model folder") from None
    except ValueError as error:
        raise EncoderError(f"{file} is not valid JSON ({error})") from None


def write_json(file: Path, content: Any) -> None:
    """Writes a JSON file and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Reads `model.safetensors`, or the files that `model.safetensors.index.json` names."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if not (folder / names[0]).exists() and index.exists():
        names = sorted(set(read_json(index)["weight_map"].values()))
    tensors: dict[str, np.ndarray] = {}
    for name in names:
        tensors |= _read_safetensors(folder / name)
    return tensors


def write_tensors(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes `model.safetensors`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not file.exists():
        message = f"{file} is missing"
        others = [name for name in ("pytorch_model.bin", "flax_model.msgpack")
                  if (file.parent / name).exists()]  # fmt: skip
        if others:
            message += f": there is only {others[0]}; save it as safetensors with its own library"
        raise EncoderError(message)
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"{file} is broken or cut short ({error}); fetch it again") from None
