"""What each axis of a parameter is, by name, and how a mesh of `fsdp` and `tensor` shares it.

Layers are split over `tensor` as Megatron-LM does it: heads and the width of the feed-forward
network, so that a layer needs two sums over devices, behind attention and behind the network.
Source: Shoeybi et al., Megatron-LM: Training Multi-Billion Parameter Language Models Using Model
Parallelism, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxembed.typing import Params

# The output axes of linear layers and the input axes, by the last two parts of their paths.
IN_AND_OUT = {
    "attention/query": ("width", "heads"),
    "attention/key": ("width", "heads"),
    "attention/value": ("width", "heads"),
    "attention/out": ("heads", "width"),
    "mlp/up": ("width", "mlp"),
    "mlp/gate": ("width", "mlp"),
    "mlp/down": ("mlp", "width"),
    "embeddings/projection": ("embedding", "width"),
}
# The mesh axes of each.
RULES: Mapping[str, str] = {
    "vocabulary": "tensor",
    "heads": "tensor",
    "mlp": "tensor",
    "width": "fsdp",
    "embedding": "fsdp",
}


def logical_axes(params: Params) -> Any:
    """Names the axes of every parameter of our own transformers, None where there is no name.

    >>> params = {"layers": {"mlp": {"up": {"kernel": jax.numpy.ones((6, 384, 1536))}}}}
    >>> logical_axes(params)["layers"]["mlp"]["up"]["kernel"]
    ('layers', 'width', 'mlp')
    """

    def of(path: tuple, parameter: Any) -> tuple[str | None, ...]:
        *modules, last = (entry.key for entry in path)
        stacked = ("layers",) if modules and modules[0] == "layers" else ()
        linear = IN_AND_OUT.get("/".join(modules[-2:]))
        if linear is not None:
            return (*stacked, *(linear if last == "kernel" else linear[1:]))
        if last == "embedding":
            rows = "vocabulary" if modules[-1] == "tokens" else None
            return (rows, "embedding" if modules[0] == "embeddings" else None)
        width = "width" if stacked and parameter.ndim == 2 else None
        return (*stacked, *[width] * (parameter.ndim - len(stacked)))

    return jax.tree_util.tree_map_with_path(of, params)


def shardings(params: Params, mesh: Mesh, rules: Mapping[str, str] = RULES) -> Any:
    """Says where the parameters of our own transformers lie on a mesh.

    A named axis is spread over the mesh axis of the `rules`, if the mesh has it and its size
    divides the axis; the others are whole on every device.

    >>> mesh = jax.make_mesh((1, 1), ("fsdp", "tensor"))
    >>> params = {"layers": {"mlp": {"up": {"kernel": jax.numpy.ones((6, 384, 1536))}}}}
    >>> tuple(shardings(params, mesh)["layers"]["mlp"]["up"]["kernel"].spec)
    (None, 'fsdp', 'tensor')
    """

    def of(parameter: Any, names: tuple[str | None, ...]) -> NamedSharding:
        spec = []
        for size, name in zip(parameter.shape, names, strict=True):
            axis = rules.get(name) if name else None
            fits = axis in mesh.shape and axis not in spec and size % mesh.shape[axis] == 0
            spec.append(axis if fits else None)
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(of, params, logical_axes(params))
