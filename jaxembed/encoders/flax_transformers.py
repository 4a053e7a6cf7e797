"""Transformers' own Flax models as a source of encoders (transformers 4.57; version 5 has none).

The weights are read from the published safetensors without torch: the names of their tensors differ
from the Flax ones in the last part only, and the matrices of linear layers are transposed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxembed.encoders.checkpoint import read_json, read_tensors
from jaxembed.encoders.errors import EncoderError
from jaxembed.randomness import row_keys
from jaxembed.typing import Params, Tokens

Path_ = tuple[str, ...]
LAST_NAMES = {  # of a published tensor -> the Flax names it may have
    "weight": ("kernel", "scale", "embedding", "weight"),
    "gamma": ("scale",),
    "beta": ("bias",),
}


@dataclass(frozen=True)
class Transformer:
    """A transformer: tokens to one vector per token, with what it takes to write it back."""

    apply: Callable[..., Array]  # (params, tokens, *, key=None) -> [n t d]
    params: Params
    config: Any
    tensors: Callable[[Params], dict[str, np.ndarray]]  # params -> tensors by published name


def load_transformer(folder: Path, *, dtype: jnp.dtype, dropout: bool = True) -> Transformer:
    """Reads the Flax transformer of a folder; `dtype` is that of the computation.

    Raises:
        EncoderError: no such Flax model, or a checkpoint that does not fit it.
    """
    config, model = _build(folder, dtype, dropout)
    shapes = _flatten(model.params_shape_tree)
    checkpoint = read_tensors(folder)
    prefix = model.base_model_prefix + "."
    if any(name.startswith(prefix) for name in checkpoint):  # saved with a task's head
        checkpoint = {
            name.removeprefix(prefix): tensor
            for name, tensor in checkpoint.items()
            if name.startswith(prefix)
        }
    paths = {name: path for name in checkpoint if (path := _flax_path(name, shapes)) is not None}
    if missing := [".".join(path) for path in shapes if path not in paths.values()]:
        raise EncoderError(
            f"{folder}: model.safetensors lacks {len(missing)} of {len(shapes)} tensors that"
            f" {type(model).__name__} needs, such as {missing[0]}"
        )
    params: dict[Path_, np.ndarray] = {}
    for name, path in paths.items():
        tensor = checkpoint[name].T if _transposed(path) else checkpoint[name]
        if tensor.shape != shapes[path].shape:
            raise EncoderError(
                f"{folder}: tensor {name} must be {shapes[path].shape}; got {tensor.shape}"
            )
        params[path] = np.asarray(tensor, np.float32)
    unused = {name: tensor for name, tensor in checkpoint.items() if name not in paths}

    def tensors(params: Params) -> dict[str, np.ndarray]:
        flat = _flatten(params)
        used = {
            name: np.asarray(flat[path]).T if _transposed(path) else np.asarray(flat[path])
            for name, path in paths.items()
        }
        return used | unused

    return Transformer(_apply(model), _unflatten(params), config, tensors)


def _build(folder: Path, dtype: jnp.dtype, dropout: bool) -> tuple[Any, Any]:
    """Builds the model without weights."""
    model_type = read_json(folder / "config.json").get("model_type")
    try:
        import transformers
        from transformers import AutoConfig
        from transformers.models.auto.modeling_flax_auto import FLAX_MODEL_MAPPING
    except ImportError:
        raise EncoderError(
            f"{folder}: this transformers has no Flax models;"
            " install the extra flax-transformers (transformers 4.57)"
        ) from None
    if model_type not in transformers.CONFIG_MAPPING:
        raise EncoderError(f"{folder}: transformers does not know the model type {model_type!r}")
    config = AutoConfig.from_pretrained(folder)
    if not dropout:
        for name in vars(config):
            if name.endswith(("dropout", "dropout_prob")) and isinstance(vars(config)[name], float):
                setattr(config, name, 0.0)
    model_class: Any = FLAX_MODEL_MAPPING.get(type(config), None)
    if (
        model_class is None
        or config.is_encoder_decoder
        or model_class.main_input_name != "input_ids"
    ):
        raise EncoderError(
            f"{folder}: the architecture {model_type!r} has no Flax text encoder; use one of the"
            " type bert, roberta, xlm-roberta, distilbert, electra or albert"
        )
    options: dict[str, Any] = {}
    if "add_pooling_layer" in model_class.module_class.__dataclass_fields__:
        options["add_pooling_layer"] = False  # it would be weights without a gradient
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        previous = transformers.logging.get_verbosity()
        transformers.logging.set_verbosity_error()  # says that Flax ends with version 5; so do we
        try:
            model = model_class(config, dtype=dtype, _do_init=False, **options)
        finally:
            transformers.logging.set_verbosity(previous)
    return config, model


def _apply(model: Any) -> Callable[..., Array]:
    def run(params: Params, tokens: Tokens, key: Array | None) -> Array:
        return model(
            tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            params=params,
            dropout_rng=key,
            train=key is not None,
        ).last_hidden_state

    def apply(params: Params, tokens: Tokens, *, key: Array | None = None) -> Array:
        if key is None:
            return run(params, tokens, None)
        one_row = lambda row, key: run(params, jax.tree.map(lambda x: x[None], row), key)[0]  # noqa: E731
        return jax.vmap(one_row)(dict(tokens), row_keys(key, tokens["input_ids"].shape[0]))

    return apply


def _flax_path(name: str, shapes: dict[Path_, Any]) -> Path_ | None:
    """Returns the path of the Flax parameter that a published tensor fills, if there is one."""
    *rest, last = name.split(".")
    candidates = [(*rest, other) for other in LAST_NAMES.get(last, (last,))]
    return next((path for path in candidates if path in shapes), None)


def _transposed(path: Path_) -> bool:
    return path[-1] == "kernel"


def _flatten(tree: Params) -> dict[Path_, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {tuple(entry.key for entry in path): leaf for path, leaf in leaves}


def _unflatten(flat: dict[Path_, Any]) -> Params:
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = leaf
    return tree
