"""Softmax regression on pairs: its loss over two encoded texts, and its classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxembed.losses import pair_features, softmax_loss
from jaxembed.losses.reduction import mean
from jaxembed.typing import Embeddings, Labels, Params, Where


def softmax_of_pairs(
    left: Embeddings,
    right: Embeddings,
    *,
    labels: Labels,
    own: Params,
    concatenation_sent_rep: bool = True,
    concatenation_sent_difference: bool = True,
    concatenation_sent_multiplication: bool = False,
    where: Where | None = None,
) -> Array:
    """Computes `softmax_loss` of `pair_features(left, right) @ kernel + bias`.

    `own` are `kernel [f c]` and `bias [c]`.
    """
    features = pair_features(
        left,
        right,
        concatenation_sent_rep=concatenation_sent_rep,
        concatenation_sent_difference=concatenation_sent_difference,
        concatenation_sent_multiplication=concatenation_sent_multiplication,
    )
    if features.shape[1] != own["kernel"].shape[0]:
        raise ValueError(
            f"the classifier was made for {own['kernel'].shape[0]} features of a pair; got"
            f" {features.shape[1]}"
        )
    return softmax_loss(features @ own["kernel"] + own["bias"], labels=labels, where=where)


def init_classifier(
    key: Array,
    *,
    width: int,
    num_labels: int | None = None,
    sentence_embedding_dimension: int | None = None,
    concatenation_sent_rep: bool = True,
    concatenation_sent_difference: bool = True,
    concatenation_sent_multiplication: bool = False,
) -> Params:
    """Draws `kernel [f c]` and `bias [c]` uniformly from `±1 / √f`.

    Raises:
        ValueError: no number of labels, or one below 2; another width than the encoder's.
    """
    if num_labels is None or num_labels < 2:
        raise ValueError(f"softmax needs num_labels, 2 or more; got {num_labels}")
    if sentence_embedding_dimension not in (None, width):
        raise ValueError(
            f"sentence_embedding_dimension is {sentence_embedding_dimension}, but the encoder's"
            f" embeddings have {width} features; leave it away"
        )
    blocks = 2 * concatenation_sent_rep + concatenation_sent_difference
    f = width * (blocks + concatenation_sent_multiplication)
    if f == 0:
        raise ValueError("softmax needs one of the three concatenations; got none")
    bound = f**-0.5
    of_kernel, of_bias = jax.random.split(key)
    return {
        "kernel": jax.random.uniform(of_kernel, (f, num_labels), minval=-bound, maxval=bound),
        "bias": jax.random.uniform(of_bias, (num_labels,), minval=-bound, maxval=bound),
    }


def accuracy(columns: list[Array], keywords: Mapping[str, Any]) -> dict[str, Array]:
    """Computes the share of pairs to which the classifier gives their label."""
    concatenations = {name: keywords[name] for name in keywords if name.startswith("concatenation")}
    features = pair_features(columns[0], columns[1], **concatenations)
    own = keywords["own"]
    predicted = jnp.argmax(features @ own["kernel"] + own["bias"], axis=1)
    found = (predicted == keywords["labels"]).astype(jnp.float32)
    return {"accuracy": mean(found, keywords.get("where"))}
