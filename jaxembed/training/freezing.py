"""Which parameters learn, and how fast: freezing by pattern, learning rates by layer.

A parameter is named by its path, such as `encoder/transformer/embeddings/norm/scale`. Layers are
those of an encoder's transformer, counted from 0. Their parameters are stacked, `[l …]`, or stand
in one branch per layer, `…/layer/0/…`; all functions take both.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from jaxembed.typing import Batch, ObjectiveFn, Params

ENCODER = "/encoder/transformer/"
EMBEDDINGS = ("embed", "wte", "wpe")  # how the names of what the first layer reads begin


def trainable(params: Params, freeze: Sequence[str]) -> Params:
    """Says of every parameter whether it learns: a tree of bools, those in `freeze` are False.

    A pattern is the beginning of a path, up to a slash, in which `*` stands for anything, slashes
    too. With a slice behind it, only those layers are meant: `encoder/transformer/layers[:4]` are
    the first four of stacked layers, `encoder/transformer/encoder/layer[:4]` of others, `*[:-2]`
    all but the last two. Of a stack that is frozen in part there is a bool by layer, `[l 1 …]`.

    Args:
        params: of the training, `{"encoder": …, "loss": …}`.

    Raises:
        ValueError: a pattern that matches no parameter, or patterns that match all.

    >>> layers = {"kernel": jnp.ones((3, 2, 2)), "bias": jnp.ones((3, 2))}
    >>> params = {"encoder": {"transformer": {"layers": layers, "final_norm": jnp.ones(2)}}}
    >>> learns = trainable(params, ["encoder/transformer/layers[:2]", "*/bias"])
    >>> learns["encoder"]["transformer"]["layers"]["kernel"].ravel()
    array([False, False,  True])
    >>> learns["encoder"]["transformer"]["layers"]["bias"]
    False
    >>> learns["encoder"]["transformer"]["final_norm"]
    True
    """
    leaves = _by_name(params)
    depth = _depth(leaves)
    frozen: dict[str, Any] = dict.fromkeys(leaves, False)
    for pattern in freeze:
        hits = {name: _matches(pattern, name, leaf, depth) for name, leaf in leaves.items()}
        if not any(np.any(hit) for hit in hits.values()):
            raise ValueError(
                f"freeze: {pattern!r} matches no parameter; {_near(pattern, leaves)}"
                f" ({depth} layers)"
            )
        frozen = {name: frozen[name] | hit for name, hit in hits.items()}
    if all(np.all(mask) for mask in frozen.values()):
        raise ValueError(f"freeze: {list(freeze)} leave no parameter that learns")

    def learns(path: tuple, leaf: Any) -> bool | np.ndarray:
        mask = ~np.asarray(frozen[_name(path)])
        return mask if mask.any() and not mask.all() else bool(mask.all())

    return jax.tree_util.tree_map_with_path(learns, params)


def layer_scales(params: Params, decay: float) -> Params:
    """Computes by what each parameter's learning rate is multiplied, less and less downwards.

    Of L layers, that of number l has

        decay^(L - 1 - l)

    so the last one 1. Embeddings, which the first layer reads, have decay^L. What stands behind or
    beside the layers has 1: final norm, relative positions, pooling, heads, and parameters that a
    loss owns, but for an encoder of its own. Stacked layers have an array `[l 1 …]`.

    Source: Howard and Ruder, Universal Language Model Fine-tuning for Text Classification, 2018,
    section 3.2, with 1 / decay = 2.6.

    Raises:
        ValueError: a decay that is not in (0, 1], or no layers.

    >>> embeddings, norm = {"embedding": jnp.ones((9, 2))}, {"scale": jnp.ones(2)}
    >>> layers = {"bias": jnp.ones((3, 2))}
    >>> transformer = {"embeddings": embeddings, "layers": layers, "final_norm": norm}
    >>> scales = layer_scales({"encoder": {"transformer": transformer}}, 0.5)["encoder"]
    >>> scales["transformer"]["layers"]["bias"].ravel()
    array([0.25, 0.5 , 1.  ])
    >>> scales["transformer"]["embeddings"], scales["transformer"]["final_norm"]
    ({'embedding': 0.125}, {'scale': 1.0})
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay must lie in (0, 1]; got {decay}")
    depth = _depth(_by_name(params))
    if depth == 0:
        raise ValueError("params have no layers under encoder/transformer, so decay has no effect")

    def scale(path: tuple, leaf: Any) -> float | np.ndarray:
        name = _name(path)
        layers = _layers(name, leaf)
        if isinstance(layers, int):
            return decay ** (depth - 1 - layers)
        if layers is not None:
            return decay ** _along(depth - 1 - layers, leaf)
        *branches, _ = _inside(name)
        return decay**depth if any(x.startswith(EMBEDDINGS) for x in branches) else 1.0

    return jax.tree_util.tree_map_with_path(scale, params)


