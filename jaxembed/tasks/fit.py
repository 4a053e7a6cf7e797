"""Training an encoder in one call, for notebooks and examples; scripts/train.py does more."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from rich.progress import track

from jaxembed.data import DataError, Shards, Stream, load_batches, open_dataset
from jaxembed.encoders import Decoder, Encoder, tied_decoder
from jaxembed.objectives import as_sum
from jaxembed.settings import (
    Count,
    NotNegative,
    Positive,
    Seed,
    Share,
    check_arguments,
    check_keywords,
)
from jaxembed.tasks.networks import Networks
from jaxembed.tasks.task import open_task
from jaxembed.tasks.together import Tasks
from jaxembed.training import adamw, build_train_step, create_state, make_mesh, warmup_schedule

OWN = ("networks", "objective", "dataset", "shards")  # of open_task, which fit gives it


def fit(
    encoder: Encoder,
    loss: Any,
    data: Any,
    *,
    batch_size: Count = 32,
    epochs: Count = 1,
    steps: Count | None = None,
    learning_rate: NotNegative = 2e-5,
    warmup_share: Share = 0.1,
    weight_decay: NotNegative = 0.01,
    clip_norm: Positive = 1.0,
    columns: Any = None,
    loss_weights: Sequence[float] | None = None,
    mini_batch_size: Count | None = None,
    guide: Encoder | None = None,
    teacher: Encoder | None = None,
    decoder: Decoder | None = None,
    mix: str = "proportional",
    weights: Mapping[str, float] | None = None,
    seed: Seed = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    show_progress: bool = False,
    **options: Any,
) -> Encoder:
    """Trains an encoder on all devices and returns the trained one.

    Args:
        loss: a name of `REGISTRY`, an objective, or a sequence of these to be added up. Several
            tasks: a dict of losses, with a dict of data sets of the same names.
        data: what `open_dataset` takes: rows in memory, files, a name of the hub; or a `Stream`,
            with a number of `steps`.
        batch_size: rows of a step, over all devices.
        epochs: passes over the data; `steps` is their number instead.
        columns: which columns are the texts and the labels, as `bind_columns` takes it; found by
            name if None. A dict by task for several.
        mini_batch_size: texts that each device encodes at once, for large batches.
        guide, teacher: frozen encoders, for the losses that use one.
        decoder: of the denoising auto-encoder; None ties one to the encoder.
        mix: how tasks take turns, "proportional", "round_robin" or "weighted", by `weights`.
        on_step: called with the number of every step and its metrics.
        options: further ones of `open_task`, such as `batch_plan` or `use_negatives`.

    Raises:
        ValueError: data, loss and networks that do not go together, before the first step; a loss
            that is no longer finite.
        TypeError: a keyword that there is not.

    >>> import jaxembed
    >>> encoder = jaxembed.load("all-MiniLM-L6-v2", n_layers=1)
    >>> pairs = {"anchor": ["a cat", "code"], "positive": ["a feline", "a program"]}
    >>> trained = fit(encoder, "multiple_negatives_ranking", pairs, batch_size=2, epochs=3)
    >>> trained.encode("a cat").shape
    (1, 384)
    """
    check_arguments(fit, locals())
    check_keywords("fit", options, open_task, besides=(*OWN, *inspect.signature(fit).parameters))
    by_task = loss if isinstance(loss, Mapping) else {"": loss}
    data_of = data if isinstance(loss, Mapping) else {"": data}
    if not isinstance(data_of, Mapping) or by_task.keys() != data_of.keys():
        raise DataError(
            f"a dict of losses needs a dict of data sets of the same names, {list(by_task)}; got"
            f" {list(data_of) if isinstance(data_of, Mapping) else type(data_of).__name__}"
        )
    objectives = {name: as_sum(one, loss_weights) for name, one in by_task.items()}
    if decoder is None and any(o.leading.decoded for o in objectives.values()):
        decoder = tied_decoder(encoder)
    networks = Networks(encoder, guide, teacher, decoder)
    mesh = make_mesh()
    if batch_size % mesh.size:
        raise DataError(f"batch_size {batch_size} is no multiple of {mesh.size} devices")
    tasks = Tasks(
        networks,
        {
            name: open_task(
                networks,
                objective,
                _opened(data_of[name]),
                columns=columns.get(name) if isinstance(loss, Mapping) and columns else columns,
                batch_size=batch_size,
                shards=Shards.all(mesh.size),
                seed=seed,
                **options,
            )
            for name, objective in objectives.items()
        },
        mix,
        seed,
        weights,
    )
    steps = tasks.n_steps(epochs) if steps is None else steps
    schedule = warmup_schedule(learning_rate, steps=steps, warmup_steps=int(warmup_share * steps))
    optimizer = adamw(schedule, weight_decay=weight_decay, clip_norm=clip_norm)
    root_key, init_key = jax.random.split(jax.random.key(seed))
    objective, params = (
        tasks.build(mesh=mesh, mini_batch_size=mini_batch_size),
        tasks.init(init_key),
    )
    tasks.check(objective, params)
    state = create_state(params, optimizer, mesh, frozen=networks.frozen_params)
    train_step = build_train_step(objective, optimizer, schedule, mesh)
    batches = load_batches(tasks, start_step=0, n_steps=steps)
    bar = track(batches, "training", total=steps, disable=not show_progress, transient=True)
    for step, batch in enumerate(bar, start=1):
        state, metrics = train_step(state, batch, root_key)
        if on_step is not None:
            on_step(step, {name: float(value) for name, value in metrics.items()})
    if not math.isfinite(float(metrics["loss"])):
        raise DataError(f"the loss is {metrics['loss']}; lower the learning_rate")
    return dataclasses.replace(encoder, params=state.params["encoder"])


def _opened(data: Any) -> Any:
    return data if isinstance(data, Stream) else open_dataset(data)
