"""Which axis of a parameter of our own transformers a mesh may share over its axis `tensor`.

Layers are split as Megatron-LM does it: heads and the width of the feed-forward network, so that a
layer needs two sums over devices, behind attention and behind the network.

Source: Shoeybi et al., Megatron-LM: Training Multi-Billion Parameter Language Models Using Model
Parallelism, 2019.
"""

from __future__ import annotations

# Of linear layers, by the last two parts of their paths: whether the inputs or the outputs.
INPUTS, OUTPUTS = -2, -1
LINEAR = {
    "attention/query": OUTPUTS,
    "attention/key": OUTPUTS,
    "attention/value": OUTPUTS,
    "attention/out": INPUTS,
    "mlp/up": OUTPUTS,
    "mlp/gate": OUTPUTS,
    "mlp/down": INPUTS,
}


def tensor_axis(path: tuple[str, ...], ndim: int) -> int | None:
    """Returns the axis of the parameter at a path, or of its moments, that may be shared.

    The rows of the table of tokens are, too. None: the parameter is whole on every device.

    >>> tensor_axis(("encoder", "transformer", "layers", "mlp", "up", "kernel"), 3)
    2
    >>> tensor_axis(("encoder", "transformer", "layers", "norm", "scale"), 2) is None
    True
    """
    *modules, last = path or ("",)
    if modules[-2:] == ["embeddings", "tokens"]:
        return 0 if last == "embedding" else None
    axis = LINEAR.get("/".join(modules[-2:]))
    if axis is None or last not in ("kernel", "bias") or (last == "bias" and axis == INPUTS):
        return None
    return ndim + axis
