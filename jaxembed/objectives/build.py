"""From objectives to one scalar function: texts are encoded once, losses added."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from jaxembed.mesh_axes import row_axes
from jaxembed.objectives.columns import (
    NEGATIVES,
    batch_keywords,
    embed_by_network,
    encode_columns,
    text_columns,
)
from jaxembed.objectives.denoising import token_costs
from jaxembed.transforms import by_device, by_length, cached
from jaxembed.typing import PACKED, SAMPLE, Batch, EncodeFn, ObjectiveFn, Params, Roles

if TYPE_CHECKING:
    from jaxembed.objectives.objective import Objective


def build_sum(
    objectives: Sequence[Objective],
    weights: Sequence[float],
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
    """Builds `Σ weight · loss` of objectives over the same texts; see `Objective.build`.

    The texts are those of the objective with the most of them; the others take the first of these.
    """
    leading = leading_objective(objectives)
    layers = any(objective.layers for objective in objectives)
    losses = [objective.bound_loss(mesh, ring=ring) for objective in objectives]
    chunk_sizes = [o.mini_batch_size for o in objectives if o.mini_batch_size]
    chunk_size = mini_batch_size or min(chunk_sizes, default=None)

    def chunked(encode: EncodeFn) -> EncodeFn:
        encode = encode if chunk_size is None else cached(encode, chunk_size)
        if mesh is not None:
            axes = row_axes(mesh)
            encode = by_device(encode, mesh, axis_name=axes, param_specs=param_specs)
        return by_length(encode)

    encode = chunked(encode)
    networks = {"guide": guide and chunked(guide), "teacher": teacher and chunked(teacher)}
    costs = decoder and chunked(token_costs(decoder))

    def objective(
        params: Params,
        batch: Batch,
        *,
        key: Array | None,
        frozen: Params | None = None,
        carried: Params | None = None,
    ) -> tuple[Array, tuple[dict[str, Any], Params | None]]:
        encode_key, loss_key = (None, None) if key is None else jax.random.split(key)
        own = {o.name: params.get("loss", {}).get(o.name) for o in objectives}
        names = text_columns(batch, leading.roles)
        keys = {
            name: None if encode_key is None else jax.random.fold_in(encode_key, number)
            for number, name in enumerate(names)
        }
        encoded: dict[str, Array] = {}
        for copied in (False, True):
            its_tokens = {
                name: batch[name]
                for name in names
                if name not in leading.decoded and (name in leading.copied) is copied
            }
            encoder = (own[leading.name] if copied and its_tokens else params)["encoder"]
            encoded |= encode_columns(encode, encoder, its_tokens, keys, batch.get(PACKED))
        columns = {name: encoded[name] for name in names if name in encoded}

        def rebuild(vectors: Array) -> Array:
            """Returns what each text costs the decoder, and its number of tokens: `[n 2]`."""
            (name,) = leading.decoded
            tokens = {"input_ids": batch[name]["input_ids"], "vectors": vectors}
            merged = decoder.merged(own[leading.name], params["encoder"])
            return costs(merged, tokens, key=loss_key)

        def value_of(number: int) -> tuple[Array, dict[str, Array]]:
            objective, loss = objectives[number], losses[number]
            names = inspect.signature(loss).parameters
            same = dict(zip(objective.roles.texts, leading.roles.texts, strict=False))
            keywords = batch_keywords(batch, names, objective.roles)
            if not any(name in keywords for name in objective.targets):
                for network, role in objective.network_roles:
                    if role in columns or same.get(role) in columns:
                        network_params = (frozen or {}).get(network)
                        keywords[f"{network}_{role}"] = embed_by_network(
                            networks[network], network_params, batch, network, role, same
                        )
            if objective.own is not None:
                keywords |= objective.own.keywords(own[objective.name])
            if objective.decoded:
                keywords["reconstruct"] = rebuild
            if loss_key is not None and "key" in names:
                keywords["key"] = jax.random.fold_in(loss_key, number)
            taken = [columns[name] for name in _columns_of(objective, columns)]
            if layers and not objective.layers:
                taken = [x[..., -1, :] for x in taken]
            whole = [x[..., -1, :] for x in taken] if objective.layers else taken
            metrics = objective.metrics(whole, objective.settings | keywords)
            return loss(*taken, **keywords), metrics

        loss: Any = 0.0
        metrics: dict[str, Any] = {}
        if sample:
            metrics |= _sample(list(columns.values()), layers, batch["where"], sample)
        for number, (entry, weight) in enumerate(zip(objectives, weights, strict=True)):
            value, its_metrics = value_of(number)
            loss += value * weight
            metrics |= its_metrics
            if len(objectives) > 1:
                metrics[f"loss/{entry.name}"] = value
        return loss, (metrics, carried)

    return objective


def _sample(
    columns: list[Array], layers: bool, where: Array, size: int
) -> dict[str, dict[str, Array]]:
    """Takes the first rows of the first two columns, where a text has one embedding."""
    first_two = [x[..., -1, :] if layers else x for x in columns[:2]]
    single = [lax.stop_gradient(x[:size]) for x in first_two if x.ndim == 2]
    if not single:
        return {}
    sample = dict(zip(("embeddings", "positives"), single, strict=False))
    return {SAMPLE: sample | {"where": jnp.asarray(where)[:size]}}


def leading_objective(objectives: Sequence[Objective]) -> Objective:
    """Returns the objective whose texts a sum reads: the first of those with the most texts."""
    return max(objectives, key=lambda objective: len(objective.roles.texts))


def roles_of_sum(objectives: Sequence[Objective]) -> Roles:
    """Joins what several objectives read of the data."""
    leading = leading_objective(objectives).roles
    every = [objective.roles for objective in objectives]
    labels = {name: kind for roles in reversed(every) for name, kind in roles.labels.items()}
    needed = {name for roles in every for name in roles.labels if name not in roles.optional}
    return Roles(
        leading.texts,
        labels,
        negatives=any(roles.negatives for roles in every),
        ids=any(roles.ids for roles in every),
        optional=frozenset(labels) - needed,
        needs_negatives=any(roles.needs_negatives for roles in every),
        same_as=leading.same_as,
        noisy=leading.noisy,
        several=leading.several,
    )


def _columns_of(objective: Objective, columns: dict[str, Array]) -> list[str]:
    """Names the columns that an objective takes: as many texts as it has roles, or all."""
    texts = [name for name in columns if name != NEGATIVES]
    if not objective.roles.several:
        texts = texts[: len(objective.roles.texts)]
    takes_negatives = NEGATIVES in columns and (
        objective.roles.negatives or objective.roles.several
    )
    return [*texts, NEGATIVES] if takes_negatives else texts
