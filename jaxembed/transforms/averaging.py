"""Averages of parameters: over the steps of a run (EMA), or over several runs (soup, slerp).

All are pure functions of trees. They compute in at least float32. Leaves that hold no floats
(counters, keys) are not averaged. Trees with other leaves or shapes are refused by the leaf's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxembed.calls import checks_call
from jaxembed.similarity import as_float32, norm, unit
from jaxembed.typing import Params, Scalar

PARALLEL = 1e-4  # radians; below, sine and linear weights agree to about 1e-9


def init_ema(params: Params) -> Params:
    """Copies the parameters, 16-bit floats as float32: the average that `ema` starts from.

    >>> init_ema({"w": jnp.ones(2, jnp.bfloat16)})["w"].dtype
    dtype('float32')
    """
    copies = jax.tree.map(jnp.array, params)
    return jax.tree.map(lambda x: as_float32(x) if _is_float(x) else x, copies)


@checks_call
def ema(average: Params, params: Params, decay: Scalar) -> Params:
    """Computes the exponential moving average, one step on.

        decay · average + (1 - decay) · params

    It starts from the parameters (`init_ema`), not from zero: there is no bias to correct. Its
    memory is about `1 / (1 - decay)` steps; use `ema_decay` where that is much of the run. Leaves
    without floats are those of `params`.

    Returns:
        The average, with its own dtypes.

    Raises:
        ValueError: trees that differ, a Python decay outside [0, 1], or an average in 16 bits, in
            which the small changes get lost.

    Sources: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992;
    Tarvainen and Valpola, Mean Teachers Are Better Role Models, 2017.

    >>> params = {"w": jnp.array([1.0, 2.0])}
    >>> ema(init_ema(params), {"w": jnp.array([3.0, 2.0])}, decay=0.75)["w"]
    Array([1.5, 2. ], dtype=float32)
    """
    if isinstance(decay, int | float) and not 0 <= decay <= 1:
        raise ValueError(f"decay must be in [0, 1]; got {decay}")

    def one(name: str, average: Array, params: Array) -> Array:
        if not _is_float(params):
            return params
        if jnp.finfo(average.dtype).bits < 32:
            raise ValueError(
                f"the average at {name} is {average.dtype}, in which small changes get lost;"
                " start it with init_ema"
            )
        weight = jnp.asarray(1 - decay, average.dtype)
        return average + weight * (params.astype(average.dtype) - average)

    return _map(one, average, params)


@checks_call
def ema_decay(step: ArrayLike, decay: Scalar = 0.999) -> Array:
    """Computes the decay of a step: `min(decay, (1 + step) / (10 + step))`, small at first.

    The average then forgets the first parameters early in the run. Step 0 is the first.

    Source: the `num_updates` of Abadi et al., TensorFlow, 2016 (`ExponentialMovingAverage`).

    >>> jnp.array([ema_decay(0), ema_decay(90), ema_decay(100_000)])
    Array([0.1  , 0.91 , 0.999], dtype=float32)
    """
    step = jnp.asarray(step, jnp.float32)
    return jnp.minimum(decay, (1 + step) / (10 + step))


@checks_call
def soup(trees: Sequence[Params], weights: Sequence[Scalar] | Array | None = None) -> Params:
    """Computes the weighted average of the parameters of several runs.

        Σ_i w_i params_i / Σ_i w_i

    The runs should start from the same parameters; averages of unrelated ones are worthless.

    Args:
        weights: one per tree, None for equal ones. Only their proportions count.

    Returns:
        The average, with the dtypes of the first tree, and its leaves where they hold no floats.

    Raises:
        ValueError: no tree, trees that differ, another number of weights, or Python weights that
            do not add up to more than 0.

    Source: Wortsman et al., Model soups: averaging weights of multiple fine-tuned models improves
    accuracy without increasing inference time, 2022.

    >>> soup([{"w": jnp.array([1.0])}, {"w": jnp.array([4.0])}], weights=[2, 1])["w"]
    Array([2.], dtype=float32)
    """
    trees = list(trees)
    if not trees:
        raise ValueError("soup needs at least one tree; got none")
    numbers = isinstance(weights, list | tuple) and all(isinstance(w, int | float) for w in weights)
    if numbers and not sum(cast(list, weights)) > 0:
        raise ValueError(f"weights must add up to more than 0; got {weights}")
    shares = jnp.ones(len(trees)) if weights is None else jnp.asarray(weights, float)
    if shares.shape != (len(trees),):
        raise ValueError(f"weights must be one per tree, {len(trees)}; got {shares.shape}")
    shares = shares / jnp.sum(shares)

    def one(name: str, *leaves: Array) -> Array:
        if not _is_float(leaves[0]):
            return leaves[0]
        total = jnp.zeros_like(as_float32(leaves[0]))
        for share, leaf in zip(shares, leaves, strict=True):
            total += share.astype(total.dtype) * leaf.astype(total.dtype)
        return total.astype(leaves[0].dtype)

    return _map(one, *trees)


@checks_call
def slerp(left: Params, right: Params, t: Scalar) -> Params:
    """Interpolates spherically between two trees, leaf by leaf: `left` at t = 0, `right` at t = 1.

    With the angle θ between two leaves, each taken as one vector,

        sin((1 - t) θ) / sin θ · left + sin(t θ) / sin θ · right

    Between leaves of one length this keeps the length, where the mean would shrink it. Leaves that
    are parallel or opposite to 1e-4 radians, or zero, are interpolated linearly. The angle is
    computed from sum and difference of the directions, which keeps its digits when it is small, as
    between checkpoints of one run; mergekit interpolates linearly below 0.03.

    Args:
        t: a number or scalar array; outside [0, 1] it extrapolates.

    Returns:
        The tree, with the dtypes of `left`, and its leaves where they hold no floats.

    Raises:
        ValueError: trees that differ.

    Sources: Shoemake, Animating Rotation with Quaternion Curves, 1985; Goddard et al., Arcee's
    MergeKit: A Toolkit for Merging Large Language Models, 2024.

    >>> slerp({"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 1.0])}, 0.5)["w"].round(4)
    Array([0.7071, 0.7071], dtype=float32)
    """

    def one(name: str, left: Array, right: Array) -> Array:
        if not _is_float(left):
            return left
        a, b = as_float32(left), as_float32(right)
        share = jnp.asarray(t, a.dtype)
        weights = _slerp_weights(a.reshape(-1), b.reshape(-1).astype(a.dtype), share)
        return (weights[0] * a + weights[1] * b).astype(left.dtype)

    return _map(one, left, right)


def _slerp_weights(left: Array, right: Array, t: Array) -> tuple[Array, Array]:
    """Returns the weights of two vectors, safe to differentiate everywhere."""
    a, b = unit(left), unit(right)
    apart, together = norm(a - b), norm(a + b)
    zero = (norm(left) == 0) | (norm(right) == 0)
    angle = 2 * jnp.arctan2(apart, together)
    linear = zero | (angle < PARALLEL) | (jnp.pi - angle < PARALLEL)
    angle = jnp.where(linear, 1, angle)
    spherical = jnp.sin((1 - t) * angle) / jnp.sin(angle), jnp.sin(t * angle) / jnp.sin(angle)
    return jnp.where(linear, 1 - t, spherical[0]), jnp.where(linear, t, spherical[1])


def _is_float(leaf: Array) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def _map(function: Callable[..., Array], *trees: Params) -> Params:
    """Maps over the leaves with their names; refuses trees that differ from the first."""
    flat = [jax.tree_util.tree_flatten_with_path(tree)[0] for tree in trees]
    name_of = jax.tree_util.keystr
    named = [{name_of(path): jnp.asarray(leaf) for path, leaf in leaves} for leaves in flat]
    first = named[0]
    for i, other in enumerate(named[1:], start=1):
        if differ := sorted(first.keys() ^ other.keys()):
            has, lacks = (0, i) if differ[0] in first else (i, 0)
            raise ValueError(f"tree {has} has a leaf {differ[0]}, tree {lacks} has none")
        for name, leaf in first.items():
            if leaf.shape != other[name].shape:
                shapes = f"{leaf.shape} and {other[name].shape}"
                raise ValueError(f"leaf {name} must have one shape; got {shapes}")
    leaves = [function(name, *(tree[name] for tree in named)) for name in first]
    return jax.tree.unflatten(jax.tree.structure(trees[0]), leaves)
