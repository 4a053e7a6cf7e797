"""Trains a text encoder: texts in, a sentence-transformers folder out.

The embedded demonstration, your own data, and an interrupted run that goes on:

    python scripts/train.py
    python scripts/train.py --model org/model --data my.parquet --output runs/my
    python scripts/train.py --resume runs/my
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import huge_pages  # noqa: F401 - before all else: it starts the process anew
import jax
import numpy as np
import tyro
from compiled_programs import keep_programs
from config import PLAN, Config, ConfigError, as_json, check, check_output, continued, plan_of
from finishing import chosen_state, finish
from held_out import HeldOutLoss
from inputs import fingerprint
from loop import Loop
from measuring import Measuring
from problems import end, problem_of
from results import write_json
from run_folder import check_deletable
from suites import open_evaluation
from training import Training, open_training

import jaxembed
from jaxembed.console import write_anything
from jaxembed.folder_lock import clear, locked
from jaxembed.forms import read_json
from jaxembed.settings import check_fields
from jaxembed.training import (
    LOST,
    Checkpoints,
    HostError,
    Hosts,
    LostHostError,
    RunLog,
    Screen,
    TrainState,
    end_process,
    join_cluster,
    library_log,
    make_mesh,
    open_logger,
    read_log,
)

KEPT = "what was saved before is whole, go on with --resume"
SMALLER = "set --mini-batch-size, which encodes fewer rows at once, or lower --batch-size"


def main(config: Config, hosts: Hosts | None = None) -> int:
    """Runs the training, with other hosts if there are any; returns the exit status."""
    hosts = hosts or Hosts()
    config = continued(config) if config.resume else config
    check(config)
    if config.overwrite and not config.resume:
        check_deletable(config)
    hosts.agree({**as_json(config), "code": code_fingerprint(), "jax": jax.__version__})

    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax: "did not provide metrics"
    keep_programs(config.cache)

    # Model, losses and data: all that can be wrong is found before anything is written
    mesh = make_mesh(fsdp=config.fsdp or 1, tensor=config.tensor or 1)
    training = open_training(config, mesh)
    held_out = partial(HeldOutLoss, training, hosts)
    say = partial(print, flush=True) if hosts.writes else str
    evaluator = open_evaluation(config, training.encoder.similarity, held_out, say=say)
    measuring = Measuring(config, evaluator, training.steps)
    check_average(config, measuring, training.steps)
    found = {**training.fingerprints, "columns": training.bound}
    hosts.agree({**found, "devices": describe(jax.local_devices())})
    state = training.create_state()

    folder = config.output if hosts.writes else None
    with locked(folder) if folder else contextlib.nullcontext(), library_log(folder):
        return train(config, hosts, training, measuring, state)


def train(
    config: Config, hosts: Hosts, training: Training, measuring: Measuring, state: TrainState
) -> int:
    """Trains in the run's folder, from its last checkpoint if there is one; returns the status."""
    steps, output = training.steps, config.output
    file = output / "config.json"  # an older run has fewer flags, here and in its checkpoints
    flags = read_json(file, {str: object}) if config.resume else as_json(config)
    bound = flags.pop("bound", training.bound)  # older runs do not have it
    if bound != training.bound:
        raise ConfigError(f"the run read {bound} of the data, which is now {training.bound}")
    planned, plan = plan_of(flags), plan_of(as_json(config))
    flags |= {name: getattr(config, name) for name in PLAN}
    if hosts.writes and not config.resume:
        check_output(config)
        if config.overwrite:
            clear(output)
        write_json(file, {**flags, "bound": training.bound})
    hosts.exchange("folder", True)
    identity = training.identity(flags)
    keep = max(config.keep, config.average_last)
    may = {"growing": ("steps",), "free": ("epochs",)}
    checkpoints = Checkpoints(output / "checkpoints", identity, keep=keep, **may)
    if checkpoints.latest_step is not None:
        state = checkpoints.restore(state)
    if hosts.writes and plan != planned:
        write_json(file, {**flags, "bound": training.bound})
    start = int(state.step)
    before = read_log(output / "log.jsonl")
    log = RunLog(None)
    if hosts.writes:
        loggers = [open_logger(name, output, flags, start) for name in config.log_to]
        log = RunLog(output, from_step=start, loggers=loggers)
    if start:
        measuring.remember(record for record in before if record["step"] <= start)
    screen = Screen(steps, start=start, every=config.log_every, quiet=not hosts.writes)
    screen.say(
        f"{config.model}: {size_of(training)}, {steps} steps of {config.batch_size},"
        f" {describe(jax.devices())}"
        f"{f' of {hosts.count} hosts' if hosts.count > 1 else ''}, run in {output}"
    )
    for name, facts in training.facts.items():
        for line in facts.lines():
            screen.say(f"  {name + ': ' if name else ''}{line}")
    for line in training.lines(measuring.evaluator):
        screen.say(f"  {line}")
    if start:
        screen.say(f"goes on after step {start}")
    if plan != planned:
        screen.say(
            f"{plan} instead of {planned}: from step {start + 1} on, the learning rate follows the"
            f" schedule of {steps} steps and is {np.asarray(training.schedule(start)):.2e} there"
        )

    try:
        loop = Loop(config, hosts, training, measuring, checkpoints, log, screen)
        state, signal_number = loop.run(state)
    except FloatingPointError:  # the checkpoint that is being saved shall be whole
        checkpoints.close()
        raise
    finally:
        screen.close()
        log.close()
    if signal_number:
        step = int(state.step)
        checkpoints.close()
        if hosts.writes:
            print(f"stopped after step {step}; go on with: {command(output)}", flush=True)
        return 128 + signal_number

    # What comes out
    state = chosen_state(config, checkpoints, state)
    encoder, step = training.trained(state), int(state.step)
    checkpoints.close()
    if hosts.writes:
        finish(config, training, encoder, identity, measuring.metric, step, screen.console)
    hosts.exchange("done", True)
    return 0


