"""The decoder of the denoising auto-encoder: from the embedding of a text to its tokens.

A causal Flax model of transformers whose cross-attention sees one vector per text.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from jaxembed.encoders.checkpoint import read_json
from jaxembed.encoders.encoder import Encoder
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.finding import find
from jaxembed.encoders.flax_transformers import (
    base_name,
    by_row,
    configure,
    draw,
    instantiate,
    load_transformer,
    token_types,
)
from jaxembed.encoders.folder import load, transformer_folder, transformer_source
from jaxembed.encoders.layout import check_no_code
from jaxembed.encoders.lora import configuration
from jaxembed.encoders.parameters import (
    Path_,
    find_parameters,
    flatten,
    read_checkpoint,
    unflatten,
)
from jaxembed.encoders.tokenizer import TextTokenizer, load_tokenizer
from jaxembed.typing import Params

Run = Callable[..., Array]  # (params, (input_ids, vectors), *, key=None) -> [n t v]


@dataclass(frozen=True)
class Decoder:
    """A decoder with its tokenizer.

    `apply(merged(params, encoder.params), input_ids [n t], vectors [n d], *, key=None)` computes
    the logits of each next token, `[n t v]` float32. A token sees those before it, padding
    included, and the vector of its row. With a key it draws dropout, row by row.
    """

    apply: Callable[..., Array]
    params: Params  # its own
    merged: Callable[[Params, Params], Params]  # own, those of an Encoder -> those of apply
    tokenizer: TextTokenizer
    pad_id: int
    dimension: int  # d of the vectors
    name: str


def load_decoder(
    name: str | Path,
    *,
    dtype: Any = jnp.float32,
    dropout: bool = True,
    seed: int = 0,
    max_seq_length: int | None = None,
    source: str = "auto",
) -> Decoder:
    """Loads a decoder with parameters of its own from a folder, an installed package or the hub.

    The cross-attention, and the language-model head where the model has none, are drawn with the
    `seed`. The other arguments are those of `load`.

    Raises:
        EncoderError: an unknown name, a broken folder, or a model that has no Flax decoder.
    """
    folder = transformer_folder(find(name))
    check_no_code(folder)
    read = transformer_source(source, folder)
    if read is not load_transformer:
        encoder = load(folder, dtype=dtype, max_seq_length=max_seq_length, source="jaxembed")
        tied = replace(
            tied_decoder(encoder, dtype=dtype, dropout=dropout, seed=seed), name=str(name)
        )
        own = {**tied.params, "transformer": encoder.params["transformer"]}
        whole = lambda own, encoder_params: own  # noqa: E731
        return replace(tied, params=own, merged=whole, name=str(name))
    model = _build(name, read_json(configuration(folder)), dtype, dropout)
    transformer = load_transformer(folder, dtype=dtype, dropout=dropout)
    drawn = _own(model, transformer.params, seed)
    own = {**drawn, **find_parameters(folder, read_checkpoint(folder), drawn)}
    tokenizer = load_tokenizer(
        folder,
        vocabulary=transformer.vocabulary,
        n_positions=transformer.n_positions,
        max_length=max_seq_length,
    )
    params = unflatten({**own, **_based(model, transformer.params)})
    merged = lambda own, encoder_params: own  # noqa: E731
    run, width = _run(model), model.config.hidden_size
    return _decoder(run, width, params, merged, tokenizer, str(name), dropout)


def tied_decoder(
    encoder: Encoder, *, dtype: Any = jnp.float32, dropout: bool = True, seed: int = 0
) -> Decoder:
    """Builds the decoder whose transformer is that of the encoder: the same parameters, used twice.

    Its own ones are the cross-attention and the language-model head, drawn with the `seed`.

    Raises:
        EncoderError: an encoder of a type that has no Flax decoder.
    """
    if "layers" in encoder.params["transformer"]:  # one of ours, its layers stacked
        return _of_family(encoder, dtype, dropout, seed)
    model = _build(encoder.name, encoder.config, dtype, dropout)

    def merged(own: Params, encoder_params: Params) -> Params:
        return unflatten({**flatten(own), **_based(model, encoder_params["transformer"])})

    own = unflatten(_own(model, encoder.params["transformer"], seed))
    run, width = _run(model), model.config.hidden_size
    return _decoder(run, width, own, merged, encoder.tokenizer, encoder.name, dropout)


def _of_family(encoder: Encoder, dtype: Any, dropout: bool, seed: int) -> Decoder:
    from jaxembed.encoders.families import FAMILIES
    from jaxembed.encoders.families.decoding import build_decoder

    family = FAMILIES[encoder.config["model_type"]]
    a = replace(family.architecture(encoder.config), causal=True)
    run, own = build_decoder(a, dtype, seed)

    def merged(own: Params, encoder_params: Params) -> Params:
        return {**own, "transformer": encoder_params["transformer"]}

    return _decoder(run, a.width, own, merged, encoder.tokenizer, encoder.name, dropout)


def _build(name: Path | str, settings: Mapping[str, Any], dtype: Any, dropout: bool) -> Any:
    config = configure(name, settings, dropout=dropout)
    config.is_decoder = config.add_cross_attention = True
    from transformers.models.auto.modeling_flax_auto import FLAX_MODEL_FOR_CAUSAL_LM_MAPPING

    model_class: Any = FLAX_MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    call = inspect.signature(model_class.__call__).parameters if model_class else ()
    if config.is_encoder_decoder or "encoder_hidden_states" not in call:
        raise EncoderError(
            f"{name}: the architecture {config.model_type!r} has no Flax decoder with"
            " cross-attention; use one of the type bert, roberta, xlm-roberta or electra"
        )
    return instantiate(model_class, config, dtype)


def _based(model: Any, transformer_params: Params) -> dict[Path_, Any]:
    """Returns the leaves of a transformer by their paths in the model around it."""
    return {(base_name(model), *path): leaf for path, leaf in flatten(transformer_params).items()}


def _own(model: Any, transformer_params: Params, seed: int) -> dict[Path_, Array]:
    """Draws the parameters that the transformer lacks."""
    shared = _based(model, transformer_params)
    return {path: leaf for path, leaf in flatten(draw(model, seed)).items() if path not in shared}


def _run(model: Any) -> Run:
    """Returns the function of a Flax model of transformers."""

    def run(params: Params, rows: tuple[Array, Array], key: Array | None) -> Array:
        input_ids, vectors = rows
        outputs = model(
            input_ids,
            encoder_hidden_states=vectors[:, None],
            encoder_attention_mask=jnp.ones((vectors.shape[0], 1), jnp.int32),
            params=params,
            dropout_rng=key,
            train=key is not None,
            **token_types(model, input_ids),
        )
        return outputs.logits.astype(jnp.float32)

    return by_row(run, dropout=True)


def _decoder(
    run: Run,
    dimension: int,
    params: Params,
    merged: Callable[[Params, Params], Params],
    tokenizer: TextTokenizer,
    name: str,
    dropout: bool,
) -> Decoder:
    pad_id = tokenizer.tokenizer.pad_token_id
    if pad_id is None:
        raise EncoderError(f"{name}: a decoder needs a tokenizer with a pad token; it has none")

    def apply(
        params: Params,
        input_ids: Int[Array, "n t"],
        vectors: Float[Array, "n d"],
        *,
        key: Array | None = None,
    ) -> Float[Array, "n t v"]:
        if vectors.shape[-1] != dimension:
            raise EncoderError(
                f"{name}: the decoder needs vectors of {dimension} features;"
                f" got {vectors.shape[-1]}"
            )
        return run(params, (input_ids, vectors), key=key if dropout else None)

    return Decoder(apply, jax.device_put(params), merged, tokenizer, pad_id, dimension, name)
