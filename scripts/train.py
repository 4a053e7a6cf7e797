"""Trains a text encoder: texts in, a sentence-transformers folder out.

The embedded demonstration, your own data, and an interrupted run that goes on:

    python scripts/train.py
    python scripts/train.py --model org/model --data my.parquet --output runs/my
    python scripts/train.py --resume runs/my
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from config import Config, ConfigError, as_json, check, continued
from inputs import fingerprint, open_evaluator
from results import model_facts, show_results, write_json
from training import open_training

import jaxembed
from jaxembed.data import load_batches
from jaxembed.training import (
    LOST,
    Checkpoints,
    HostError,
    Hosts,
    LostHostError,
    RunLog,
    Screen,
    end_process,
    join_cluster,
    join_rows,
    make_mesh,
    place_rows,
    plot_run,
    read_log,
)


def main(config: Config, hosts: Hosts | None = None) -> int:
    """Runs the training, with other hosts if there are any; returns the exit status."""
    hosts = hosts or Hosts()
    config = continued(config) if config.resume else config
    check(config)
    hosts.agree({**as_json(config), "code": code_fingerprint(), "jax": jax.__version__})

    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax: "did not provide metrics"
    if config.cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(config.cache.expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

    # Model, losses and data: all that can be wrong is found before anything is written
    mesh = make_mesh(fsdp=config.fsdp or 1, tensor=config.tensor or 1)
    training = open_training(config, mesh)
    tasks, steps = training.tasks, training.steps
    evaluator = open_evaluator(config)
    hosts.agree({**training.fingerprints, "devices": describe(jax.local_devices())})
    state = training.create_state()
    train_step = training.build_step()

    # The run's folder
    output = config.output
    file = output / "config.json"  # an older run has fewer flags, here and in its checkpoints
    flags = json.loads(file.read_text()) if config.resume else as_json(config)
    if hosts.writes and not config.resume:
        if config.overwrite:
            shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True, exist_ok=True)
        write_json(file, flags)
    hosts.exchange("folder", True)
    identity = training.identity(flags)
    checkpoints = Checkpoints(output / "checkpoints", identity, keep=config.keep)
    start = 0
    if checkpoints.latest_step is not None:
        state = checkpoints.restore(state)
        start = int(state.step)
    log = RunLog(output if hosts.writes else None, from_step=start, tensorboard=config.tensorboard)
    screen = Screen(steps, start=start, every=config.log_every, quiet=not hosts.writes)
    screen.say(
        f"{config.model}: {sum(len(task.rows) for task in tasks.tasks.values()):,} rows,"
        f" {steps} steps of {config.batch_size}, {describe(jax.devices())}"
        f"{f' of {hosts.count} hosts' if hosts.count > 1 else ''}, run in {output}"
    )
    if start:
        screen.say(f"goes on after step {start}")

    def evaluate(step: int) -> float | None:
        """Measures the model after `step` steps; returns the metric that ranks checkpoints."""
        if evaluator is None:
            return None
        begin = time.perf_counter()
        current = training.trained(state)

        def embed(texts: list[str], *, role: str | None) -> Any:
            name = config.query_prompt if role == "query" else config.document_prompt
            own = texts[hosts.index :: hosts.count]
            return join_rows(current.encode(own, prompt_name=name), len(texts))

        values = evaluator.evaluate(embed)
        log.write(step, "evaluation", values)
        seconds = time.perf_counter() - begin
        value = values[evaluator.main_metric]
        screen.say(f"step {step}: {evaluator.main_metric} {value:.4f}  ({seconds:.0f} s)")
        return value

    def together(batch: Any) -> tuple[Any, dict[str, int], int]:
        """Tells the other hosts what this one has; returns the batch, its counts and the signal."""
        here = {"shapes": tasks.shapes(batch), "counts": tasks.count(batch), "signal": stop.signal}
        everywhere = hosts.exchange("step", here)
        counts = {name: sum(host["counts"][name] for host in everywhere) for name in here["counts"]}
        signal = max(host["signal"] for host in everywhere)
        if hosts.count > 1:
            batch = place_rows(tasks.share(batch, [host["shapes"] for host in everywhere]), mesh)
        return batch, counts, signal

    # The loop. The metrics of a step are read while the next one runs
    stop = StopRequest()
    batches = load_batches(tasks, start_step=start, n_steps=steps - start, workers=config.workers)
    if start == 0:
        evaluate(0)
    pending: tuple[int, dict[str, Any], dict[str, int]] | None = None
    clock = time.perf_counter()

    def report() -> None:
        """Writes the metrics of the step before the running one."""
        nonlocal clock
        if pending is None:
            return
        step, metrics, counted = pending
        values = {name: float(value) for name, value in metrics.items()}
        if not math.isfinite(values["loss"]):
            raise ConfigError(
                f"the loss of step {step} is {values['loss']}; lower the learning_rate"
            )
        now = time.perf_counter()
        seconds, clock = now - clock, now
        values |= {
            "seconds": seconds,
            "pairs_per_s": counted["pairs"] / seconds,
            "tokens_per_s": counted["tokens"] / seconds,
            "padding_share": 1 - counted["tokens"] / counted["places"],
        }
        log.write(step, "train", values)
        screen.step(step, values)

    try:
        for step, own in enumerate(batches, start=start + 1):
            batch, counted, signal_number = together(own)
            state, metrics = train_step(state, batch, training.root_key)
            report()
            pending = (step, metrics, counted)
            stopping = signal_number > 0 and step < steps
            metric = None
            if not stopping and (step % config.evaluate_every == 0 or step == steps):
                report()
                pending = None
                metric = evaluate(step)
                clock = time.perf_counter()
            due = step % config.checkpoint_every == 0 or step == steps
            if stopping or due or metric is not None:
                checkpoints.save(step, state, metric=metric)
            if stopping:
                report()
                screen.close()
                checkpoints.close()
                if hosts.writes:
                    print(f"stopped after step {step}; go on with: {command(output)}", flush=True)
                return 128 + signal_number
    finally:
        screen.close()
        log.close()

    # What comes out
    if config.save_best and checkpoints.best_step is not None:
        state = checkpoints.restore(state, step=checkpoints.best_step)
    checkpoints.close()
    records = read_log(output / "log.jsonl")
    measured = [record for record in records if record["kind"] == "evaluation"]
    main_metric = evaluator.main_metric if evaluator else ""
    facts = model_facts(config, identity, measured, main_metric)
    encoder = training.trained(state)
    if hosts.writes:
        folder = encoder.save(output / "model", facts=facts)
        plot_run(records, main_metric, output / "curve.png")
        show_results(screen.console, measured, folder, output)
    hosts.exchange("done", True)
    return 0


class StopRequest:
    """Ctrl-C and SIGTERM end the run after the step that is running, a second Ctrl-C at once.

    One of the hosts is enough: before each step they tell each other what they were told.
    """

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)

    def _request(self, number: int, frame: object) -> None:
        self.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping after this step, and saving", file=sys.stderr, flush=True)


def command(folder: Path) -> str:
    """Returns the command that goes on with a run."""
    return f"python scripts/train.py --resume {folder}"


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

    def end(message: str) -> None:
        end_process(f"{message}; start all hosts again with --resume {output}")

    try:
        given = config.coordinator, config.n_hosts, config.host_index
        hosts = join_cluster(*given, timeout=config.host_timeout_s, on_loss=end)
        status, problem = main(config, hosts), ""
    except ValueError as error:  # wrong flags, data, model or checkpoint, or hosts that differ
        status, problem, agreed = 2, f"{error}", isinstance(error, HostError)
    except OSError as error:  # a full disk, a folder that may not be written
        status, problem = 1, f"{error}; what was saved before is whole, go on with --resume"
    except LostHostError as error:
        status, problem = LOST, f"{error}"
    except BaseException as error:
        if hosts.count == 1:
            raise
        if isinstance(error, jax.errors.JaxRuntimeError):
            time.sleep(config.host_timeout_s)  # if a host is lost, another thread ends this process
        traceback.print_exc()
        status, problem = 1, f"{error!r}"
    if problem:
        print(f"error: {problem}", file=sys.stderr, flush=True)
    hosts.leave("" if agreed else problem)  # where they differ, all of them see it
    if problem and hosts.count > 1:
        sys.stdout.flush()
        os._exit(status)  # JAX would wait for the others first
    return status


if __name__ == "__main__":
    sys.exit(run(tyro.cli(Config, description=__doc__)))
