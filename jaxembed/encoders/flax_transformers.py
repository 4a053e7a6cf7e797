"""Transformers' own Flax models as a source of encoders (transformers 4.57; version 5 has none)."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxembed.encoders.checkpoint import read_json
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.families.activations import ACTIVATIONS
from jaxembed.encoders.flax_keys import check_read, check_values
from jaxembed.encoders.lora import configuration
from jaxembed.encoders.parameters import (
    find_parameters,
    flatten,
    publish,
    published,
    read_checkpoint,
    unflatten,
)
from jaxembed.encoders.transformer import Transformer
from jaxembed.randomness import row_keys
from jaxembed.typing import Params, Tokens


def load_transformer(
    folder: Path,
    *,
    dtype: Any,
    dropout: bool = True,
    n_layers: int | None = None,
    initialize: int | None = None,
) -> Transformer:
    """Reads the Flax transformer of a folder; `dtype` is that of the computation.

    `n_layers` keeps its first layers only. Parameters are drawn with the seed `initialize`, if
    there is one, instead of read.

    Raises:
        EncoderError: no such Flax model, fewer layers, or a checkpoint that does not fit it.
    """
    settings = read_json(configuration(folder))
    if n_layers is not None:
        settings = _first_layers(folder, settings, n_layers)
    config = configure(folder, settings, dropout=dropout)
    model = _build(folder, settings, config, dtype)
    unused: dict[str, np.ndarray] = {}
    if initialize is None:
        params, unused = _read(folder, model)
    else:
        params = draw(model, initialize)

    def last(params: Params, tokens: Tokens, key: Array | None) -> Array:
        return _outputs(model, params, tokens, key).last_hidden_state

    def all_of_them(params: Params, tokens: Tokens, key: Array | None) -> Array:
        outputs = _outputs(model, params, tokens, key, output_hidden_states=True)
        # The last of the hidden states may lack the norm behind all layers.
        return jnp.stack([*outputs.hidden_states[:-1], outputs.last_hidden_state], axis=1)

    def tensors(params: Params) -> dict[str, np.ndarray]:
        return publish(params) | unused

    return Transformer(
        by_row(last, dropout),
        by_row(all_of_them, dropout),
        params,
        config.hidden_size,
        getattr(config, "vocab_size", None),
        _positions(config),
        settings,
        tensors,
    )


def _positions(config: Any) -> int | None:
    """Returns how many tokens a text may have, None for no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in ("roberta", "xlm-roberta", "roberta-prelayernorm"):
        return positions - config.pad_token_id - 1  # positions are counted from behind the pad id
    return positions


def configure(name: Path | str, settings: Mapping[str, Any], *, dropout: bool) -> Any:
    """Builds transformers' configuration of the `settings` in a model's config.json.

    Raises:
        EncoderError: a transformers without Flax models, or a model type that it does not know.
    """
    try:
        import transformers
        import transformers.models.auto.modeling_flax_auto
    except ImportError:
        raise EncoderError(
            f"{name}: this transformers has no Flax models;"
            " install the extra flax-transformers (transformers 4.57)"
        ) from None
    model_type = settings.get("model_type", "")
    if model_type not in transformers.CONFIG_MAPPING:
        raise EncoderError(f"{name}: transformers does not know the model type {model_type!r}")
    config_class = transformers.CONFIG_MAPPING[model_type]
    check_values(name, settings, config_class)
    try:
        config = config_class.from_dict(dict(settings))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise EncoderError(f"{name}: transformers cannot read config.json ({error})") from None
    if not dropout:
        for entry, value in vars(config).items():
            if entry.endswith(("dropout", "dropout_prob")) and isinstance(value, float):
                setattr(config, entry, 0.0)
    return config


