"""Several objectives over the same texts, and several tasks that share an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import Array

from jaxembed.objectives.build import build_sum, leading_objective, roles_of_sum
from jaxembed.objectives.objective import Objective
from jaxembed.objectives.registry import named
from jaxembed.typing import Batch, EncodeFn, ObjectiveFn, Params, Roles


@dataclass(frozen=True)
class WeightedSum:
    """`Σ weight · loss` of objectives over the same texts, which are encoded once.

    The texts are those of the objective with the most of them; the others take the first of these.

    >>> from jaxembed.objectives import REGISTRY
    >>> ranking = REGISTRY["multiple_negatives_ranking"]
    >>> spread = REGISTRY["global_orthogonal_regularization"]
    >>> both = WeightedSum((ranking, spread), (1.0, 0.1))
    >>> both.name, both.roles.texts
    ('multiple_negatives_ranking + 0.1 global_orthogonal_regularization', ('anchors', 'positives'))

    Raises:
        ValueError: no objective, two of one name, or another number of weights.
    """

    objectives: tuple[Objective, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        names = [objective.name for objective in self.objectives]
        if not names or len(names) != len(self.weights):
            raise ValueError(
                f"a sum needs one weight for each of its losses; got {len(names)} losses and"
                f" {len(self.weights)} weights"
            )
        if len({*names}) < len(names):
            raise ValueError(f"a sum takes each loss once; got {', '.join(names)}")
        leading = self.leading
        for objective in self.objectives:
            if objective is not leading and (objective.copied or objective.decoded):
                raise ValueError(f"{objective.name} cannot be added to {leading.name}")

    @property
    def leading(self) -> Objective:
        """The objective whose texts all read."""
        return leading_objective(self.objectives)

    @property
    def name(self) -> str:
        """What is added, with weights other than 1."""
        weighted = zip(self.objectives, self.weights, strict=True)
        return " + ".join(o.name if w == 1 else f"{w:g} {o.name}" for o, w in weighted)

    @property
    def roles(self) -> Roles:
        """What the data must have."""
        return roles_of_sum(self.objectives)

    @property
    def layers(self) -> bool:
        """Whether the embeddings of all layers are needed."""
        return any(objective.layers for objective in self.objectives)

    @property
    def networks(self) -> Mapping[str, tuple[str, ...]]:
        """The frozen networks that can be used, and the roles that they read."""
        texts = self.leading.roles.texts
        roles: dict[str, tuple[str, ...]] = {}
        for objective in self.objectives:
            same = dict(zip(objective.roles.texts, texts, strict=False))
            for network, its in objective.networks.items():
                joined = (*roles.get(network, ()), *(same.get(role, role) for role in its))
                roles[network] = tuple(dict.fromkeys(joined))
        return roles

    def init(self, key: Array, **context: Any) -> dict[str, Params]:
        """Makes the parameters that the losses own, by the names of the losses."""
        made = {
            objective.name: objective.init(jax.random.fold_in(key, number), **context)
            for number, objective in enumerate(self.objectives)
        }
        return {name: own for name, own in made.items() if own is not None}

    def build(self, encode: EncodeFn, **options: Any) -> ObjectiveFn:
        """Builds the scalar function; the options are those of `Objective.build`."""
        return build_sum(self.objectives, self.weights, encode, **options)


def as_sum(loss: Any, weights: Sequence[float] | None = None) -> WeightedSum:
    """Makes a sum of a name, an objective, or several of these.

    Raises:
        ValueError: something else, such as a loss function, or an unknown name.

    >>> as_sum(["multiple_negatives_ranking", "global_orthogonal_regularization"]).weights
    (1.0, 1.0)
    """
    if isinstance(loss, WeightedSum):
        return loss
    several = [loss] if isinstance(loss, str | Objective) else loss
    if not isinstance(several, list | tuple) or not several:
        raise ValueError(_no_objective(several))
    if wrong := [one for one in several if not isinstance(one, str | Objective)]:
        raise ValueError(_no_objective(wrong[0]))
    objectives = tuple(named(one) if isinstance(one, str) else one for one in several)
    return WeightedSum(objectives, tuple(map(float, weights or [1.0] * len(objectives))))


def _no_objective(loss: Any) -> str:
    name = getattr(loss, "__name__", repr(loss))
    return (
        f"a loss must be a name such as 'cosent', an Objective, or a list of these; got {name}: for"
        " a function of your own, make an Objective of it"
    )


def build_tasks(objectives: Mapping[str, ObjectiveFn]) -> ObjectiveFn:
    """Joins the objectives of several tasks: a batch is `{task: its batch}`.

    The own parameters are `params["loss"][task]`. A batch of several tasks gives the sum. One
    compiled step serves all: it has a program for each task, as for each shape.
    """

    def objective(
        params: Params,
        batch: Batch,
        *,
        key: Array | None,
        frozen: Params | None = None,
        carried: Params | None = None,
    ) -> tuple[Array, tuple[dict[str, Any], Params | None]]:
        loss: Any = 0.0
        metrics: dict[str, Any] = {}
        for task, its_batch in batch.items():
            its_params = {**params, "loss": params.get("loss", {}).get(task, {})}
            value, (its_metrics, carried) = objectives[task](
                its_params, its_batch, key=key, frozen=frozen, carried=carried
            )
            loss += value
            metrics |= {f"{task}/loss": value}
            metrics |= {f"{task}/{name}": metric for name, metric in its_metrics.items()}
        return loss, (metrics, carried)

    return objective