def check_average(config: Config, measuring: Measuring, steps: int) -> None:
    """Refuses to average more checkpoints than the run will make."""
    if config.average_last == 1:
        return
    made = sum(
        step % config.checkpoint_every == 0 or step == steps or measuring.due(step, steps)
        for step in range(1, steps + 1)
    )
    if made < config.average_last:
        raise ConfigError(
            f"--average-last {config.average_last} is more than the {made} checkpoints of this run;"
            f" lower --checkpoint-every, which is {config.checkpoint_every}"
        )


def command(folder: Path) -> str:
    """Returns the command that goes on with a run."""
    return f"python scripts/train.py --resume {folder}"


def size_of(training: Training) -> str:
    """Counts the rows of all tasks."""
    sizes = [task.size for task in training.tasks.tasks.values()]
    known = f"{sum(size or 0 for size in sizes):,} rows"
    streams = sizes.count(None)
    return known if not streams else f"{streams} stream{'s' if streams > 1 else ''} and {known}"


def describe(devices: Sequence[Any]) -> str:
    """Counts devices and says what they are."""
    return f"{len(devices)} {devices[0].platform} device{'s' if len(devices) > 1 else ''}"


def code_fingerprint() -> str:
    """Returns a short name for the code that runs: that of the package and of the scripts."""
    folders = (Path(jaxembed.__file__).parent, Path(__file__).parent)
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return fingerprint(np.frombuffer(file.read_bytes(), np.uint8) for file in files)


def run(config: Config) -> int:
    """Meets the other hosts, trains, and turns errors into one line and an exit status."""
    hosts, output, agreed = Hosts(), config.resume or config.output, False

    def lost(message: str) -> None:
        end_process(f"{message}; start all hosts again with --resume {output}")

    try:
        given = config.coordinator, config.n_hosts, config.host_index
        check_fields(config)
        options = {"timeout": config.host_timeout_s, "token": str(output), "on_loss": lost}
        hosts = join_cluster(*given, **options)
        status, problem = main(config, hosts), ""
    except FloatingPointError as error:
        status, problem, agreed = 3, f"{error}", True
    except LostHostError as error:
        status, problem = LOST, f"{error}"
    except BaseException as error:
        if hosts.count > 1 and isinstance(error, jax.errors.JaxRuntimeError):
            time.sleep(config.host_timeout_s)  # if a host is lost, another thread ends this process
        kept = KEPT if (output / "checkpoints").exists() else ""
        status, problem = problem_of(error, kept=kept, smaller=SMALLER)
        agreed = isinstance(error, HostError)
    if problem:
        with contextlib.suppress(OSError):  # nobody reads it any more
            print(f"error: {problem}", file=sys.stderr, flush=True)
    hosts.leave("" if agreed else problem)  # where they differ, all of them see it
    if problem:
        end(status)  # JAX would wait for the others first, and orbax for what it could not write
    return status


if __name__ == "__main__":
    write_anything()
    sys.exit(run(tyro.cli(Config, description=__doc__)))
