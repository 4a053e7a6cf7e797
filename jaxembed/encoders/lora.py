"""Adapters as PEFT writes them: LoRA, whose weights are added to those of the base model.

    W + s · B A,    s = alpha / r, or alpha / √r with use_rslora

A folder with adapter_config.json has its base beside it, or names it.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021; Kalajdzievski, A Rank
Stabilization Scaling Factor for Fine-Tuning with LoRA, 2023.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxembed.encoders.checkpoint import read_json, read_safetensors, weight
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.finding import ADAPTER, find
from jaxembed.encoders.keys import Keys
from jaxembed.forms import At

WEIGHTS = "adapter_model.safetensors"
OFF = (None, False)
PREFIX = "base_model.model."
MERGE = "merge it with PEFT (merge_and_unload) and save the whole model"
PAIR = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.default)?(?:\.weight)?")
WRAPPED = re.compile(r"\.(base_layer|modules_to_save(\.default)?|original_module)(?=\.)")
HEADS = {"pooler", "lm_head", "classifier", "score", "cls", "qa_outputs"}  # in no embedding
CONV1D = ("gpt2", "openai-gpt")  # model types whose linear maps have their inputs first

KEYS = Keys(
    used={
        "peft_type": str,
        "r": At(int, least=1),
        "lora_alpha": At(float),
        "base_model_name_or_path?": (str, None),
        "use_rslora?": (bool, None),
        "rank_pattern?": ({str: At(int, least=1)}, None),
        "alpha_pattern?": ({str: At(float)}, None),
    },
    harmless=(
        *("auto_mapping", "bias", "ensure_weight_tying", "eva_config", "exclude_modules"),
        *("fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform"),
        *("loftq_config", "lora_dropout", "megatron_core", "modules_to_save", "peft_version"),
        *("qalora_group_size", "revision", "runtime_config", "target_modules", "task_type"),
    ),
    only={
        **dict.fromkeys(("use_dora", "lora_bias", "use_qalora", "use_bdlora"), OFF),
        **dict.fromkeys(("layer_replication", "alora_invocation_tokens", "megatron_config"), OFF),
        **dict.fromkeys(("arrow_config", "corda_config", "kasa_config", "lora_ga_config"), OFF),
        **dict.fromkeys(("monteclora_config", "velora_config", "trainable_token_indices"), OFF),
        "target_parameters": (*OFF, []),
        # Others change the base, too.
        "init_lora_weights": (*OFF, True, "gaussian", "orthogonal", "eva"),
    },
)


def configuration(folder: Path) -> Path:
    """Returns config.json of the transformer in a folder, or of the base that its adapter names.

    Raises:
        EncoderError: an adapter without a base.
    """
    return base_of(folder) / "config.json"


def base_of(folder: Path) -> Path:
    """Returns where the weights of a folder lie that an adapter, if there is one, changes."""
    if not (folder / ADAPTER).exists() or (folder / "config.json").exists():
        return folder
    name = _read(folder).get("base_model_name_or_path")
    if not name:
        raise EncoderError(f"{folder / ADAPTER} names no base, and none lies beside it; {MERGE}")
    try:
        base = find(name)
    except EncoderError as error:
        raise EncoderError(
            f"{folder / ADAPTER}: the base cannot be found ({error}); change"
            " base_model_name_or_path to where it lies"
        ) from None
    if not (base / "config.json").exists() or (base / ADAPTER).exists():
        raise EncoderError(f"{folder / ADAPTER}: its base {base} is no whole transformer; {MERGE}")
    return base


def merge_adapter(folder: Path, checkpoint: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors of the base with those of the folder's adapter, if it has one.

    Tensors that the adapter holds whole (`modules_to_save`, biases) take the place of the base's.

    Raises:
        EncoderError: an adapter that is no LoRA, or tensors that do not fit the base.
    """
    merged = dict(checkpoint)
    if not (folder / ADAPTER).exists():
        return merged
    settings, file = _read(folder), folder / WEIGHTS
    pairs: dict[tuple[str, bool], dict[str, np.ndarray]] = {}
    for name, tensor in read_safetensors(file).items():
        array, inner = weight(folder, name, tensor), name.removeprefix(PREFIX)
        if pair := PAIR.fullmatch(inner):
            module, of_embedding, side = pair.groups()
            pairs.setdefault((module, bool(of_embedding)), {})[side] = array
        elif "lora_" in inner or inner == name:
            raise EncoderError(f"{file}: tensor {name} is not supported; {MERGE}")
        else:
            inner = WRAPPED.sub("", inner)
            merged[_target(inner, merged) or inner] = array
    if not pairs:
        raise EncoderError(f"{file} holds no LoRA; {MERGE}")
    inputs_first = read_json(configuration(folder)).get("model_type") in CONV1D
    for (module, of_embedding), pair in pairs.items():
        name = _target(f"{module}.weight", merged)
        if name is None and not HEADS.isdisjoint(module.split(".")):
            continue
        if name is None or pair.keys() != {"A", "B"}:
            reason = "lacks A or B" if name else "fits no weight of the base"
            raise EncoderError(f"{file}: the LoRA of {module} {reason}; take the base it is for")
        base, down, up = weight(folder, name, merged[name]), pair["A"], pair["B"]
        scale = np.float32(_scale(settings, module, len(down), file))
        fits = down.ndim == up.ndim == 2 and up.shape[1] == len(down)
        product = up @ down if fits else np.empty((0, 0), np.float32)
        product = product.T if inputs_first or of_embedding else product
        if product.shape != base.shape:
            raise EncoderError(
                f"{file}: the LoRA of {module}, {up.shape} times {down.shape}, does not fit the"
                f" base's {base.shape}; take the base it is for"
            )
        merged[name] = base + scale * product
    return merged


def _read(folder: Path) -> dict[str, Any]:
    file = folder / ADAPTER
    kind = read_json(file, {"peft_type": str})["peft_type"]
    if kind != "LORA":
        raise EncoderError(f"{file}: an adapter of the type {kind}, only LORA is merged; {MERGE}")
    try:
        return KEYS.read(file)
    except EncoderError as error:
        raise EncoderError(f"{error}; {MERGE}") from None


def _target(name: str, checkpoint: Mapping[str, np.ndarray]) -> str | None:
    """Returns the tensor of a name, with or without what a task's head puts before it."""
    if name in checkpoint:
        return name
    found = [key for key in checkpoint if f".{key}".endswith(f".{name}")] or [
        key for key in checkpoint if name.endswith(f".{key}")
    ]
    return found[0] if len(found) == 1 else None


def _scale(settings: Mapping[str, Any], module: str, rank: int, file: Path) -> float:
    """Returns what the product of a module is multiplied with."""
    declared = _of_module(settings.get("rank_pattern"), module, settings["r"], file)
    if rank != declared:
        raise EncoderError(
            f"{file}: the LoRA of {module} has the rank {rank}, {ADAPTER} says {declared}"
        )
    alpha = _of_module(settings.get("alpha_pattern"), module, settings["lora_alpha"], file)
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _of_module(patterns: Mapping[str, Any] | None, module: str, default: Any, file: Path) -> Any:
    """Returns the value of the first pattern that the end of a module's name matches."""
    for pattern, value in (patterns or {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise EncoderError(f"{file}: {ADAPTER} has the pattern {pattern!r} ({error})") from None
    return default
