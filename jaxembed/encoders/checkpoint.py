"""JSON and safetensors files of model folders, read with a clear word when they are broken."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jaxembed.encoders.errors import EncoderError
from jaxembed.forms import Form, FormError, read_json as read_form

INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs"
FLOAT8 = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}


def read_json(file: Path, form: Form = object) -> Any:
    """Reads a JSON file of a model folder, of the form that `jaxembed.forms` describes.

    Raises:
        EncoderError: no such file, text that is no JSON, or JSON of another form.
    """
    try:
        return read_form(file, form)
    except FileNotFoundError:
        raise EncoderError(f"{file} is missing: this is no whole model folder") from None
    except (FormError, OSError) as error:
        raise EncoderError(str(error)) from None


def write_json(file: Path, content: Any) -> None:
    """Writes a JSON file and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Reads `model.safetensors`, or the files that `model.safetensors.index.json` names.

    Raises:
        EncoderError: files that are missing, broken, outside of the folder, or that lack a tensor
            of the index.
    """
    index = folder / INDEX
    if (folder / "model.safetensors").exists() or not index.exists():
        return read_safetensors(folder / "model.safetensors")
    places = read_json(index, {"weight_map": {str: str}})["weight_map"]
    tensors: dict[str, np.ndarray] = {}
    for name in sorted(set(places.values())):
        if not inside(folder, name, index).exists():
            raise EncoderError(f"{folder / name} is missing, which {INDEX} names; fetch it again")
        tensors |= read_safetensors(inside(folder, name, index))
    if lacking := sorted(places.keys() - tensors.keys()):
        raise EncoderError(
            f"{folder}: {places[lacking[0]]} lacks the tensor {lacking[0]} that {INDEX} names;"
            " fetch it again"
        )
    return tensors


def inside(folder: Path, name: str, named_by: Path) -> Path:
    """Returns the path of what a file of the folder names, which must lie inside the folder.

    A link that lies there may lead elsewhere, as in the hub's local copies.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise EncoderError(f"{named_by} names {name!r}, which lies outside of the folder")
    return folder / path


def write_tensors(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes `model.safetensors`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a safetensors file by their names."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not file.exists():
        message = f"{file} is missing"
        others = [name for name in ("pytorch_model.bin", "flax_model.msgpack", "adapter_model.bin")
                  if (file.parent / name).exists()]  # fmt: skip
        if others:
            message += f": there is only {others[0]}; save it as safetensors with its own library"
        elif any(file.parent.glob("model-*-of-*.safetensors")):
            message += f": there are parts of it, but no {INDEX}; fetch that too"
        else:
            message += "; if there is another format on the hub, save it as safetensors first"
        raise EncoderError(message)
    try:
        return load_file(file)
    except AttributeError:  # a type that NumPy lacks
        return _read_with_float8(file)
    except (SafetensorError, OSError) as error:
        with file.open("rb") as opened:
            if opened.read(len(POINTER)) == POINTER:
                raise EncoderError(
                    f"{file} is only a pointer of Git LFS; fetch the file: git lfs pull"
                ) from None
        raise EncoderError(f"{file} is broken or cut short ({error}); fetch it again") from None


def weight(folder: Path, name: str, tensor: np.ndarray) -> np.ndarray:
    """Returns a tensor of a checkpoint as float32.

    Raises:
        EncoderError: a type that is no float, or values that are NaN or infinite.
    """
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
        raise EncoderError(
            f"{folder}: tensor {name} holds {tensor.dtype}, no floats, as quantised checkpoints do;"
            " dequantise the model with its own library and save it again"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.asarray(tensor, np.float32)
        # A finite sum is faster to see than that all are finite, and implies it.
        if not np.isfinite(array.sum()) and not np.isfinite(array).all():
            raise EncoderError(
                f"{folder}: tensor {name} holds NaN or infinite values; take an earlier checkpoint"
            )
    return array


def _read_with_float8(file: Path) -> dict[str, np.ndarray]:
    from safetensors import deserialize

    others = {"BF16": ml_dtypes.bfloat16, "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8",
              "I32": "i4", "I16": "i2", "I8": "i1", "U8": "u1", "BOOL": "?"}  # fmt: skip
    dtypes = FLOAT8 | others
    tensors = {}
    for name, entry in deserialize(file.read_bytes()):
        if entry["dtype"] not in dtypes:
            raise EncoderError(
                f"{file}: tensor {name} has the type {entry['dtype']}, which is no float of 8 bits"
                " or more; save the model in float32 or bfloat16 with its own library"
            )
        array = np.frombuffer(entry["data"], np.dtype(dtypes[entry["dtype"]]))
        tensors[name] = array.reshape(entry["shape"])
    return tensors
