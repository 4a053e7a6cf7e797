"""Tasks made ready to train together: their batches, their parameters, and one objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh

from jaxembed.data import (
    BatchPlan,
    DataError,
    MixedPlan,
    Shards,
    WeightedPlan,
    agreed,
    count_tokens,
    share_of,
    text_shapes,
)
from jaxembed.data.shards import Shapes
from jaxembed.encoders import tensor_axis
from jaxembed.objectives import build_tasks
from jaxembed.tasks.networks import Networks
from jaxembed.tasks.task import Task
from jaxembed.training import state_specs
from jaxembed.typing import ObjectiveFn, Params


@dataclass(frozen=True)
class Tasks:
    """One task, or several whose batches take turns.

    `mix` says how: "proportional", at random in proportion to their numbers of batches;
    "round_robin"; or "weighted", at random by `weights`, where small sets begin anew. Of several,
    a batch is `{name of the task: its batch}`, and the parameters that the losses own are
    `params["loss"][name of the task]`.
    """

    networks: Networks
    tasks: Mapping[str, Task]
    mix: str = "proportional"
    seed: int = 0
    weights: Mapping[str, float] | None = None

    @property
    def single(self) -> Task | None:
        """The only task, None if there are several."""
        return next(iter(self.tasks.values())) if len(self.tasks) == 1 else None

    @cached_property
    def plan(self) -> MixedPlan | WeightedPlan:
        """Which task has the batch of a step."""
        if self.mix == "weighted":
            plans = {name: task.plan for name, task in self.tasks.items()}
            return WeightedPlan(plans, self.weights or {}, seed=self.seed)
        whole: dict[str, BatchPlan] = {}
        for name, task in self.tasks.items():
            if not isinstance(task.plan, BatchPlan):
                raise DataError(
                    f"task {name!r} has no number of batches to be mixed by; mix by weights"
                )
            whole[name] = task.plan
        return MixedPlan(whole, self.mix, seed=self.seed)

    def __call__(self, step: int) -> dict[str, Any]:
        """Makes the batch of a step."""
        if self.single is not None:
            return self.single.make(step)
        name, rows = self.plan.rows(step)
        return {name: self.tasks[name].make.batch(rows, step)}

    def describe(self, step: int) -> list[dict[str, Any]]:
        """Returns the rows of the batch of a step: their numbers, texts and labels."""
        name, indices = "", None
        if self.single is None:
            name, indices = self.plan.rows(step)
        task = self.single or self.tasks[name]
        indices = task.plan.rows(step) if indices is None else indices
        first = indices if indices.ndim == 1 else indices[:, 0]
        rows = task.rows.describe(first[first >= 0])
        return [{"step": step + 1, **({"task": name} if name else {}), **row} for row in rows]

    def count(self, batch: Mapping[str, Any]) -> dict[str, int]:
        """Counts the rows, the tokens, and the places with their padding, of a batch."""
        parts = self._parts(batch).values()
        counts = [(int(part["where"].sum()), *count_tokens(part)) for part in parts]
        pairs, tokens, places = map(sum, zip(*counts, strict=True))
        return {"pairs": pairs, "tokens": tokens, "places": places}

    def n_steps(self, epochs: int) -> int:
        """Counts the steps of the first epochs."""
        plan = self.plan if self.single is None else self.single.plan
        return plan.n_steps(epochs)

    def shapes(self, batch: Mapping[str, Any]) -> dict[str, Shapes]:
        """Returns the shapes of the texts of a batch, by task."""
        return {name: text_shapes(part) for name, part in self._parts(batch).items()}

    def share(self, batch: Mapping[str, Any], shapes: Sequence[dict[str, Shapes]]) -> Any:
        """Returns a host's share of a batch, in the shapes that hold those of all hosts."""
        shares = {
            name: share_of(part, agreed([each[name] for each in shapes]), self._shards)
            for name, part in self._parts(batch).items()
        }
        return shares if self.single is None else shares.popitem()[1]

    @property
    def _shards(self) -> Shards:
        return next(iter(self.tasks.values())).make.shards

    def _parts(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        return batch if self.single is None else {"": batch}

    def build(self, mesh: Mesh | None = None, **options: Any) -> ObjectiveFn:
        """Builds the objective of all tasks; the options are those of `Objective.build`."""
        encoder = self.networks.encoder
        specs = None if mesh is None else partial(state_specs, mesh=mesh, tensor_axis=tensor_axis)
        built = {
            name: task.objective.build(
                encoder.all_layers if task.objective.layers else encoder.apply,
                mesh=mesh,
                param_specs=specs,
                **options,
                **self.networks.functions,
            )
            for name, task in self.tasks.items()
        }
        return build_tasks(built) if self.single is None else built.popitem()[1]

    def init(self, key: Array) -> Params:
        """Makes all parameters that learn: the encoder's, and those of the losses."""
        encoder = self.networks.encoder
        objectives = [one for task in self.tasks.values() for one in task.objective.objectives]
        if all(objective.own is None for objective in objectives):
            return {"encoder": encoder.params}
        context = {
            "width": encoder.width,
            "encoder": encoder.params,
            "decoder": self.networks.decoder,
        }
        own = {
            name: task.objective.init(jax.random.fold_in(key, number), **context)
            for number, (name, task) in enumerate(self.tasks.items())
        }
        loss = own if self.single is None else own.popitem()[1]
        loss = {name: params for name, params in loss.items() if params}
        return {"encoder": encoder.params, **({"loss": loss} if loss else {})}

    def check(self, objective: ObjectiveFn, params: Params) -> None:
        """Tries the objective on the shapes of each task's first batch, without computing.

        Raises:
            ValueError: data, settings or networks that do not go together.
        """
        for name, task in self.tasks.items():
            batch = task.make(0)
            batch = batch if self.single is not None else {name: batch}

            def loss(params: Params, frozen: Params, batch: Any = batch) -> Array:
                return objective(params, batch, key=jax.random.key(0), frozen=frozen)[0]

            jax.eval_shape(loss, params, self.networks.frozen_params)
