"""StaticEmbedding: one vector per token of the vocabulary and nothing else, as Model2Vec makes it.

The embedding of a text is the mean of the vectors of its tokens; that of an empty text is zero.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxembed.encoders.checkpoint import read_json, read_tensors, weight
from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.pooling import pool
from jaxembed.encoders.transformer import Transformer
from jaxembed.typing import Params, Tokens

NAMES = ("embedding.weight", "embeddings")  # of sentence-transformers and of Model2Vec


def load_static_embedding(
    folder: Path,
    inside: str = "",
    *,
    dtype: Any,
    n_layers: int | None = None,
    initialize: int | None = None,
) -> Transformer:
    """Reads the table of a model folder, which lies `inside` it, in the place of a transformer.

    It gives one vector per text, not per token, and so needs no pooling behind it; `all_layers`
    has one layer. The table is drawn from the standard normal distribution with the seed
    `initialize`, if there is one.

    Raises:
        EncoderError: a number of layers, or tensors that are no table.
    """
    if n_layers is not None:
        raise EncoderError(f"{folder}: n_layers={n_layers}, but a StaticEmbedding has no layers")
    file = folder / "config.json"
    settings = read_json(file, {}) if file.exists() else {}
    settings.pop("vocabulary_quantization", None)  # the table has a row for every token
    name, table = _read_table(folder / inside)
    if initialize is not None:
        table = np.asarray(jax.random.normal(jax.random.key(initialize), table.shape))

    def apply(params: Params, tokens: Tokens, *, key: Array | None = None) -> Array:
        vectors = params["embedding"][tokens["input_ids"]].astype(dtype)
        return pool(vectors, tokens["attention_mask"])

    def all_layers(params: Params, tokens: Tokens, *, key: Array | None = None) -> Array:
        return apply(params, tokens)[:, None]  # [n 1 d]

    return Transformer(
        apply,
        all_layers,
        {"embedding": table},
        width=table.shape[1],
        vocabulary=table.shape[0],
        n_positions=None,
        settings=settings,
        tensors=lambda params: {name: np.asarray(params["embedding"])},
        published_type="sentence_transformers.models.StaticEmbedding",
    )


def _read_table(folder: Path) -> tuple[str, np.ndarray]:
    """Returns the published name of the table and the table `[v d]`, float32.

    Model2Vec may keep fewer rows than there are tokens, and weights apart:

        table[token] = weights[token] * embeddings[mapping[token]]

    It also writes embeddings of int8, which are as good as the floats that they are multiples of:
    it drops the scale itself, as only directions count.
    """
    tensors = read_tensors(folder)
    name = next((name for name in NAMES if name in tensors), None)
    if name is None:
        raise EncoderError(f"{folder}: model.safetensors must hold {' or '.join(NAMES)}")
    table = tensors[name]
    if name == "embeddings" and table.dtype == np.int8:
        table = table.astype(np.float32)
    if table.ndim != 2 or not table.size or not jnp.issubdtype(table.dtype, jnp.floating):
        raise EncoderError(
            f"{folder}: {name} must hold floats [tokens features];"
            f" got {table.dtype} {list(table.shape)}"
        )
    table = weight(folder, name, table)
    if "mapping" in tensors:
        mapping = tensors["mapping"]
        whole = mapping.ndim == 1 and mapping.size and np.issubdtype(mapping.dtype, np.integer)
        if not whole or mapping.min() < 0 or mapping.max() >= len(table):
            raise EncoderError(
                f"{folder}: mapping must name rows of {name}, which has {len(table)}"
            )
        table = table[mapping]
    if "weights" in tensors:
        weights = weight(folder, "weights", tensors["weights"])
        if weights.shape != (len(table),):
            raise EncoderError(
                f"{folder}: weights must be one per token, [{len(table)}];"
                f" got {list(weights.shape)}"
            )
        table = (table * weights[:, None]).astype(np.float32)
    return name, table
