"""Transformers of the families here: from a model folder to functions and parameters, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array

from jaxembed.encoders.checkpoint import read_json
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.families.architecture import Architecture, Family
from jaxembed.encoders.families.keys import check_keys
from jaxembed.encoders.families.known import FAMILIES
from jaxembed.encoders.families.names import Names
from jaxembed.encoders.families.transformer import TextTransformer, parameters_of
from jaxembed.encoders.lora import configuration
from jaxembed.encoders.parameters import flatten, read_checkpoint
from jaxembed.encoders.transformer import Transformer
from jaxembed.typing import Params, Tokens


def _is_dear(primitive: Any, *values: Any, **options: Any) -> bool:
    """Says what to keep for the gradient: products with parameters, and flash attention."""
    of_parameters = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    flash = primitive.name.startswith("dot_product_attention")
    return flash or of_parameters(primitive, *values, **options)


REMAT: dict[str, Callable[[Callable], Callable]] = {
    "none": lambda layer: layer,
    "full": partial(jax.checkpoint, prevent_cse=False),
    "dots": partial(jax.checkpoint, prevent_cse=False, policy=_is_dear),
}


def load_family(
    folder: Path,
    *,
    dtype: Any,
    dropout: bool = True,
    n_layers: int | None = None,
    initialize: int | None = None,
    remat: str = "dots",
) -> Transformer:
    """Reads a transformer of a family; the arguments are those of `load`.

    Raises:
        EncoderError: a configuration that lacks something, or a checkpoint that does not fit it.
    """
    if remat not in REMAT:
        raise EncoderError(f"remat must be one of {', '.join(REMAT)}; got {remat!r}")
    file = configuration(folder)
    settings = read_json(file)
    family = FAMILIES[settings["model_type"]]
    a = _architecture(family, file, settings)
    if n_layers is not None:
        if not 1 <= n_layers <= a.n_layers:
            raise EncoderError(
                f"{folder}: n_layers must lie between 1 and the model's {a.n_layers};"
                f" got {n_layers}"
            )
        if a.n_parameter_layers > 1 and a.uses:
            raise EncoderError(f"{folder}: n_layers is not for layers in several groups")
        name = "n_layers" if "n_layers" in settings else "num_hidden_layers"
        a, settings = a.with_layers(n_layers), {**settings, name: n_layers}
        if settings.get("layer_types"):
            settings["layer_types"] = settings["layer_types"][:n_layers]
    if not dropout:
        a = replace(a, embedding_dropout=0.0, attention_dropout=0.0, hidden_dropout=0.0)
    build = lambda seed: TextTransformer(a, dtype, nnx.Rngs(seed))  # noqa: E731
    graph, state = nnx.split(nnx.eval_shape(partial(build, 0)))
    names = Names(family, a)
    unused: dict[str, np.ndarray] = {}
    if initialize is None:
        shapes = flatten(nnx.to_pure_dict(state))
        params, unused = names.fill(folder, read_checkpoint(folder), shapes, cut=n_layers)
    else:
        params = jax.jit(lambda: parameters_of(build(initialize)))()

    def apply(
        params: Params, tokens: Tokens, *, key: Array | None = None, all_layers: bool = False
    ) -> Array:
        filled = jax.tree.map(lambda leaf: leaf, state)
        nnx.replace_by_pure_dict(filled, params)
        return nnx.merge(graph, filled)(
            tokens,
            key=key if dropout else None,
            all_layers=all_layers,
            remat=REMAT[remat],
        )

    return Transformer(
        apply,
        partial(apply, all_layers=True),
        params,
        a.width,
        a.vocab_size,
        a.n_positions - (a.position_offset or 0),
        settings,
        lambda params: names.publish(params) | unused,
        packs=True,
        pads_left=a.positions == "rotary" or a.position_offset is not None,
    )


def _architecture(family: Family, file: Path, settings: Any) -> Architecture:
    """Checks the keys of a configuration, and that its numbers fit together."""
    check_keys(file, settings, family.keys)
    try:
        a = family.architecture(settings)
    except EncoderError as error:
        raise EncoderError(f"{file}: {error}") from None
    faults = {
        f"a width of {a.width} cannot be split into {a.n_heads} heads": (
            a.head_width is None and a.width % a.n_heads
        ),
        f"{a.n_heads} heads cannot share {a.key_heads} of keys": a.n_heads % a.key_heads,
        f"rotary positions need heads of even width; got {a.head}": a.ropes and a.head % 2,
        f"layer_types must have {a.n_layers} entries; got {len(a.windows)}": (
            a.windows and len(a.windows) != a.n_layers
        ),
        f"max_position_embeddings {a.n_positions} leaves no position for a token": (
            a.n_positions <= (a.position_offset or 0)
        ),
    }
    for fault, found in faults.items():
        if found:
            raise EncoderError(f"{file}: {fault}")
    return a
