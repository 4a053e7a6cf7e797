"""Model folders in the format of sentence-transformers: read and written without torch."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxembed.encoders.checkpoint import read_json, write_json, write_tensors
from jaxembed.encoders.encoder import Encoder, chain
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.families import FAMILIES, load_family
from jaxembed.encoders.finding import find
from jaxembed.encoders.model_card import model_card
from jaxembed.encoders.modules import MODULES, Dense, Module, Pooling
from jaxembed.encoders.pooling import MODES
from jaxembed.encoders.static_embedding import load_static_embedding
from jaxembed.encoders.tokenizer import load_plain_tokenizer, load_tokenizer
from jaxembed.encoders.tokenizer_file import UNLIMITED
from jaxembed.encoders.transformer import Transformer
from jaxembed.typing import Params

Modules = tuple[tuple[str, Module], ...]  # (folder name, module)

SOURCES = ("auto", "jaxembed", "transformers")


def load(
    name: str | Path,
    *,
    dtype: Any = jnp.float32,
    max_seq_length: int | None = None,
    dropout: bool = True,
    n_layers: int | None = None,
    pooling: str | None = None,
    initialize: int | None = None,
    source: str = "auto",
    remat: str | None = None,
) -> Encoder:
    """Loads an encoder from a folder, an installed package or the hub.

    A StaticEmbedding has neither layers nor pooling: it refuses `n_layers` and `pooling`, and for
    `dropout`, `source` and `remat` there is nothing to do.

    Args:
        name: a folder, a hub name such as "org/model", or a bare name of sentence-transformers' own
            models.
        dtype: of the computation, such as `jnp.bfloat16`; parameters are float32.
        max_seq_length: tokens that are kept of a text; the model's own limit, if any, if None.
        dropout: False takes the dropout out of the model, whatever key it is given.
        n_layers: how many of the transformer's layers to keep, the first ones; all if None.
        pooling: "cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean" or "lasttoken", in the
            place of the model's own.
        initialize: a seed to draw the transformer's weights with, which are then not read.
        source: whose model it is: "jaxembed", our own of the `families`; "transformers", the Flax
            models of transformers 4, which version 5 has not; "auto", ours where the family is
            known.
        remat: what our own models compute again for the gradient, to save memory: "dots" (all but
            the products of matrices, the default), "full" (everything within a layer) or "none".

    Raises:
        EncoderError: an unknown name, a broken folder, a model that has no Flax encoder or fewer
            layers, or another pooling mode.
    """
    folder = find(name)
    listing = _read_listing(folder)
    static = bool(listing) and _kind(listing[0]) == "StaticEmbedding"
    options: dict[str, Any] = {"dtype": dtype, "n_layers": n_layers, "initialize": initialize}
    if static:
        transformer = load_static_embedding(folder, listing[0]["path"], **options)
    else:
        read = transformer_source(source, folder)
        if remat is not None:
            if read is not load_family:
                raise EncoderError(f"{name}: remat={remat!r} is for the source jaxembed")
            options["remat"] = remat
        transformer = read(folder, dropout=dropout, **options)
    modules, params = _read_modules(folder, listing, transformer.width)
    if pooling is not None:
        modules = _pooled_by(pooling, modules, folder)
    if static:
        tokenizer = load_plain_tokenizer(
            folder / listing[0]["path"],
            vocabulary=transformer.vocabulary,
            max_length=max_seq_length,
        )
    else:
        tokenizer = load_tokenizer(
            folder,
            vocabulary=transformer.vocabulary,
            n_positions=transformer.n_positions,
            max_length=max_seq_length,
            prompt_counts=all(m.include_prompt for _, m in modules if isinstance(m, Pooling)),
        )
    settings_file = folder / "config_sentence_transformers.json"
    settings = read_json(settings_file) if settings_file.exists() else {}
    apply = chain(transformer.apply, modules)
    return Encoder(
        apply=apply,
        all_layers=chain(transformer.all_layers, modules),
        params=jax.device_put({"transformer": transformer.params, **params}),
        tokenizer=tokenizer,
        config=transformer.settings,
        modules=modules,
        tensors=transformer.tensors,
        prompts=settings.get("prompts") or {},
        default_prompt_name=settings.get("default_prompt_name"),
        similarity=settings.get("similarity_fn_name") or "cosine",
        name=str(name),
        compiled=jax.jit(apply),
        truncate_dim=settings.get("truncate_dim"),
        packs=transformer.packs,
        published_type=transformer.published_type,
    )


def transformer_source(source: str, folder: Path) -> Callable[..., Transformer]:
    """Returns the function that reads the transformer of a folder, `load_family` for our own."""
    if source not in SOURCES:
        raise EncoderError(f"source must be one of {', '.join(SOURCES)}; got {source!r}")
    model_type = read_json(folder / "config.json").get("model_type")
    known = model_type in FAMILIES
    if source == "jaxembed" or (source == "auto" and known):
        if known:
            return load_family
        raise EncoderError(
            f"{folder}: jaxembed has no family for the model type {model_type!r}, only"
            f" {', '.join(FAMILIES)}; take the source transformers"
        )
    if importlib.util.find_spec("transformers.models.auto.modeling_flax_auto") is None:
        others = "" if known else f" and jaxembed no family for the model type {model_type!r}"
        remedy = "take the source jaxembed" if known else "install transformers 4.57"
        raise EncoderError(f"{folder}: this transformers has no Flax models{others}; {remedy}")
    from jaxembed.encoders.flax_transformers import load_transformer

    return load_transformer


def save_encoder(encoder: Encoder, folder: Path, facts: Mapping[str, Any]) -> Path:
    """Writes the folder whole or not at all: beside its place first, then moved there."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    params = jax.device_get(encoder.params)
    if encoder.config:  # a StaticEmbedding may have none
        names = ("dtype", "torch_dtype", "embedding_dtype")
        dtypes = {key: "float32" for key in names if key in encoder.config}
        write_json(partial / "config.json", {**encoder.config, **dtypes})
    write_tensors(partial, encoder.tensors(params["transformer"]))
    encoder.tokenizer.tokenizer.save_pretrained(partial)
    if encoder.tokenizer.max_length < UNLIMITED:
        write_json(
            partial / "sentence_bert_config.json",
            {"max_seq_length": encoder.tokenizer.max_length, "do_lower_case": False},
        )
    chained = [("", encoder.published_type)]
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
            **({} if encoder.truncate_dim is None else {"truncate_dim": encoder.truncate_dim}),
        },
    )
    (partial / "README.md").write_text(model_card(encoder, facts), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    return partial.rename(folder)


def _read_listing(folder: Path) -> list[dict[str, str]]:
    """Reads modules.json; without it, returns what Model2Vec would write there, or no modules."""
    listing = folder / "modules.json"
    if listing.exists():
        return read_json(listing)
    settings = read_json(folder / "config.json")
    if settings.get("model_type") != "model2vec":
        return []
    static = [{"path": "", "type": "StaticEmbedding"}]
    return static + [{"path": "1_Normalize", "type": "Normalize"}] * bool(settings.get("normalize"))


def _kind(entry: Mapping[str, str]) -> str:
    return entry["type"].rpartition(".")[2]


def _read_modules(
    folder: Path, listing: Sequence[Mapping[str, str]], width: int
) -> tuple[Modules, dict[str, Params]]:
    """Reads the modules behind the first one; if none are listed it is mean pooling."""
    if not listing:
        return (("1_Pooling", Pooling(width=width)),), {}
    first, *others = listing
    static = _kind(first) == "StaticEmbedding"
    if not static and (_kind(first) != "Transformer" or first["path"]):
        raise EncoderError(
            f"{folder}: the first module must be a Transformer or a StaticEmbedding;"
            f" got {first['type']}"
        )
    modules: list[tuple[str, Module]] = []
    params: dict[str, Params] = {}
    for entry in others:
        kind = _kind(entry)
        if kind not in MODULES:
            raise EncoderError(
                f"{folder}: the module {entry['type']} is not supported; only {list(MODULES)} are"
            )
        if static and kind == "Pooling":
            raise EncoderError(f"{folder}: a StaticEmbedding leaves no tokens for a Pooling module")
        module, module_params = MODULES[kind].read(folder / entry["path"])
        modules.append((entry["path"], module))
        if module_params:
            params[entry["path"]] = module_params
    return tuple(modules), params


def _pooled_by(mode: str, modules: Modules, folder: Path) -> Modules:
    """Returns the modules with another mode of pooling."""
    if mode not in MODES:
        raise EncoderError(f"{folder}: pooling must be one of {list(MODES)}; got {mode!r}")
    joined = [len(module.modes) for _, module in modules if isinstance(module, Pooling)]
    if not joined:
        raise EncoderError(f"{folder}: pooling {mode!r} needs a Pooling module; there is none")
    if joined != [1] and any(isinstance(module, Dense) for _, module in modules):
        raise EncoderError(
            f"{folder}: the Dense module is made for {joined[0]} pooling modes joined;"
            f" {mode!r} alone does not fit it"
        )
    return tuple(
        (name, replace(module, modes=(mode,)) if isinstance(module, Pooling) else module)
        for name, module in modules
    )
