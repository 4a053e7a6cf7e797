"""The encoder: texts to embeddings, for users by `encode`, for training by `apply` and `params`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from rich.progress import track

from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.modules import Module
from jaxembed.encoders.tokenizer import TextTokenizer
from jaxembed.typing import EncodeFn, Params


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
    compiled: Callable[..., Array]  # apply, jitted

    @cached_property
    def dimension(self) -> int:
        """The number of features of an embedding."""
        return jax.eval_shape(self.apply, self.params, self.tokenizer([""])).shape[-1]

    def prompt(self, name: str | None) -> str:
        """Returns the prompt of that name; the model's default one, or none, without a name."""
        name = name or self.default_prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            raise EncoderError(f"{self.name} has no prompt {name!r}; it has {sorted(self.prompts)}")
        return self.prompts[name]

    def encode(
        self,
        texts: Sequence[str] | str,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 64,
        truncate_dim: int | None = None,
        normalize: bool = False,
        show_progress: bool = False,
    ) -> np.ndarray:
        """Computes the embeddings of texts, float32 `[n d]` in the order of the texts.

        Texts go through the model sorted by length, `batch_size` at once, padded to few lengths.

        Args:
            prompt_name: one of the model's `prompts`; `prompt` gives the prompt itself.
            truncate_dim: keeps the first features only, before `normalize`.
            normalize: to unit length.

        Raises:
            EncoderError: an entry that is no string, or an unknown prompt name.

        >>> import jaxembed
        >>> encoder = jaxembed.load("all-MiniLM-L6-v2")
        >>> x = encoder.encode(["A cat sits.", "A feline is seated.", "Stocks fell."])
        >>> (x @ x[0]).round(1)
        array([1. , 0.6, 0.1], dtype=float32)
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise EncoderError(
                    f"text {row} must be a string; got {type(text).__name__} {text!r}"
                )
        prompt = self.prompt(prompt_name) if prompt is None else prompt
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        embeddings = np.empty((len(texts), truncate_dim or self.dimension), np.float32)
        starts = range(0, len(texts), batch_size)
        running: list[tuple[list[int], Array]] = []  # dispatched, not yet read
        for start in track(starts, "encoding", disable=not show_progress, transient=True):
            rows = order[start : start + batch_size]
            padded = [texts[row] for row in rows] + [""] * (batch_size - len(rows))
            running.append((rows, self.compiled(self.params, self.tokenizer(padded, prompt))))
            if len(running) > 1:
                _read(running.pop(0), embeddings)
        for batch in running:
            _read(batch, embeddings)
        if normalize:
            lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
            embeddings /= np.maximum(lengths, 1e-12)
        return embeddings

    def save(self, folder: str | Path, *, facts: Mapping[str, Any] | None = None) -> Path:
        """Writes a sentence-transformers folder; `facts` of the training go into its model card."""
        from jaxembed.encoders.folder import save_encoder

        return save_encoder(self, Path(folder), facts or {})


def _read(batch: tuple[list[int], Array], embeddings: np.ndarray) -> None:
    rows, values = batch
    embeddings[rows] = np.asarray(values[: len(rows), : embeddings.shape[1]], np.float32)


def chain(transformer: EncodeFn, modules: Sequence[tuple[str, Module]]) -> Callable[..., Array]:
    """Builds the encode function of a transformer, `[n t d]` or `[n l t d]`, and its modules."""

    def apply(params: Params, tokens: Any, *, key: Array | None = None) -> Array:
        def through_modules(features: Array) -> Array:
            for name, module in modules:
                features = module(params.get(name, {}), features, tokens)
            return features.astype(jnp.promote_types(features.dtype, jnp.float32))

        model_tokens = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        hidden = transformer(params["transformer"], model_tokens, key=key)
        if hidden.ndim == 4:
            return jax.vmap(through_modules, 1, 1)(hidden)
        return through_modules(hidden)

    return apply
