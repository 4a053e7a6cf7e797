"""The encoder: texts to embeddings, for users by `encode`, for training by `apply` and `params`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Sharding

from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.inference import (
    build_embed,
    progress,
    quantize_embeddings,
)
from jaxembed.encoders.modules import ALL_LAYERS, SENTENCE, TOKENS, Module
from jaxembed.encoders.settings import ROLES
from jaxembed.encoders.texts import check_kind, check_texts
from jaxembed.encoders.tokenizer import TextTokenizer
from jaxembed.randomness import row_keys
from jaxembed.typing import EncodeFn, Params

FIRST_MODULE = 2**20  # folded into the keys of modules; a transformer folds its layers' numbers
MODEL_TOKENS = ("input_ids", "attention_mask", "segment_ids", "positions")


@dataclass(frozen=True)
class Encoder:
    """A text encoder: a transformer and the modules behind it, with its tokenizer and prompts.

    `apply(params, tokens, *, key=None) -> [n d]` is pure; with a key it draws dropout, row by row.
    `all_layers`, with the same arguments, gives the embeddings `[n l d]` after the embedding layer
    and after each layer of the transformer, all through the modules; the last are those of `apply`.
    `dataclasses.replace(encoder, params=…)` is the encoder with other parameters; nothing is
    recompiled.
    """

    apply: EncodeFn
    all_layers: EncodeFn
    params: Params
    tokenizer: TextTokenizer
    config: Mapping[str, Any]  # config.json as published, but for the number of layers
    modules: tuple[tuple[str, Module], ...]  # (folder name, module)
    tensors: Callable[[Params], dict[str, np.ndarray]]  # of the transformer, by published name
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    similarity: str
    name: str
    compiled: Callable[..., Array]  # apply for `encode`, jitted
    truncate_dim: int | None = None  # features that `encode` keeps; all if None
    packs: bool = False  # whether a row of tokens may hold several texts, as `pack` makes them
    published_type: str = "sentence_transformers.models.Transformer"  # of the first module

    @cached_property
    def width(self) -> int:
        """The number of features that `apply` computes."""
        return jax.eval_shape(self.apply, self.params, self.tokenizer([""])).shape[-1]

    @property
    def dimension(self) -> int:
        """The number of features of an embedding of `encode`: `width`, or fewer if truncated."""
        return self.width if self.truncate_dim is None else min(self.width, self.truncate_dim)

    def prompt(self, name: str | None) -> str:
        """Returns the prompt of that name; the model's default one, or none, without a name."""
        name = name or self.default_prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            raise EncoderError(f"{self.name} has no prompt {name!r}; it has {sorted(self.prompts)}")
        return self.prompts[name]

    def prompt_for(self, role: str) -> str:
        """Returns the prompt of the texts of a role, "query" or "document"; "" if it has none.

        That is the one of this name, as in encode_query and encode_document of
        sentence-transformers 6.2: every model there has both prompts, empty where its folder names
        none, so that neither the default prompt nor one named "passage" or "corpus" stands in.

        Raises:
            EncoderError: another role.
        """
        if role not in ROLES:
            raise EncoderError(f"role must be one of {', '.join(ROLES)}; got {role!r}")
        return self.prompts.get(role, "")

    def encode(
        self,
        texts: Iterable[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 64,
        truncate_dim: int | None = None,
        normalize: bool = False,
        precision: str = "float32",
        ranges: np.ndarray | None = None,
        show_progress: bool = False,
        devices: Sequence[Any] | None = None,
        packing: bool = False,
    ) -> np.ndarray:
        """Computes the embeddings of texts, `[n d]` in the order of the texts.

        Texts go through the model in batches of like length, padded to few lengths. For more texts
        than memory holds there is `jaxembed.encoders.inference.encode_stream`.

        Args:
            prompt_name: one of the model's `prompts`; `prompt` gives the prompt itself.
            batch_size: texts that go through the model at once, on all devices together.
            truncate_dim: keeps the first features only, before `normalize`; as many as the
                model's own `truncate_dim` says if None.
            normalize: to unit length.
            precision: "float32"; "int8" or "uint8", a byte per feature; "binary" or "ubinary", a
                bit per feature, `[n d/8]`. `quantize_embeddings` has the formulas.
            ranges: `[2 d]`, what the bytes span; the least and greatest values of these embeddings
                if None, which suits neither few texts nor those to compare with others.
            devices: what a batch is split over; all of this process if None.
            packing: puts several short texts into one row of tokens, so that one shape does for
                all; of our own transformers.

        Raises:
            EncoderError: texts that are no sequence of strings, an unknown prompt name or
                precision, or a number out of range.
            TextError: an EncoderError of one text, by its row: no string, half of a surrogate pair,
                or a token that the model does not embed.

        >>> import jaxembed
        >>> encoder = jaxembed.load("all-MiniLM-L6-v2")
        >>> x = encoder.encode(["A cat sits.", "A feline is seated.", "Stocks fell."])
        >>> (x @ x[0]).round(1)
        array([1. , 0.6, 0.1], dtype=float32)
        >>> encoder.encode("A cat sits.", precision="ubinary").shape  # 384 bits
        (1, 48)
        """
        check_kind(texts)
        texts = [texts] if isinstance(texts, str) else list(texts)
        check_texts(texts)
        embed = build_embed(
            self,
            prompt_name=prompt_name,
            prompt=prompt,
            batch_size=batch_size,
            truncate_dim=truncate_dim,
            normalize=normalize,
            precision=precision,
            ranges=ranges,
            devices=devices,
            packing=packing,
        )
        with progress(len(texts), show_progress) as advance:
            embeddings = embed(texts, advance)
        return quantize_embeddings(embeddings, precision, ranges)

    def params_on(self, sharding: Sharding) -> Params:
        """Returns the parameters placed so; the last placement is kept for the next call."""
        if sharding not in self._placed:
            self._placed.clear()
            self._placed[sharding] = jax.device_put(self.params, sharding)
        return self._placed[sharding]

    @cached_property
    def _placed(self) -> dict[Sharding, Params]:
        return {}

    def save(self, folder: str | Path, *, facts: Mapping[str, Any] | None = None) -> Path:
        """Writes a sentence-transformers folder; `facts` of the training go into its model card."""
        from jaxembed.encoders.folder import save_encoder

        return save_encoder(self, Path(folder), facts or {})


def chain(
    transformer: EncodeFn,
    modules: Sequence[tuple[str, Module]],
    *,
    writes: str = TOKENS,
    layers: EncodeFn | None = None,
    dropout: bool = True,
) -> Callable[..., Array]:
    """Builds the encode function of a transformer, `[n t d]` or `[n l t d]`, and its modules.

    Of tokens whose rows hold `k` texts each, it gives `[n k d]` or `[n k l d]`. The transformer
    `writes` the features of that name; `layers` computes those of all its layers, for a module that
    reads them. Without `dropout` a key draws none in the modules.
    """
    of_layers = any(module.reads == ALL_LAYERS for _, module in modules)

    def apply(params: Params, tokens: Any, *, key: Array | None = None) -> Array:
        def through_modules(hidden: Array, all_hidden: Array | None = None) -> Array:
            features = {writes: hidden, ALL_LAYERS: all_hidden}
            for index, (name, module) in enumerate(modules):
                features[module.writes] = module(
                    params.get(name, {}), features[module.reads], tokens, _keys(keys, index)
                )
            embeddings = features[SENTENCE]
            return embeddings.astype(jnp.promote_types(embeddings.dtype, jnp.float32))

        keys = None
        if key is not None and dropout:
            keys = row_keys(key, tokens["input_ids"].shape[0])
        model_tokens = {name: tokens[name] for name in MODEL_TOKENS if name in tokens}
        if of_layers:
            if layers is None:
                raise EncoderError(
                    "a model with WeightedLayerPooling has one embedding, none of each layer"
                )
            all_hidden = layers(params["transformer"], model_tokens, key=key)
            return through_modules(all_hidden[:, -1], all_hidden)
        hidden = transformer(params["transformer"], model_tokens, key=key)
        if hidden.ndim == 4:
            return jax.vmap(through_modules, 1, -2)(hidden)
        return through_modules(hidden)

    return apply


def _keys(keys: Array | None, index: int) -> Array | None:
    """Returns the keys of a module, one per row, apart from those of the transformer's layers."""
    if keys is None:
        return None
    return jax.vmap(lambda key: jax.random.fold_in(key, FIRST_MODULE + index))(keys)