def with_frozen(objective: ObjectiveFn, learns: Params) -> ObjectiveFn:
    """Returns the objective with gradient 0 for what does not learn, by a mask of `trainable`.

    Its values are the same. To train rightly, an optimizer restricted to the mask is enough. With
    this, gradients that nobody uses are not computed either, and `grad_norm` is of the others.
    """

    def frozen_objective(
        params: Params, batch: Batch, **keywords: Any
    ) -> tuple[Array, tuple[dict[str, Array], Params | None]]:
        def stop(mask: bool | np.ndarray, leaf: Array) -> Array:
            if isinstance(mask, bool):
                return leaf if mask else lax.stop_gradient(leaf)
            return jnp.where(mask, leaf, lax.stop_gradient(leaf))

        return objective(jax.tree.map(stop, learns, params), batch, **keywords)

    return frozen_objective


def restricted(
    optimizer: optax.GradientTransformation, learns: Params
) -> optax.GradientTransformation:
    """Restricts an optimizer to what learns, by a mask of `trainable`.

    The other parameters get no update, whatever the optimizer adds to gradients, and it neither
    sees their gradients nor keeps a state for them. Only of a stack of layers that is frozen in
    part, it keeps one for all layers.
    """
    wholly = jax.tree.map(lambda mask: bool(np.any(mask)), learns)
    inside = optax.partition({True: optimizer, False: optax.set_to_zero()}, wholly)

    def cut(updates: Params, params: Params | None) -> Params:
        keep = lambda mask, x: x if isinstance(mask, bool) else jnp.where(mask, x, 0)  # noqa: E731
        return jax.tree.map(keep, learns, updates)

    chain = optax.chain(optax.stateless(cut), inside, optax.stateless(cut))

    def update(updates: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        return chain.update(updates, state, params)  # whose norm is not that of all gradients

    return optax.GradientTransformation(chain.init, update)


def scaled(optimizer: optax.GradientTransformation, scales: Params) -> optax.GradientTransformation:
    """Multiplies the updates of an optimizer by a tree of numbers, such as `layer_scales`."""

    def scale(updates: Params, params: Params | None) -> Params:
        return jax.tree.map(lambda scale, x: x * jnp.asarray(scale, x.dtype), scales, updates)

    return optax.chain(optimizer, optax.stateless(scale))


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _by_name(params: Params) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]}


def _inside(name: str) -> list[str]:
    """Returns the part of a path behind the transformer of an encoder."""
    return f"/{name}".partition(ENCODER)[2].split("/")


def _layers(name: str, leaf: Any) -> int | np.ndarray | None:
    """Returns the number of the layer that a parameter belongs to, or those of a stack, `[l]`."""
    inside = _inside(name)
    if number := next((part for part in inside if part.isdigit()), None):
        return int(number)
    return np.arange(leaf.shape[0]) if inside[0] == "layers" else None


def _depth(leaves: Mapping[str, Any]) -> int:
    """Counts the layers."""
    numbers = (_layers(name, leaf) for name, leaf in leaves.items())
    return max((int(np.max(n)) + 1 for n in numbers if n is not None), default=0)


def _along(values: np.ndarray, leaf: Any) -> np.ndarray:
    """Shapes values by layer, `[l]`, so that they broadcast to a stack: `[l 1 …]`."""
    return values.reshape(-1, *[1] * (leaf.ndim - 1))


def _matches(pattern: str, name: str, leaf: Any, depth: int) -> bool | np.ndarray:
    """Returns True if a pattern means a parameter, or which layers of it, `[l 1 …]`."""
    found = re.fullmatch(r"(.*)\[(-?\d*):(-?\d*)\]", pattern)
    path = (found[1] if found else pattern).rstrip("/")
    if not (fnmatchcase(name, path) or fnmatchcase(name, f"{path}/*")):
        return False
    if found is None:
        return True
    start, stop = (int(bound) if bound else None for bound in found.groups()[1:])
    layers = _layers(name, leaf)
    if layers is None:
        return False
    chosen = np.isin(layers, range(depth)[start:stop])
    return bool(chosen) if isinstance(layers, int) else _along(chosen, leaf)


def _near(pattern: str, leaves: Mapping[str, Any]) -> str:
    """Names branches and leaves whose paths resemble a pattern."""
    paths = dict.fromkeys(
        "/".join(parts[:end])
        for parts in (name.split("/") for name in leaves)
        for end in range(1, len(parts) + 1)
    )
    near = difflib.get_close_matches(pattern.partition("[")[0], paths, n=3, cutoff=0.5)
    return f"near it are {', '.join(near)}" if near else f"paths are {', '.join(list(paths)[:6])}"
