"""A training as its flags describe it: what train.py runs, and plan.py compiles without running."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import optax
from config import FREE, STEPS, Config, ConfigError, as_json
from evaluation_lines import evaluation_lines
from inputs import fingerprint, open_tasks
from jax import Array
from jax.sharding import Mesh
from prompts import Prompts, model_prompts, training_line

from jaxembed.data import DataFacts, Shards
from jaxembed.encoders import Encoder, tensor_axis
from jaxembed.evaluators import Evaluator
from jaxembed.tasks import Tasks
from jaxembed.training import (
    TrainState,
    abstract_state,
    adamw,
    build_train_step,
    create_state,
    gather,
    init_lora,
    layer_scales,
    merge_lora,
    own_row_parts,
    row_parts,
    trainable,
    warmup_schedule,
    with_frozen,
    with_lora,
)
from jaxembed.training.step import StepFn
from jaxembed.typing import ObjectiveFn, Params

HEALTHY = 256  # embeddings of a step or an evaluation whose health is measured


@dataclass(frozen=True)
class Training:
    """What a run consists of, checked, before anything is computed or written."""

    config: Config
    mesh: Mesh
    tasks: Tasks
    objective: ObjectiveFn
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    params: Params  # what learns, at the start
    frozen: Params
    steps: int
    root_key: Array

    @property
    def encoder(self) -> Encoder:
        """The encoder as it was loaded."""
        return self.tasks.networks.encoder

    def create_state(self) -> TrainState:
        """Creates the state of step 0."""
        return create_state(
            self.params, self.optimizer, self.mesh, frozen=self.frozen, tensor_axis=tensor_axis
        )

    def abstract_state(self) -> TrainState:
        """Returns the shapes and places of the state."""
        return abstract_state(
            self.params, self.optimizer, self.mesh, frozen=self.frozen, tensor_axis=tensor_axis
        )

    def build_step(self) -> StepFn:
        """Builds the training step."""
        return build_train_step(
            self.objective,
            self.optimizer,
            self.schedule,
            self.mesh,
            tensor_axis=tensor_axis,
            accumulation_steps=self.config.gradient_accumulation_steps,
        )

    def trained(self, state: TrainState) -> Encoder:
        """Returns the encoder as it is now; every host must call it."""
        params = state.params["encoder"]
        params = gather(params) if jax.process_count() > 1 else params
        if self.config.lora_rank is not None:
            params = merge_lora(self.encoder.params, params, alpha=self.config.lora_alpha)
        return dataclasses.replace(self.encoder, params=params)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Short names for the contents of data and models."""
        networks = self.tasks.networks
        return {
            "data_fingerprint": fingerprint(
                part for task in self.tasks.tasks.values() for part in task.content()
            ),
            "model_fingerprint": fingerprint(jax.tree.leaves(self.encoder.params)),
            "frozen_fingerprint": fingerprint(jax.tree.leaves(networks.frozen_params)),
        }

    @cached_property
    def prompts(self) -> Prompts:
        """The prompts of evaluated texts; queries have those that flags give the first texts."""
        config = self.config
        found = model_prompts(
            self.encoder,
            query=config.query_prompt,
            document=config.document_prompt,
            disabled=config.no_prompts,
        )
        before = dict(prompt.split("=", 1) for prompt in config.prompts)
        first, *others = next(iter(self.tasks.tasks.values())).rows.text_roles
        document = before.get(others[0] if others else first)
        given = {"query": before.get(first), "document": document, None: document}
        texts = {role: given[role] or text for role, text in found.texts.items()}
        return dataclasses.replace(found, texts=texts)

    def lines(self, evaluator: Evaluator | None) -> list[str]:
        """Says which prompts and what comparison are used, as far as there is anything to say."""
        tasks = self.tasks.tasks.items()
        found = [training_line(self.encoder, task, name) for name, task in tasks]
        if evaluator is not None:
            similarity = self.config.similarity or self.encoder.similarity
            found += evaluation_lines(self.encoder, self.prompts, similarity, evaluator)
        return [line for line in found if line]

    @property
    def bound(self) -> dict[str, dict[str, str]]:
        """Which column of the data plays which role, and the words of labels, by task."""
        facts = {}
        for name, task in self.tasks.tasks.items():
            words = {role: ", ".join(its) for role, its in task.rows.words.items()}
            facts[name or "columns"] = {"columns": task.rows.taken, **words}
        return facts

    @cached_property
    def facts(self) -> dict[str, DataFacts]:
        """What there is to know of the data of each task."""
        return {name: task.facts() for name, task in self.tasks.tasks.items()}

    def identity(self, flags: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns what a checkpoint must have in common with the run; `flags` are those it has."""
        flags = as_json(self.config) if flags is None else flags
        return {
            **{name: value for name, value in flags.items() if name not in FREE},
            "steps": self.steps,
            **self.fingerprints,
            "objectives": {name: task.objective.name for name, task in self.tasks.tasks.items()},
        }


def open_training(config: Config, mesh: Mesh, *, shards: Shards | None = None) -> Training:
    """Opens models and data, and refuses what does not go together.

    `shards` are the parts of a batch that this process makes; those of its devices if None.
    """
    shards = shards or Shards(own_row_parts(mesh), row_parts(mesh))
    tasks = open_tasks(config, shards)
    _check_accumulation(config, tasks)
    objective = tasks.build(
        mesh, mini_batch_size=config.mini_batch_size, ring=config.ring, sample=HEALTHY
    )
    root_key, init_key = jax.random.split(jax.random.key(config.seed))
    params = tasks.init(init_key)
    # Of several hosts this one makes a part of a batch, too little for all devices
    tasks.check(objective if shards.whole else tasks.build(), params)
    steps = config.steps or (tasks.n_steps(config.epochs) if config.epochs else STEPS)

    # What learns: all parameters, some of them, or adapters
    encoder, frozen = tasks.networks.encoder, tasks.networks.frozen_params
    if config.lora_rank is not None:
        lora_key = jax.random.fold_in(init_key, len(tasks.tasks))  # the tasks have those before
        rank, targets = config.lora_rank, config.lora_targets
        adapters = init_lora(lora_key, encoder.params, rank=rank, targets=targets)
        objective = with_lora(objective, alpha=config.lora_alpha)
        params, frozen = {**params, "encoder": adapters}, {**(frozen or {}), "base": encoder.params}
    learns = trainable(params, config.freeze) if config.freeze else None
    if learns is not None:
        objective = with_frozen(objective, learns)
    scales = None if config.layer_decay is None else layer_scales(params, config.layer_decay)

    warmup_steps = int(config.warmup_share * steps)
    schedule = warmup_schedule(
        config.learning_rate, steps=steps, warmup_steps=warmup_steps, decay=config.decay
    )
    optimizer = adamw(
        schedule,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        trainable=learns,
        scales=scales,
    )
    return Training(
        config, mesh, tasks, objective, optimizer, schedule, params, frozen, steps, root_key
    )


def _check_accumulation(config: Config, tasks: Tasks) -> None:
    """Refuses to cut batches of losses that compare their rows."""
    if config.gradient_accumulation_steps == 1:
        return
    if tasks.single is None:
        raise ConfigError("--gradient-accumulation-steps is for one task, not for --tasks")
    for objective in tasks.single.objective.objectives:
        if not objective.by_rows:
            raise ConfigError(
                f"{objective.name} compares the rows of a batch, and parts of it would give another"
                " gradient; use --mini-batch-size, which gives the same in little memory, rather"
                " than --gradient-accumulation-steps"
            )
