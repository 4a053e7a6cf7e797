"""Low-rank adapters (LoRA): few parameters that learn in the place of large matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxembed.typing import Batch, ObjectiveFn, Params, Scalar

TARGETS = ("query", "value")


def init_lora(key: Array, params: Params, *, rank: int, targets: Sequence[str] = TARGETS) -> Params:
    """Draws the adapters of linear layers: `merge_lora` with them changes nothing yet.

    They are the branches of `params` that lead to the kernels meant, with `{"a": [… d r], "b":
    [… r e]}` in the place of each kernel `[… d e]`; a stack of layers, `[l d e]`, has a stack of
    adapters. `a` is uniform in ±1/√d and `b` zero.

    Args:
        params: of an encoder, or any nested dicts.
        rank: r, such as 8. An adapter has r (d + e) parameters, a kernel d e.
        targets: ends of the paths of linear layers, in which `*` stands for anything: "query",
            "attention/query", "attention/*", "mlp/*", or "*" for all.

    Raises:
        ValueError: a rank below 1, no targets, or one that no linear layer has.

    >>> params = {"query": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}, "out": {}}
    >>> adapters = init_lora(jax.random.key(0), params, rank=2, targets=("query",))
    >>> jax.tree.map(jnp.shape, adapters)
    {'query': {'kernel': {'a': (6, 2), 'b': (2, 4)}}}
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1; got {rank}")
    if not targets:
        raise ValueError(f"LoRA needs targets, such as {', '.join(TARGETS)}; got none")
    kernels = {
        jax.tree_util.keystr(path[:-1], simple=True, separator="/"): (path, leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
        if path[-1].key == "kernel"
    }
    meant: set[str] = set()
    for target in targets:
        names = {name for name in kernels if fnmatchcase(f"/{name}", f"*/{target}")}
        if not names:
            there = ", ".join(sorted({name.rpartition("/")[2] for name in kernels}))
            raise ValueError(
                f"LoRA target {target!r} is the end of no linear layer; there are {there or 'none'}"
            )
        meant |= names
    adapters: dict[str, Any] = {}
    for number, name in enumerate(sorted(meant)):
        path, kernel = kernels[name]
        *stack, n_in, n_out = kernel.shape
        bound = 1 / math.sqrt(n_in)
        its_key = jax.random.fold_in(key, number)
        a = jax.random.uniform(its_key, (*stack, n_in, rank), kernel.dtype, -bound, bound)
        branch = adapters
        for entry in path[:-1]:
            branch = branch.setdefault(entry.key, {})
        branch["kernel"] = {"a": a, "b": jnp.zeros((*stack, rank, n_out), kernel.dtype)}
    return adapters


def merge_lora(params: Params, adapters: Params, *, alpha: Scalar) -> Params:
    """Adds the adapters to the kernels that they belong to.

        W + α / r · A B

    The tree is that of `params`, so what is merged is applied, saved and loaded like any other.

    Args:
        alpha: α, how much the adapters weigh: with the same α, ranks learn at like rates. Often r
            or 2 r.

    Raises:
        ValueError: adapters of something that the parameters lack.

    Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, equation 3.

    >>> params = {"query": {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}}
    >>> adapters = {"query": {"kernel": {"a": jnp.ones((2, 1)), "b": jnp.array([[0.0, 3.0]])}}}
    >>> merge_lora(params, adapters, alpha=2)["query"]["kernel"][0]
    Array([1., 7.], dtype=float32)
    """
    if not isinstance(params, Mapping):
        a, b = adapters["a"], adapters["b"]
        # The product is small, and TPUs would round it to bfloat16.
        product = jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
        return params + (alpha / a.shape[-1] * product).astype(params.dtype)
    if lacking := adapters.keys() - params.keys():
        raise ValueError(f"adapters of {sorted(lacking)}, but params have only {sorted(params)}")
    return {
        name: merge_lora(branch, adapters[name], alpha=alpha) if name in adapters else branch
        for name, branch in params.items()
    }


def with_lora(objective: ObjectiveFn, *, alpha: Scalar) -> ObjectiveFn:
    """Returns the objective of adapters: its `params["encoder"]` are those of `init_lora`.

    The encoder's own parameters are `frozen["base"]`, so they have no gradients, no state in the
    optimizer, and no place in checkpoints. They are merged once per step, outside of all loops over
    chunks or layers; so there is memory for merged kernels and their gradients, but other matrices
    have none. Without a layer of its own there is no dropout on the way into adapters.

    >>> import dataclasses, tempfile, jaxembed, optax
    >>> from jaxembed.objectives import REGISTRY
    >>> from jaxembed.training import adamw, build_train_step, create_state, make_mesh
    >>> encoder = jaxembed.load("tests/goldens/encoders/tiny")
    >>> pairs = {"anchors": ["a cat", "code"], "positives": ["a feline", "a program"]}
    >>> batch = {name: encoder.tokenizer(texts) for name, texts in pairs.items()}
    >>> batch["where"] = np.array([True, True])

    >>> objective = REGISTRY["multiple_negatives_ranking"].build(encoder.apply)
    >>> adapters = init_lora(jax.random.key(0), encoder.params, rank=4)
    >>> schedule, mesh = optax.constant_schedule(1e-2), make_mesh()
    >>> optimizer = adamw(schedule)
    >>> base = {"base": encoder.params}
    >>> state = create_state({"encoder": adapters}, optimizer, mesh, frozen=base)
    >>> step = build_train_step(with_lora(objective, alpha=8), optimizer, schedule, mesh)
    >>> losses = []
    >>> for _ in range(2):
    ...     state, metrics = step(state, batch, None)
    ...     losses.append(float(metrics["loss"]))
    >>> losses[1] < losses[0]
    True

    >>> merged = merge_lora(encoder.params, state.params["encoder"], alpha=8)
    >>> trained = dataclasses.replace(encoder, params=merged)
    >>> folder = trained.save(tempfile.mkdtemp() + "/adapted")
    >>> jaxembed.load(folder).encode("a cat").shape
    (1, 24)
    """

    def adapted(
        params: Params, batch: Batch, *, frozen: Params | None = None, **keywords: Any
    ) -> tuple[Array, tuple[dict[str, Array], Params | None]]:
        if frozen is None or "base" not in frozen:
            raise ValueError(f"frozen must have base, the encoder; got {sorted(frozen or {})}")
        encoder = merge_lora(frozen["base"], params["encoder"], alpha=alpha)
        return objective({**params, "encoder": encoder}, batch, frozen=frozen, **keywords)

    return adapted
