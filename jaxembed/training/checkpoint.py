"""Checkpoints of the training state by orbax: asynchronous, the last few and the best."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxembed.forms import check_form, read_json
from jaxembed.training.state import TrainState

# Small files of a checkpoint, and what orbax takes for granted of them.
FACTS = {"_CHECKPOINT_METADATA": {str: object}, "metrics/metrics": {"metric": float}}


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


class Checkpoints:
    """The checkpoints of one run.

    `identity` says what the state belongs to (model, loss, …). It is stored with every checkpoint,
    and a checkpoint of another identity is refused; numbers named in `growing` may be greater now
    than then, and what is in `free` may be anything. Of the checkpoints the last `keep` stay, and
    the one with the greatest metric. A save runs in the background; one that was cut off leaves the
    earlier ones as they are.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        *,
        keep: int = 2,
        growing: Collection[str] = (),
        free: Collection[str] = (),
    ) -> None:
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: metrics["metric"],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        self._identity = dict(identity)
        self._growing, self._free = growing, free
        _check_facts(folder)
        self._manager = ocp.CheckpointManager(
            folder.resolve(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy, best_fn=lambda metrics: metrics["metric"]
            ),
        )

    @property
    def latest_step(self) -> int | None:
        """The step of the last whole checkpoint, None if there is none."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """The steps of all checkpoints, ascending; waits until they are whole."""
        with self._writing():
            self._manager.wait_until_finished()
        return sorted(self._manager.all_steps())

    @property
    def best_step(self) -> int | None:
        """The step of the checkpoint with the greatest metric, None if none has one."""
        return self._manager.best_step()

    def save(self, step: int, state: TrainState, *, metric: float | None = None) -> None:
        """Starts to save the state after `step` steps; frozen parts are left to their source."""
        if step in self._manager.all_steps():
            return
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(_saved(state)), identity=ocp.args.JsonSave(self._identity)
        )
        metrics = None if metric is None else {"metric": metric}
        with self._writing():
            self._manager.save(step, args=arguments, metrics=metrics)

    def restore(self, state: TrainState, *, step: int | None = None) -> TrainState:
        """Returns the state of a checkpoint, the latest if `step` is None, placed as `state` is.

        Raises:
            CheckpointError: there is none, it is damaged, or it belongs to another model or loss.
        """
        step = self.latest_step if step is None else step
        if step is None:
            raise CheckpointError(f"{self._manager.directory} holds no checkpoint; start anew")
        self.check_identity(step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _saved(state))
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        with _reading(self._manager.directory / f"{step}"):
            restored = self._manager.restore(step, args=arguments)["state"]
        return TrainState(**restored, frozen=state.frozen)

    def check_identity(self, step: int) -> None:
        """Raises CheckpointError unless the checkpoint belongs to what this run trains."""
        arguments = ocp.args.Composite(identity=ocp.args.JsonRestore())
        with _reading(self._manager.directory / f"{step}"):
            stored = self._manager.restore(step, args=arguments)["identity"]
            check_form(stored, {str: object}, "identity")
        for name in {**self._identity, **stored}:
            if name in self._free:
                continue
            theirs, ours = stored.get(name), self._identity.get(name)
            grows = name in self._growing and None not in (theirs, ours)
            if grows and (theirs or 0) > (ours or 0):
                raise CheckpointError(
                    f"the run of {self._manager.directory.parent} has {theirs} {name}; it may be"
                    f" resumed with more, not with {ours}"
                )
            if theirs != ours and not grows:
                raise CheckpointError(
                    f"the checkpoint of step {step} in {self._manager.directory} has {name}"
                    f" {theirs!r}, this run {ours!r}; give the same, or another output"
                )

    def close(self) -> None:
        """Waits until what is being saved is on disk.

        Raises:
            OSError: it could not be written; `save` raises it too, of a save before.
        """
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # tensorstore has a ValueError for a full disk
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise OSError(
                f"a checkpoint in {self._manager.directory} could not be written: {reason}"
            ) from error


def _check_facts(folder: Path) -> None:
    """Refuses checkpoints whose small files are of no use, which orbax reads first of all."""
    steps = folder.iterdir() if folder.is_dir() else ()
    for step in sorted(path for path in steps if path.name.isdecimal()):
        for name, form in FACTS.items():
            if (file := step / name).is_file():
                with _reading(step):
                    read_json(file, form)


@contextmanager
def _reading(step: Any) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of tensorstore, orbax, JSON: whatever a damaged file leads to
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        reason = reason if len(reason) <= 200 else f"{reason[:200]}…"
        raise CheckpointError(
            f"the checkpoint {step} is damaged ({type(error).__name__}: {reason}); delete this"
            " folder, and the run resumes from the checkpoint before"
        ) from error


def _saved(state: TrainState) -> dict[str, Any]:
    return {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
        "carried": state.carried,
    }
