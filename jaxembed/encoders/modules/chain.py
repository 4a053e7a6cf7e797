"""The chain of modules behind a transformer: read, checked link by link, and pooled otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.modules.dense import Dense
from jaxembed.encoders.modules.dropout import Dropout
from jaxembed.encoders.modules.module import ALL_LAYERS, SENTENCE, Module
from jaxembed.encoders.modules.norms import LayerNorm, Normalize
from jaxembed.encoders.modules.pooling import Pooling
from jaxembed.encoders.modules.weighted_layers import WeightedLayerPooling
from jaxembed.encoders.pooling import MODES
from jaxembed.typing import Params

MODULES: Mapping[str, Any] = {
    module.__name__: module
    for module in (Pooling, Dense, Normalize, LayerNorm, Dropout, WeightedLayerPooling)
}
Modules = tuple[tuple[str, Module], ...]  # (folder name, module)


def read_modules(
    folder: Path, entries: Sequence[tuple[str, str]], widths: Mapping[str, int]
) -> tuple[Modules, dict[str, Params]]:
    """Reads modules, each given by its path and kind, and their parameters.

    `widths` are the numbers of features that the first module writes.

    Raises:
        EncoderError: a broken module, or one that reads what none before it writes.
    """
    modules: list[tuple[str, Module]] = []
    params: dict[str, Params] = {}
    widths = dict(widths)
    for path, kind in entries:
        module, module_params = MODULES[kind].read(folder / path)
        if module.reads not in widths:
            raise EncoderError(
                f"{folder / path}: {kind} reads {module.reads!r}, which no module before it writes;"
                f" they write {', '.join(sorted(widths))}"
            )
        try:
            widths[module.writes] = module.width_of(widths[module.reads])
        except ValueError as error:
            raise EncoderError(f"{folder / path}: {error}") from None
        modules.append((path, module))
        if module_params:
            params[path] = module_params
    if modules and SENTENCE not in widths:
        raise EncoderError(f"{folder}: no module writes {SENTENCE!r}, the embedding of a text")
    return tuple(modules), params


def check_layers(folder: Path, modules: Modules, config: Mapping[str, Any]) -> None:
    """Refuses a module of all layers that sentence-transformers passes over."""
    of_layers = any(module.reads == ALL_LAYERS for _, module in modules)
    if of_layers and config.get("output_hidden_states") is not True:
        raise EncoderError(
            f"{folder}: WeightedLayerPooling needs output_hidden_states = true in config.json;"
            " without it sentence-transformers passes the module over"
        )


def pooled_by(mode: str, modules: Modules, folder: Path) -> Modules:
    """Returns the modules with another mode of pooling.

    Raises:
        EncoderError: an unknown mode, no Pooling, or a Dense that does not fit it.
    """
    check_mode(mode, folder)
    joined = [len(module.modes) for _, module in modules if isinstance(module, Pooling)]
    if not joined:
        raise EncoderError(f"{folder}: pooling {mode!r} needs a Pooling module; there is none")
    if joined != [1] and any(isinstance(module, Dense | LayerNorm) for _, module in modules):
        raise EncoderError(
            f"{folder}: the Dense module is made for {joined[0]} pooling modes joined;"
            f" {mode!r} alone does not fit it"
        )
    return tuple(
        (name, replace(module, modes=(mode,)) if isinstance(module, Pooling) else module)
        for name, module in modules
    )


def check_mode(mode: str, folder: Path) -> None:
    """Refuses an unknown mode of pooling."""
    if mode not in MODES:
        raise EncoderError(f"{folder}: pooling must be one of {list(MODES)}; got {mode!r}")
