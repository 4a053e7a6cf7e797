"""What startup.py measures: the first two steps of a training, in a process of its own.

    first_steps.py START CACHE FLAGS

START is the time at which the process was started, CACHE the folder of compiled programs, FLAGS a
JSON object of flags of scripts/train.py. The process does what that script does, but for its files
and its evaluations, and prints the seconds of each part and the packages that were imported.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from typing import Any

import jax
from config import STEPS, Config
from inputs import open_tasks

from jaxembed.data import Shards, load_batches
from jaxembed.training import adamw, build_train_step, create_state, make_mesh, warmup_schedule

HEAVY = (
    *("torch", "tensorflow", "pandas", "matplotlib", "sklearn", "scipy", "transformers"),
    *("datasets", "pyarrow", "aiohttp", "huggingface_hub", "orbax", "tensorstore", "grain"),
    *("wandb", "flax", "treescope", "optax", "jax", "numpy", "rich", "tyro"),
)


class Clock:
    """Adds up the seconds of each part, of the first since `start`."""

    def __init__(self, start: float):
        self.seconds: dict[str, float] = defaultdict(float)
        self.last = start

    def lap(self, part: str) -> None:
        """Ends a stretch of the part."""
        now = time.time()
        self.seconds[part] += now - self.last
        self.last = now


def main(start: float, cache: str, flags: dict[str, Any]) -> None:
    """Trains for two steps."""
    clock = Clock(start)
    clock.lap("imports")
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    flags["buckets"] = tuple(flags["buckets"])
    config = Config(**flags)
    mesh = make_mesh()
    tasks = open_tasks(config, Shards.all(mesh.size))
    objective = tasks.build(mesh=mesh)
    root_key, init_key = jax.random.split(jax.random.key(config.seed))
    params = tasks.init(init_key)
    batches = load_batches(tasks, start_step=0, n_steps=2)
    batch = next(batches)
    clock.lap("loading")

    tasks.check(objective, params)
    schedule = warmup_schedule(config.learning_rate, steps=config.steps or STEPS, warmup_steps=1)
    optimizer = adamw(schedule, weight_decay=config.weight_decay, clip_norm=config.clip_norm)
    train_step = build_train_step(objective, optimizer, schedule, mesh)
    clock.lap("tracing")
    state = jax.block_until_ready(create_state(params, optimizer, mesh))
    clock.lap("compiling")
    lowered = train_step.lower(state, batch, root_key)
    clock.lap("tracing")
    program = lowered.compile()
    clock.lap("compiling")
    state, _ = jax.block_until_ready(program(state, batch, root_key))
    clock.lap("first step")
    modules = sys.modules.copy()
    batch = next(batches)
    clock.last = time.time()
    _, metrics = jax.block_until_ready(program(state, batch, root_key))
    clock.lap("second step")

    models = {name.split(".")[2] for name in modules if name.startswith("transformers.models.")}
    imported = [name for name in HEAVY if name in modules]
    imported += [f"transformers.models.{name}" for name in sorted(models)]
    answer = {"seconds": clock.seconds, "imported": imported, "loss": float(metrics["loss"])}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
