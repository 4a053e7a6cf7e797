"""The step of a training, compiled without being run, and what is known of it then."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from config import Config, ConfigError
from training import Training, open_training

from jaxembed.data import Shards
from jaxembed.training import batch_sharding, make_mesh, row_parts
from jaxembed.training.compiled import ProgramCost, program_cost
from jaxembed.training.roofline import Chip, Roofline, roofline

GIB = 2**30
SAMPLE = 256  # rows of data that are read, at most, to know the shapes of a batch
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
NUMBER = r"([\d.]+)([BKMGT]?)"
TOO_MUCH = (  # what compilers say, with what is needed and, most of them, what there is
    re.compile(rf"Used {NUMBER} of {NUMBER} hbm"),
    re.compile(rf"\({NUMBER}\) exceeds available HBM \({NUMBER}\)"),
    re.compile(rf"[Oo]ut of memory (?:while trying to allocate|allocating) {NUMBER}"),
    re.compile(r"[Oo]ut of memory (?:on HBM|in memory space hbm|on device)|RESOURCE_EXHAUSTED"),
)


@dataclass(frozen=True)
class Plan:
    """What is known of a step once it is compiled; memory and costs are those of one chip."""

    devices: int
    mini_batch_size: int | None
    batch_size: int
    parts: Mapping[str, int]  # bytes of what stays: parameters, optimizer, frozen, batch
    cost: ProgramCost | None  # None: the compiler gave up, as memory does not suffice
    loss_bytes: int  # temporaries of the loss alone
    needed_bytes: int
    limit_bytes: int
    least: Roofline | None
    seconds_to_compile: float

    @property
    def fits(self) -> bool:
        return self.cost is not None and self.needed_bytes <= self.limit_bytes


def open_abstract(
    config: Config, devices: list[Any], tokens: int | None = None
) -> tuple[Training, Any]:
    """Opens a training for these devices, and returns it with the shapes of its batches.

    A few rows of the data are read, and stand for a batch as many times as they go into it. Texts
    have `tokens` tokens, or as many as the longest bucket that the model can read; packed ones have
    the shapes that the few rows need.
    """
    mesh = make_mesh(devices, fsdp=config.fsdp or 1, tensor=config.tensor or 1)
    parts = row_parts(mesh)
    sample = sample_size(config.batch_size, parts)
    few = dataclasses.replace(config, batch_size=sample, split_lengths=False)
    training = open_training(few, mesh, shards=Shards.all(parts))
    tokenizer = training.encoder.tokenizer
    if tokens is not None and tokens > tokenizer.max_length:
        raise ConfigError(
            f"--tokens is at most the {tokenizer.max_length} that the model reads; got {tokens}"
        )
    tokens = tokens or tokenizer.width(min(max(config.buckets), tokenizer.max_length))
    factor, rows = config.batch_size // sample, batch_sharding(mesh)

    def of(path: tuple, x: Any) -> jax.ShapeDtypeStruct:
        names = [getattr(entry, "key", None) for entry in path]
        shape = (x.shape[0] * factor, *x.shape[1:])
        if names[-1] in TOKENS and "blocks" not in names:
            shape = (*shape[:-1], tokens)
        dtype = jax.dtypes.canonicalize_dtype(x.dtype)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=rows)

    return training, jax.tree_util.tree_map_with_path(of, training.tasks(0))


def lower_step(training: Training, batch: Any) -> Any:
    """Lowers the step of a training for batches of these shapes."""
    key = jax.eval_shape(lambda: training.root_key)
    return training.build_step().lower(training.abstract_state(), batch, key)


def compile_plan(
    config: Config, chip: Chip | None, devices: list[Any], *, tokens: int | None = None
) -> Plan:
    """Compiles the step of these flags, for chips or, if that is None, for real devices."""
    training, batch = open_abstract(config, devices, tokens)
    state = training.abstract_state()
    kept = {
        "parameters": bytes_on_a_chip(state.params),
        "optimizer": bytes_on_a_chip(state.opt_state),
        "frozen networks": bytes_on_a_chip(state.frozen),
        "batch": bytes_on_a_chip(batch),
    }
    limit = chip.memory if chip else memory_of(devices[0])
    cost, least, loss_bytes = None, None, 0
    begin = time.perf_counter()
    try:
        cost = program_cost(lower_step(training, batch).compile())
    except jax.errors.JaxRuntimeError as error:
        sizes = sizes_beyond_memory(str(error))
        if sizes is None:
            raise
        needed, limit = (*sizes, *(sum(kept.values()), limit)[len(sizes) :])
    else:
        needed, least = cost.memory_bytes, roofline(cost, chip) if chip else None
        loss_bytes = bytes_of_loss(training, batch)
    return Plan(
        devices=len(devices),
        mini_batch_size=config.mini_batch_size,
        batch_size=config.batch_size,
        parts=kept,
        cost=cost,
        loss_bytes=loss_bytes,
        needed_bytes=int(needed),
        limit_bytes=int(limit),
        least=least,
        seconds_to_compile=time.perf_counter() - begin,
    )


def sizes_beyond_memory(message: str) -> tuple[float, ...] | None:
    """Returns the bytes needed and available, as far as a message of the compiler names them.

    None: it is about something else, such as the small memories inside of a core.

    >>> sizes_beyond_memory("RESOURCE_EXHAUSTED: Used 1.5K of 1.0K hbm.")
    (1536.0, 1024.0)
    >>> sizes_beyond_memory("Ran out of memory in memory space vmem. Used 2M of 1M vmem.")
    """
    if re.search("memory space (?!hbm)", message):
        return None
    for pattern in TOO_MUCH:
        if found := pattern.search(message):
            sizes = zip(found.groups()[::2], found.groups()[1::2], strict=True)
            return tuple(float(number) * UNITS[unit] for number, unit in sizes)
    return None


def sample_size(batch_size: int, parts: int) -> int:
    """Returns how many rows stand for a batch: a divisor of it that the devices share evenly."""
    if batch_size % parts:
        raise ConfigError(f"batch_size {batch_size} is no multiple of {parts} devices")
    per_part = batch_size // parts
    fits = [n for n in range(1, per_part + 1) if per_part % n == 0 and n * parts <= SAMPLE]
    return parts * max(fits, default=1)


def bytes_of_loss(training: Training, batch: Any) -> int:
    """Compiles the step with an encoder that computes nothing; what is left is the loss's."""
    networks = training.tasks.networks
    width = networks.encoder.width

    def nothing(params: Any, tokens: Any, *, key: Any = None) -> jax.Array:
        x = tokens["input_ids"][..., :1].astype("float32") * params["x"]
        texts = tokens.get("texts")
        return x if texts is None or texts.ndim == 1 else x[:, None].repeat(texts.shape[1], 1)

    task = training.tasks.single
    objectives = () if task is None else task.objective.objectives
    if task is None or training.config.lora_rank is not None or training.config.freeze:
        return 0
    if any(objective.layers or objective.own or objective.decoded for objective in objectives):
        return 0
    stub = dataclasses.replace(networks.encoder, apply=nothing, params={"x": jnp.ones(width)})
    tasks = dataclasses.replace(
        training.tasks, networks=dataclasses.replace(networks, encoder=stub)
    )
    objective = tasks.build(training.mesh, ring=training.config.ring)
    alone = dataclasses.replace(training, objective=objective, params={"encoder": stub.params})
    return program_cost(lower_step(alone, batch).compile()).temporary_bytes


def bytes_on_a_chip(tree: Any) -> int:
    """Adds up the parts of arrays that one device has."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def memory_of(device: Any) -> float:
    """Returns the memory of a device of this machine; a share of the machine's, for CPUs."""
    stats = device.memory_stats() or {}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / jax.local_device_count()
    return stats.get("bytes_limit", pages)
