"""Model folders in the format of sentence-transformers: read and written without torch."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxembed.encoders.arguments import check_arguments, check_float
from jaxembed.encoders.checkpoint import inside, read_json, write_json, write_tensors
from jaxembed.encoders.encoder import Encoder, chain
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.families import FAMILIES, load_family
from jaxembed.encoders.finding import check_weights, find
from jaxembed.encoders.layout import (
    Layout,
    check_encodes,
    check_no_code,
    is_causal,
    read_layout,
)
from jaxembed.encoders.lora import configuration
from jaxembed.encoders.model_card import model_card
from jaxembed.encoders.modules import ALL_LAYERS, SENTENCE, TOKENS, Modules, Pooling
from jaxembed.encoders.modules.chain import check_layers, check_mode, pooled_by, read_modules
from jaxembed.encoders.replacing import check_replaceable
from jaxembed.encoders.settings import Settings, read_settings, write_settings
from jaxembed.encoders.static_embedding import load_static_embedding
from jaxembed.encoders.tokenizer import load_plain_tokenizer, load_tokenizer
from jaxembed.encoders.tokenizer_file import UNLIMITED
from jaxembed.encoders.transformer import Transformer
from jaxembed.typing import Params

SOURCES = ("auto", "jaxembed", "transformers")
LOAD = {
    "name": str,
    "max_seq_length": (int, None),
    "dropout": bool,
    "n_layers": (int, None),
    "pooling": (str, None),
    "initialize": (int, None),
    "source": str,
    "remat": (str, None),
}


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
    check_float(dtype)
    given = check_arguments(
        "load",
        LOAD,
        name=str(name) if isinstance(name, Path) else name,
        max_seq_length=max_seq_length,
        dropout=dropout,
        n_layers=n_layers,
        pooling=pooling,
        initialize=initialize,
        source=source,
        remat=remat,
    )
    folder = find(name)
    if initialize is None:
        check_weights(name, folder)
    layout = read_layout(folder)
    chosen = pooling is not None and not layout.pools()  # a pooling where there was none
    if not chosen:
        check_encodes(folder, layout)
    first = inside(folder, layout.first.path, folder / "modules.json")
    options = {"dtype": dtype, **{name: given[name] for name in ("n_layers", "initialize")}}
    if layout.static:
        transformer = load_static_embedding(folder, layout.first.path, **options)
    else:
        check_no_code(first)
        read = transformer_source(source, first)
        if remat is not None:
            if read is not load_family:
                raise EncoderError(f"{name}: remat={remat!r} is for the source jaxembed")
            options["remat"] = remat
        transformer = read(first, dropout=dropout, **options)
    modules, params = _chained(folder, layout, transformer, pooling)
    if layout.static:
        tokenizer = load_plain_tokenizer(
            first, vocabulary=transformer.vocabulary, max_length=given["max_seq_length"]
        )
    else:
        tokenizer = load_tokenizer(
            first,
            vocabulary=transformer.vocabulary,
            n_positions=transformer.n_positions,
            max_length=given["max_seq_length"],
            prompt_counts=all(m.include_prompt for _, m in modules if isinstance(m, Pooling)),
            may_pad_left=transformer.pads_left,
        )
    settings = Settings() if chosen else read_settings(folder)
    writes = SENTENCE if layout.static else TOKENS
    apply = chain(
        transformer.apply, modules, writes=writes, layers=transformer.all_layers, dropout=dropout
    )
    return Encoder(
        apply=apply,
        all_layers=chain(transformer.all_layers, modules, writes=writes, dropout=dropout),
        params=jax.device_put({"transformer": transformer.params, **params}),
        tokenizer=tokenizer,
        config=transformer.settings,
        modules=modules,
        tensors=transformer.tensors,
        prompts=settings.prompts,
        default_prompt_name=settings.default_prompt_name,
        similarity=settings.similarity,
        name=str(name),
        compiled=jax.jit(apply),
        truncate_dim=settings.truncate_dim,
        packs=transformer.packs,
        published_type=transformer.published_type,
    )


def transformer_folder(folder: Path) -> Path:
    """Returns where the transformer of a model folder lies: itself, or a folder in it."""
    return inside(folder, read_layout(folder).first.path, folder / "modules.json")


def transformer_source(source: str, folder: Path) -> Callable[..., Transformer]:
    """Returns the function that reads the transformer of a folder, `load_family` for our own."""
    if source not in SOURCES:
        raise EncoderError(f"source must be one of {', '.join(SOURCES)}; got {source!r}")
    model_type = read_json(configuration(folder), {"model_type?": (str, None)}).get("model_type")
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
    """Writes the folder whole or not at all: beside its place first, then moved there.

    Raises:
        EncoderError: the folder is no model's, or holds more than a model.
    """
    check_replaceable(folder)
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
        limits = {
            "max_seq_length": encoder.tokenizer.max_length,
            "do_lower_case": encoder.tokenizer.lower_case,
        }
        write_json(partial / "sentence_bert_config.json", limits)
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
    settings = Settings(
        encoder.prompts, encoder.default_prompt_name, encoder.similarity, encoder.truncate_dim
    )
    write_settings(partial, settings)
    (partial / "README.md").write_text(model_card(encoder, facts), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    return partial.rename(folder)


def _chained(
    folder: Path, layout: Layout, transformer: Transformer, pooling: str | None
) -> tuple[Modules, dict[str, Params]]:
    """Reads the modules behind the first one; if none are listed they are those of a default."""
    width = transformer.width
    if not layout.others and not layout.static:
        mode = pooling or ("lasttoken" if is_causal(folder) else "mean")
        check_mode(mode, folder)
        return (("1_Pooling", Pooling((mode,), width=width)),), {}
    widths = {SENTENCE: width} if layout.static else {TOKENS: width, ALL_LAYERS: width}
    entries = [(entry.path, entry.kind) for entry in layout.others or ()]
    modules, params = read_modules(folder, entries, widths)
    check_layers(folder, modules, transformer.settings)
    return (modules if pooling is None else pooled_by(pooling, modules, folder)), params
