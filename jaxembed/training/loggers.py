"""Where the numbers of a run can go besides its own log: one small Protocol.

>>> sorted(LOGGERS)
['tensorboard', 'trackio', 'wandb']
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol


class Logger(Protocol):
    """Takes numbers by name; `kind` is "train" or "evaluation", and `step` never falls."""

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Writes event files into `tensorboard/` of the run's folder."""

    def __init__(self, folder: Path, config: Mapping[str, Any], from_step: int) -> None:
        from tensorboardX import SummaryWriter

        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=from_step + 1)

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._board.close()


class Tracker:
    """Sends to a service with the interface of Weights & Biases; the run has its folder's name.

    The project, the account and being offline are set by the service's own environment variables,
    such as WANDB_PROJECT and WANDB_MODE.
    """

    def __init__(
        self, module: Any, folder: Path, config: Mapping[str, Any], **options: Any
    ) -> None:
        self._module = module
        module.init(name=folder.name, config=dict(config), **options)

    def write(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        named = {f"{kind}/{name}": value for name, value in values.items()}
        self._module.log(named, step=step)

    def close(self) -> None:
        self._module.finish()


def _wandb(folder: Path, config: Mapping[str, Any], from_step: int) -> Logger:
    return Tracker(
        import_module("wandb"), folder, config, dir=str(folder), id=_run_id(folder), resume="allow"
    )


def _trackio(folder: Path, config: Mapping[str, Any], from_step: int) -> Logger:
    return Tracker(import_module("trackio"), folder, config, project="jaxembed", resume="allow")


def _run_id(folder: Path) -> str:
    """Returns a name that stays the same when a run goes on."""
    from hashlib import sha256

    return f"{folder.name}-{sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"


# By name: the package, and what opens it for a run's folder, its flags and its step.
LOGGERS: dict[str, tuple[str, Callable[[Path, Mapping[str, Any], int], Logger]]] = {
    "tensorboard": ("tensorboardX", TensorBoard),
    "wandb": ("wandb", _wandb),
    "trackio": ("trackio", _trackio),
}


def check_logger(name: str) -> None:
    """Refuses a logger that cannot be opened.

    Raises:
        ValueError: there is none of that name, or its package is not installed.
    """
    if name not in LOGGERS:
        raise ValueError(f"unknown logger {name!r}; choose of {', '.join(LOGGERS)}")
    package, _ = LOGGERS[name]
    if find_spec(package) is None:
        raise ValueError(
            f'the logger {name} needs the package {package}: pip install "jaxembed[log]"'
        )


def open_logger(name: str, folder: Path, config: Mapping[str, Any], from_step: int) -> Logger:
    """Opens a logger by its name in `LOGGERS`; `check_logger` says before whether it can be."""
    check_logger(name)
    return LOGGERS[name][1](folder, config, from_step)
