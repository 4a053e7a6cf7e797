"""What a run reads, as its flags say: networks, tasks and their data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from config import OF_A_TASK, SETTINGS, Config, ConfigError, check
from tables import read_tables
from xxhash import xxh3_64

from jaxembed.data import Shards, Stream, open_dataset, temperature_weights
from jaxembed.encoders import Encoder, load, load_decoder, tied_decoder
from jaxembed.objectives import ALIASES, REGISTRY, WeightedSum, as_sum, named
from jaxembed.tasks import Networks, Task, Tasks, open_task


def open_networks(config: Config, objectives: Iterable[WeightedSum]) -> Networks:
    """Loads the encoder, and what its losses use beside it."""
    computed = {"dtype": config.dtype, "dropout": config.dropout}
    source = config.encoder_source
    encoder = load(
        config.model,
        max_seq_length=config.max_seq_length,
        n_layers=config.n_layers,
        pooling=config.pooling_strategy,
        initialize=config.seed if config.random_init else None,
        source=source,
        remat=config.remat,
        **computed,
    )
    used = {name for objective in objectives for name in objective.networks}
    decoded = any(objective.leading.decoded for objective in objectives)
    for flag, network in (("guide", "guide"), ("teacher_model", "teacher")):
        if getattr(config, flag) and network not in used:
            raise ConfigError(f"no loss of this run uses a {network}; leave --{flag} away")
    if config.decoder_name_or_path and not decoded:
        raise ConfigError("no loss of this run uses a decoder; leave --decoder_name_or_path away")
    decoder = None
    if decoded:
        options = {**computed, "seed": config.seed}
        tied = config.tie_encoder_decoder
        if config.decoder_name_or_path or tied is False:
            name = config.decoder_name_or_path or config.model
            decoder = load_decoder(name, source=source, **options)
        else:
            decoder = tied_decoder(encoder, **options)

    def frozen(name: str | None) -> Encoder | None:
        return load(name, dtype=config.dtype, source=source) if name else None

    return Networks(encoder, frozen(config.guide), frozen(config.teacher_model), decoder)


def tasks_of(config: Config) -> dict[str, Config]:
    """Returns the flags of each task; those of the only one have the name ""."""
    if config.tasks is None:
        return {"": config}
    file = config.tasks
    if given := [name for name in SETTINGS if getattr(config, name) is not None]:
        raise ConfigError(f"with --tasks, {given[0]} belongs into {file}")
    found = {}
    for name, table in read_tables(file, "task").items():
        flags = {}
        for key, value in table.items():
            ours = key if key in OF_A_TASK else ALIASES.get(key, key)
            if ours not in OF_A_TASK:
                raise ConfigError(
                    f"{file}: [{name}] takes no {key}; it takes {', '.join(OF_A_TASK)}"
                )
            if ours in ("data", "loss") and isinstance(value, str):
                value = (value,)
            flags[ours] = tuple(value) if isinstance(value, list) else value
        found[name] = dataclasses.replace(config, **flags)
        try:
            check(found[name])
        except ValueError as error:
            raise ConfigError(f"{file}: [{name}] {error}") from None
    return found


def objective_of(config: Config) -> WeightedSum:
    """Makes the objective that the flags describe; a setting is for all losses that know it."""
    given = {name: getattr(config, name) for name in SETTINGS}
    settings = {name: value for name, value in given.items() if value is not None}
    known: set[str] = set()
    objectives = []
    for name in config.loss:
        wraps = REGISTRY[name].wrapper is not None and config.inner_loss is not None
        objective = named(name, **({"inner_loss": config.inner_loss} if wraps else {}))
        takes = {
            setting: value
            for setting, value in settings.items()
            if len(config.loss) == 1 or ALIASES.get(setting, setting) in objective.settings
        }
        known |= takes.keys()
        objectives.append(objective.with_settings(**takes))
    if unknown := settings.keys() - known:
        raise ConfigError(f"none of {', '.join(config.loss)} takes {min(unknown)}")
    if config.inner_loss is not None and all(o.wrapper is None for o in objectives):
        raise ConfigError(f"{' and '.join(config.loss)} wrap nothing; leave --inner_loss away")
    return as_sum(objectives, config.loss_weights)


def open_tasks(config: Config, shards: Shards) -> Tasks:
    """Opens the networks, and the rows and the plan of every task."""
    import datasets  # here, so that --help and wrong flags do not wait for it

    datasets.disable_progress_bars()
    configs = tasks_of(config)
    objectives = {name: objective_of(one) for name, one in configs.items()}
    networks = open_networks(config, objectives.values())
    tasks = {}
    for name, one in configs.items():
        if one.batch_size % shards.count:
            raise ConfigError(
                f"batch_size {one.batch_size} is no multiple of {shards.count} devices"
            )
        one = dataclasses.replace(
            one, split_lengths=one.split_lengths and config.gradient_accumulation_steps == 1
        )
        tasks[name] = open_one(one, networks, objectives[name], *open_source(one), shards)
    weights = weights_of(config, configs, tasks)
    return Tasks(networks, tasks, "weighted" if weights else config.mix, config.seed, weights)


def open_one(
    config: Config,
    networks: Networks,
    objective: WeightedSum,
    dataset: Any,
    mixture: dict[str, tuple[int, float]] | None,
    shards: Shards,
) -> Task:
    """Opens a task as its flags say, with its rows and its objective."""
    return open_task(
        networks,
        objective,
        dataset,
        columns=config.columns,
        use_negatives=config.hard_negatives,
        drop_incomplete=config.drop_incomplete,
        drop_labels=config.drop_label,
        negatives_per_row=config.negatives_per_row,
        batch_size=config.batch_size,
        batch_plan=config.batch_plan,
        pos_neg_ratio=config.pos_neg_ratio,
        rows_per_label=config.rows_per_label,
        cluster_column=config.cluster_column,
        mixture=mixture,
        deletion_ratio=config.deletion_ratio,
        prompts=(config.query_prompt, config.document_prompt),
        prompt_texts=dict(prompt.split("=", 1) for prompt in config.prompts),
        buckets=config.buckets,
        token_cache=config.token_cache,
        shards=shards,
        split_lengths=config.split_lengths,
        packing=config.packing,
        seed=config.seed,
    )


def open_held_out(config: Config, tasks: Tasks, dataset: Any, columns: Any) -> Tasks:
    """Opens rows that are not trained on as the rows of the only task are, with its objective."""
    task = tasks.single
    if task is None:
        raise ConfigError("the loss on held-out rows is of one task, and there are several here")
    (one,) = tasks_of(config).values()
    config = dataclasses.replace(
        one, columns=columns or one.columns, token_cache=None, split_lengths=False
    )
    shards = task.make.shards
    held_out = open_one(config, tasks.networks, task.objective, dataset, None, shards)
    for role in {**held_out.rows.words, **task.rows.words}:
        ours, theirs = (each.words.get(role, ()) for each in (task.rows, held_out.rows))
        if ours != theirs:
            raise ConfigError(
                f"{role} are words, numbered in their order, but held-out rows have"
                f" {few(theirs)} where the rows of the training have {few(ours)}; number the"
                " classes in both, or hold out rows of the same classes"
            )
    if held_out.rows.words != task.rows.words:
        raise ConfigError(
            f"held-out rows have the labels {held_out.rows.words}, those that are trained on"
            f" {task.rows.words}; number them alike"
        )
    return Tasks(tasks.networks, {"": held_out})


def few(words: Sequence[str]) -> str:
    return ", ".join(words[:4]) + (", …" if len(words) > 4 else "") or "numbers"


def open_source(config: Config) -> tuple[Any, dict[str, tuple[int, float]] | None]:
    """Opens the data of a task; with weights, the sources behind one another, and their sizes."""
    data, weights = config.data, config.data_weights
    if config.stream:
        if weights:
            raise ConfigError("streams are mixed by --tasks and --mix weighted, not --data-weights")
        return Stream(data, window=config.window, seed=config.seed), None
    if not weights:
        return open_dataset(data[0] if len(data) == 1 else list(data), split=config.split), None
    if len(weights) != len(data) or len({*data}) < len(data):
        raise ConfigError(
            f"--data-weights needs one weight for each of different data sets; got {len(weights)}"
            f" weights for {', '.join(data)}"
        )
    from datasets import concatenate_datasets

    sets = {name: open_dataset(name, split=config.split) for name in data}
    names = [one.column_names for one in sets.values()]
    common = [name for name in names[0] if all(name in others for others in names)]
    if not common:
        raise ConfigError(f"{' and '.join(data)} have no column in common")
    sizes = {name: len(one) for name, one in sets.items()}
    together = concatenate_datasets([one.select_columns(common) for one in sets.values()])
    return together, {n: (sizes[n], weight) for n, weight in zip(data, weights, strict=True)}


def weights_of(
    config: Config, configs: Mapping[str, Config], tasks: Mapping[str, Task]
) -> dict[str, float] | None:
    """Returns the weight of each task, if they take turns by weight."""
    given = {name: one.weight for name, one in configs.items() if one.weight is not None}
    if given and config.mix != "weighted":
        raise ConfigError(f"task {min(given)} has a weight; give --mix weighted")
    if config.mix == "weighted":
        return given if len(tasks) > 1 else None
    if config.mix != "temperature" or len(tasks) == 1:
        return None
    sizes = {name: task.size for name, task in tasks.items()}
    if streams := [name for name, size in sizes.items() if size is None]:
        raise ConfigError(f"task {streams[0]} is a stream without a size; give --mix weighted")
    known = {name: size for name, size in sizes.items() if size is not None}
    return temperature_weights(known, config.mix_temperature)


def fingerprint(arrays: Iterable[Any]) -> str:
    """Computes a short name for the content of arrays."""
    digest = xxh3_64()
    for array in arrays:
        digest.update(np.asarray(array).tobytes())
    return digest.hexdigest()
