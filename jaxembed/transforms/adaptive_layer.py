"""A loss at several layers of the encoder, so that its first layers can be used alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxembed.calls import checks_call
from jaxembed.mesh_axes import name_of_axis
from jaxembed.similarity import as_float32
from jaxembed.transforms.columns import (
    Columns,
    bind,
    draw,
    name_of,
    takes_key,
    without_partial,
    wraps_and_takes,
)
from jaxembed.typing import LossFn, Scalar

WEIGHTINGS: dict[str, Callable[[int], float]] = {
    "uniform": lambda l: 1.0,
    "log": lambda l: 1 / (1 + math.log(1 + l)),
    "linear": lambda l: 1 / (1 + l),
}


@checks_call
def adaptive_layer(
    loss: LossFn,
    n_layers_per_step: int = 1,
    last_layer_weight: Scalar = 1.0,
    prior_layers_weight: Scalar = 1.0,
    kl_div_weight: Scalar = 1.0,
    kl_temperature: Scalar = 0.3,
    layer_weighting: str | Callable[[int], float] = "uniform",
) -> LossFn:
    """Returns the loss of the last layer's embeddings and of layers before it, kept like the last.

    Its columns hold the embeddings `x^l` of every layer, `[n l d]`, negatives `[n k l d]`: layer 0
    is the output of the embedding layer, the last one, L, the encoder's own. With C layers chosen
    of those before the last,

        last_layer_weight loss(x^L)
      + Σ_l prior_layers_weight weight(l) / C loss(x^l)
      + Σ_l kl_div_weight τ mean_i KL(softmax(x_i^L / τ) || softmax(x_i^l / τ))

    The KL term compares the features of each vector, over the vectors of all columns that are real,
    with the last layer as a constant; it is not divided by C. All keywords go to the loss as they
    are. `where` and masks named as columns, such as `negatives_where`, say which vectors are real.

    Args:
        loss: any loss of embeddings, also a transformed one. 2D-Matryoshka is
            `adaptive_layer(matryoshka(loss, dims, n_dims_per_step=1))`, whose KL term is that of
            the whole embeddings.
        n_layers_per_step: how many layers before the last, drawn anew in every call, which takes
            `key=`; -1, 0, or L or more for all. There is one compiled program, in which they are
            computed one after the other.
        kl_temperature: τ; 0 or less leaves the KL term out, as does a `kl_div_weight` of 0.
        layer_weighting: `weight(l)`: "uniform" 1, "log" 1 / (1 + ln(1 + l)), "linear" 1 / (1 + l),
            or a function of the layer's number. The last two favour the first layers.

    Returns:
        A loss with the arguments of the given one and `key`.

    Raises:
        ValueError: embeddings without a layer axis or with different numbers of layers, a weight
            below 0, another choice, a draw without a key, or a KL term for a loss with values per
            row or masks of tokens.

    Source: Li et al., 2D Matryoshka Sentence Embeddings, 2024 (with uniform weights).

    >>> from jaxembed.losses import cosent_loss
    >>> from jaxembed.transforms.matryoshka import matryoshka
    >>> left, right = jax.random.normal(jax.random.key(0), (2, 4, 3, 8))  # 4 rows, 3 layers
    >>> scores = jnp.array([0.1, 0.9, 0.3, 0.5])
    >>> loss = adaptive_layer(cosent_loss, n_layers_per_step=-1, kl_div_weight=0)
    >>> layers = [cosent_loss(left[:, l], right[:, l], scores=scores) for l in range(3)]
    >>> jnp.allclose(loss(left, right, scores=scores), layers[2] + (layers[0] + layers[1]) / 2)
    Array(True, dtype=bool)

    One layer and one width per step:

    >>> loss = jax.jit(adaptive_layer(matryoshka(cosent_loss, dims=(8, 4), n_dims_per_step=1)))
    >>> loss(left, right, scores=scores, key=jax.random.key(1)).shape
    ()
    """
    weight_of = _weighting(layer_weighting)
    if n_layers_per_step < -1:
        raise ValueError(
            f"n_layers_per_step must be 1 or more, or -1 for all; got {n_layers_per_step}"
        )
    _check_not_negative(
        last_layer_weight=last_layer_weight,
        prior_layers_weight=prior_layers_weight,
        kl_div_weight=kl_div_weight,
    )
    with_kl = not (_at_most_0(kl_div_weight) or _at_most_0(kl_temperature))

    @wraps_and_takes(loss, "key", "Array | None")
    def at_layers(*args: Any, key: Array | None = None, **keywords: Any) -> Array:
        inner, keywords = without_partial(loss, keywords)
        columns, call = bind(inner, args, keywords)
        prior = _count_layers(loss, columns) - 1
        draw_key, loss_key = (None, None) if key is None else jax.random.split(key)

        def loss_of(columns: Columns, layer: Array | int) -> Array:
            if loss_key is None or not takes_key(loss):
                return call(columns)
            return call(columns, key=jax.random.fold_in(loss_key, layer))

        last = {name: x[..., -1, :] for name, x in columns.items()}
        of_last = loss_of(last, prior)
        if prior == 0:
            return of_last * last_layer_weight
        if with_kl:
            _check_for_kl(loss, columns, of_last, keywords)
        chosen = jnp.arange(prior)
        if 0 < n_layers_per_step < prior:
            message = f"adaptive_layer draws {n_layers_per_step} of {prior} layers"
            chosen = draw(draw_key, n_layers_per_step, prior, message)
        weights = jnp.asarray([weight_of(l) for l in range(prior)], of_last.dtype)[chosen]

        def term(of_layer: tuple[Array, Array, Columns]) -> Array:
            layer, weight, columns = of_layer
            term = loss_of(columns, layer) * (weight * prior_layers_weight / chosen.size)
            if with_kl:
                divergence = _divergence(last, columns, kl_temperature, keywords)
                term += divergence * kl_temperature * kl_div_weight
            return term

        # One after the other and recomputed: one layer's intermediates at a time.
        of_layers = {name: _layers_first(x, chosen) for name, x in columns.items()}
        terms = lax.map(jax.checkpoint(term, prevent_cse=False), (chosen, weights, of_layers))
        return of_last * last_layer_weight + jnp.sum(terms, axis=0)

    return at_layers


def _layers_first(x: Array, chosen: Array) -> Array:
    """Takes the chosen layers: `[... l d]` to `[c ... d]`."""
    return jnp.moveaxis(jnp.take(x, chosen, axis=-2, mode="clip"), -2, 0)


def _divergence(
    last: Columns, layer: Columns, temperature: Scalar, keywords: Mapping[str, Any]
) -> Array:
    """Computes the mean over all real vectors of KL(softmax(last / τ) || softmax(layer / τ))."""
    totals, counts = [], []
    for name, x in layer.items():
        real = jnp.ones(x.shape[:-1], bool)
        for mask in (keywords.get("where"), keywords.get(f"{name}_where")):
            if mask is not None:
                mask = mask.reshape(mask.shape[: real.ndim])
                real &= jnp.expand_dims(mask, tuple(range(mask.ndim, real.ndim)))
        teacher, student = (
            jax.nn.log_softmax(jnp.where(real[..., None], as_float32(x), 1) / temperature)
            for x in (lax.stop_gradient(last[name]), x)
        )
        values = jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)
        totals.append(jnp.sum(values))  # that of a vector which is not real is 0
        counts.append(jnp.sum(real, dtype=values.dtype))
    total, count = sum(totals), sum(counts)
    axis = keywords.get("axis_name")
    if axis is not None:  # inside shard_map: over the vectors of all devices
        total, count = lax.psum((total, count), name_of_axis(axis))
    return total / jnp.maximum(count, 1)


def _check_not_negative(**weights: Scalar) -> None:
    for name, weight in weights.items():
        if isinstance(weight, int | float) and not weight >= 0:
            raise ValueError(f"{name} must not be below 0; got {weight}")


def _at_most_0(number: Scalar) -> bool:
    return isinstance(number, int | float) and number <= 0


def _weighting(layer_weighting: str | Callable[[int], float]) -> Callable[[int], float]:
    weight_of = (
        WEIGHTINGS.get(layer_weighting) if isinstance(layer_weighting, str) else layer_weighting
    )
    if not callable(weight_of):
        raise ValueError(
            f"layer_weighting must be one of {list(WEIGHTINGS)} or a function of the layer's"
            f" number; got {layer_weighting!r}"
        )

    def checked(layer: int) -> float:
        weight = float(weight_of(layer))
        if not weight >= 0:
            raise ValueError(f"layer_weighting must not give less than 0; got {weight} for {layer}")
        return weight

    return checked


def _count_layers(loss: LossFn, columns: Columns) -> int:
    shapes = {name: x.shape for name, x in columns.items()}
    if any(len(shape) < 3 for shape in shapes.values()):
        raise ValueError(
            "adaptive_layer needs the embeddings of all layers, [n l d] for a column: use an encode"
            f" function that returns them; {name_of(loss)} got {shapes}"
        )
    if len({shape[-2] for shape in shapes.values()}) != 1:
        raise ValueError(
            "adaptive_layer needs the same number of layers, on the last axis but one, in all"
            f" columns; {name_of(loss)} got {shapes}"
        )
    return next(iter(shapes.values()))[-2]


def _check_for_kl(
    loss: LossFn, columns: Columns, value: Array, keywords: Mapping[str, Any]
) -> None:
    if value.ndim:
        raise ValueError(
            f"the KL term of adaptive_layer is a mean over all columns, and {name_of(loss)} gives"
            " one value per row here: set kl_div_weight=0, or pass a reduce_fn"
        )
    known = {"where", *(f"{name}_where" for name in columns)}
    for name, mask in keywords.items():
        if name.endswith(("_where", "_mask")) and mask is not None and name not in known:
            raise ValueError(
                f"the KL term of adaptive_layer cannot tell which column {name} is about; columns"
                f" of {name_of(loss)} are {', '.join(columns)}: set kl_div_weight=0"
            )