def instantiate(model_class: Any, config: Any, dtype: Any, **options: Any) -> Any:
    """Builds a Flax model without weights, whose activation may be any of ours.

    Raises:
        EncoderError: numbers in the configuration that do not fit together.
    """
    import transformers
    from transformers.modeling_flax_utils import ACT2FN

    for name, function in ACTIVATIONS.items():
        ACT2FN.setdefault(name, function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        previous = transformers.logging.get_verbosity()
        transformers.logging.set_verbosity_error()  # says that Flax ends with version 5; so do we
        try:
            return model_class(config, dtype=dtype, _do_init=False, **options)
        except (TypeError, ValueError, ArithmeticError) as error:
            reason = str(error).strip().split("\n")[0]
            raise EncoderError(f"{config.model_type} in config.json: {reason}") from None
        finally:
            transformers.logging.set_verbosity(previous)


def draw(model: Any, seed: int) -> Params:
    """Draws all parameters from the model's own initializers."""
    return model.init_weights(jax.random.key(seed), model.input_shape)


def base_name(model: Any) -> str:
    """Returns the name of the transformer within a model with a head, as published."""
    name = model.base_model_prefix
    return "roberta" if name == "xlm-roberta" else name


def by_row(
    run: Callable[[Params, Any, Array | None], Array], dropout: bool
) -> Callable[..., Array]:
    """Returns `run` of parameters and rows as `(params, rows, *, key=None)`, with a key per row.

    Without dropout there is nothing to draw, and a key is ignored.
    """

    def apply(params: Params, rows: Any, *, key: Array | None = None) -> Array:
        if key is None or not dropout:
            return run(params, rows, None)
        one_row = lambda row, key: run(params, jax.tree.map(lambda x: x[None], row), key)[0]  # noqa: E731
        return jax.vmap(one_row)(rows, row_keys(key, jax.tree.leaves(rows)[0].shape[0]))

    return apply


def token_types(model: Any, input_ids: Array) -> dict[str, Array]:
    """Returns the argument that makes all tokens those of a first text: ELECTRA's default is 1."""
    takes_types = "token_type_ids" in inspect.signature(type(model).__call__).parameters
    return {"token_type_ids": jnp.zeros_like(input_ids)} if takes_types else {}


def _outputs(model: Any, params: Params, tokens: Tokens, key: Array | None, **options: Any) -> Any:
    return model(
        tokens["input_ids"],
        attention_mask=tokens["attention_mask"],
        params=params,
        dropout_rng=key,
        train=key is not None,
        **token_types(model, tokens["input_ids"]),
        **options,
    )


def _first_layers(folder: Path, settings: Mapping[str, Any], n_layers: int) -> dict[str, Any]:
    config = configure(folder, settings, dropout=True)
    if not 1 <= n_layers <= config.num_hidden_layers:
        raise EncoderError(
            f"{folder}: n_layers must lie between 1 and the model's {config.num_hidden_layers};"
            f" got {n_layers}"
        )
    name = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    return {**settings, name: n_layers}


def _build(folder: Path, settings: Mapping[str, Any], config: Any, dtype: Any) -> Any:
    from transformers.models.auto.modeling_flax_auto import FLAX_MODEL_MAPPING

    model_class: Any = FLAX_MODEL_MAPPING.get(type(config), None)
    call = inspect.signature(model_class.__call__).parameters if model_class else {}
    if (
        model_class is None
        or config.is_encoder_decoder
        or model_class.main_input_name != "input_ids"
        or "decoder_input_ids" in call
    ):
        raise EncoderError(
            f"{folder}: the architecture {config.model_type!r} has no Flax text encoder; use one of"
            " the type bert, roberta, xlm-roberta, distilbert, electra or albert"
        )
    check_read(folder, settings, config, model_class)
    options: dict[str, Any] = {}
    if "add_pooling_layer" in model_class.module_class.__dataclass_fields__:
        options["add_pooling_layer"] = False  # it would be weights without a gradient
    return instantiate(model_class, config, dtype, **options)


def _read(folder: Path, model: Any) -> tuple[Params, dict[str, np.ndarray]]:
    """Reads the parameters, and the tensors that the model does not use but may be written back."""
    checkpoint = read_checkpoint(folder)
    prefix = base_name(model) + "."
    if any(name.startswith(prefix) for name in checkpoint):  # saved with a task's head
        checkpoint = {
            name.removeprefix(prefix): tensor
            for name, tensor in checkpoint.items()
            if name.startswith(prefix)
        }
    shapes = flatten(model.params_shape_tree)
    params = find_parameters(folder, checkpoint, shapes)
    if missing := [published(path) for path in shapes if path not in params]:
        raise EncoderError(
            f"{folder}: model.safetensors lacks {len(missing)} of {len(shapes)} tensors that"
            f" {type(model).__name__} needs, such as {missing[0]}"
        )
    used, n_layers = set(map(published, shapes)), model.config.num_hidden_layers

    def of_a_dropped_layer(name: str) -> bool:
        return any(part.isdigit() and int(part) >= n_layers for part in name.split("."))

    unused = {
        name: tensor
        for name, tensor in checkpoint.items()
        if name not in used and not of_a_dropped_layer(name)
    }
    return unflatten(params), unused
