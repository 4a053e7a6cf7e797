"""What an objective is: a loss over encoded texts, and all that it needs to be trained."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jax import Array
from jax.sharding import Mesh

from jaxembed.calls import checked_argument
from jaxembed.losses.reduction import mean
from jaxembed.mesh_axes import row_axes
from jaxembed.objectives.build import build_sum
from jaxembed.objectives.choices import ALIASES, Choices, function_of
from jaxembed.objectives.columns import MASKS_AND_IDS
from jaxembed.transforms import over_mesh
from jaxembed.typing import EncodeFn, LossFn, ObjectiveFn, Params, Roles

Metrics = dict[str, Array]
NOT_SETTINGS = {  # but made where an objective is built or its parameters are
    *("axis_name", "key", "own", "reconstruct", "truncate", "width", "encoder", "decoder")
}


@dataclass(frozen=True)
class Own:
    """Parameters that a loss owns.

    `init(key, *, …)` makes them. It may ask by name for `width` (of the embeddings), `encoder` (its
    parameters) and `decoder`; what else it takes are settings. `keywords` turns them into keywords
    of the loss; `what` says what they are.
    """

    what: str
    init: Callable[..., Params]
    keywords: Callable[[Params], Mapping[str, Any]] = lambda own: {"own": own}


@dataclass(frozen=True)
class Wrapper:
    """A transform of losses: `wrap(loss, *, truncate, **settings) -> loss`."""

    wrap: Callable[..., LossFn]
    layers: bool  # whether the loss then takes the embeddings of all layers, [n l d]


@dataclass(frozen=True)
class Objective:
    """One entry of the registry.

    The loss takes the encoded texts by position, in the order of `roles.texts` and then the
    negatives, and by keyword what it names of: labels, masks and ids of the batch, embeddings of
    `networks` (`guide_anchors`, …), own parameters. Its other keywords are settings.

    Attributes:
        published: the class of sentence-transformers, empty if there is none.
        networks: frozen networks that it can use, with the roles they read.
        plan: the batch plan that suits it.
        choices: the names of settings that are functions.
        bounds: between which numbers labels have to lie.
        metrics: what to watch, of the columns and the keywords of the loss.
        copied: text roles that a second encoder reads, the parameters `own["encoder"]`.
        decoded: text roles that are not encoded but rebuilt by a decoder.
        compares_rows: whether the loss of a row depends on others, where the loss, which then takes
            no `axis_name`, does not say so.
        truncate: keywords in the embeddings' space, which a matryoshka wrapper cuts too.
        chosen: settings that were set.
    """

    name: str
    published: str
    loss: LossFn
    roles: Roles
    own: Own | None = None
    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plan: str = "plain"
    choices: Mapping[str, Choices] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    metrics: Callable[[list[Array], Mapping[str, Any]], Metrics] = lambda columns, keywords: {}
    copied: frozenset[str] = frozenset()
    decoded: frozenset[str] = frozenset()
    truncate: tuple[str, ...] = ()
    wrapper: Wrapper | None = None
    compares_rows: bool = False
    mini_batch_size: int | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The hyperparameters, with their values."""
        not_settings = {*MASKS_AND_IDS, *NOT_SETTINGS, *self.roles.labels, *self.network_arrays}
        if "reduce_fn" not in self.choices:
            not_settings.add("reduce_fn")
        if isinstance(self.loss, functools.partial):
            not_settings |= self.loss.keywords.keys()
        functions = [
            *([self.own.init] if self.own else []),
            self.loss,
            *([self.wrapper.wrap] if self.wrapper else []),
        ]
        defaults = {
            parameter.name: parameter.default
            for function in functions
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in not_settings
        }
        return defaults | dict(self.chosen)

    @property
    def by_rows(self) -> bool:
        """Whether the loss is the mean over rows of what depends on nothing but the row."""
        names = inspect.signature(self.loss).parameters
        reduce_fn = names.get("reduce_fn")
        averages = reduce_fn is not None and reduce_fn.default is mean
        in_batch = self.compares_rows or "axis_name" in names
        return averages and not in_batch and self.wrapper is None

    @property
    def layers(self) -> bool:
        """Whether it takes the embeddings of all layers."""
        return self.wrapper is not None and self.wrapper.layers

    @property
    def network_roles(self) -> list[tuple[str, str]]:
        """Which network reads which role."""
        return [(network, role) for network, its in self.networks.items() for role in its]

    @property
    def network_arrays(self) -> tuple[str, ...]:
        """The keywords by which embeddings of frozen networks come."""
        return tuple(f"{network}_{role}" for network, role in self.network_roles)

    @property
    def targets(self) -> tuple[str, ...]:
        """The labels that stand for what a frozen network would say."""
        return tuple(name for name in self.roles.labels if name not in self.network_arrays)

    def with_settings(self, **settings: Any) -> Objective:
        """Returns the objective with other settings, also by their published names.

        Functions may be given by name: `with_settings(distance_metric="COSINE")`.

        Raises:
            ValueError: a setting that it does not take, a value of another kind, an unknown name
                of a function, or a similarity of the wrong form.
        """
        chosen = {}
        for name, value in settings.items():
            ours = name if name in self.settings else ALIASES.get(name, name)
            if ours not in self.settings:
                takes = ", ".join(self.settings) or "none"
                raise ValueError(f"{self.name} takes no {name}; its settings are {takes}")
            choices = self.choices.get(ours)
            value = value if choices is None else function_of(value, choices, name)
            checked_argument(self.loss, ours, value)
            chosen[ours] = value
        return replace(self, chosen={**self.chosen, **chosen})

    def wrapping(self, inner: Objective) -> Objective:
        """Returns this wrapper around another objective.

        Raises:
            ValueError: this is no wrapper, or the other one is.
        """
        if self.wrapper is None or inner.wrapper is not None:
            raise ValueError(f"{self.name} does not wrap {inner.name}; matryoshka_2d wraps twice")
        of_wrapper = inspect.signature(self.wrapper.wrap).parameters
        chosen = {name: value for name, value in self.chosen.items() if name in of_wrapper}
        return replace(
            inner,
            name=self.name,
            published=self.published,
            wrapper=self.wrapper,
            chosen={**inner.chosen, **chosen},
        )

    def bound_loss(self, mesh: Mesh | None = None, *, ring: bool = False) -> LossFn:
        """Returns the loss with its settings, wrapped; on a mesh in blocks device by device."""
        settings = dict(self.chosen)
        of_loss = _take(settings, self.loss)
        loss: LossFn = self.loss
        if mesh is not None and mesh.size > 1 and of_loss.get("block_size"):
            axes = row_axes(mesh)
            block_size = of_loss.pop("block_size")
            loss = over_mesh(loss, mesh, axis_name=axes, block_size=block_size, ring=ring)
        loss = functools.partial(loss, **of_loss)
        if self.wrapper is None:
            return loss
        of_wrapper = _take(settings, self.wrapper.wrap)
        return self.wrapper.wrap(loss, truncate=self.truncate, **of_wrapper)

    def init(self, key: Array, **context: Any) -> Params:
        """Makes the parameters of its own, None if it has none; see `Own` for the context."""
        if self.own is None:
            return None
        given = {**self.settings, **context}
        names = list(inspect.signature(self.own.init).parameters)[1:]
        return self.own.init(key, **{name: given.get(name) for name in names})

    def build(
        self,
        encode: EncodeFn,
        *,
        mesh: Mesh | None = None,
        mini_batch_size: int | None = None,
        param_specs: Callable[[Params], Any] | None = None,
        ring: bool = False,
        guide: EncodeFn | None = None,
        teacher: EncodeFn | None = None,
        decoder: Any = None,
        sample: int = 0,
    ) -> ObjectiveFn:
        """Builds the scalar function of (params, batch, key).

        `params` are `{"encoder": …}`, and `"loss": {name: own parameters}` if it has some; the
        parameters of guide and teacher are `frozen={"guide": …}`. On a mesh every device encodes
        its own rows. With `mini_batch_size`, texts are encoded so many at once (on each device).
        With the setting `block_size` and a mesh the loss runs device by device.

        Args:
            encode: `encoder.apply`, or `encoder.all_layers` if `layers`.
            param_specs: where parameters lie on the mesh, as `by_device` takes it.
            ring: whether a loss in blocks sends its candidates round, as `over_mesh` does it.
            guide, teacher: encode functions of frozen networks.
            decoder: `jaxembed.encoders.Decoder`, for what is rebuilt.
            sample: so many rows of the first two text columns are in the metrics, as `sample`, for
                `embedding_health`: in the step it would be compiled, for every shape again.
        """
        return build_sum(
            [self],
            [1.0],
            encode,
            mesh=mesh,
            mini_batch_size=mini_batch_size,
            param_specs=param_specs,
            ring=ring,
            guide=guide,
            teacher=teacher,
            decoder=decoder,
            sample=sample,
        )


def _take(settings: dict[str, Any], function: Callable) -> dict[str, Any]:
    """Takes out of the settings those that a function has."""
    names = inspect.signature(function).parameters
    return {name: settings.pop(name) for name in list(settings) if name in names}
