"""Trains a text encoder: texts in, a sentence-transformers folder out.

The embedded demonstration, your own data, and an interrupted run that goes on:

    python scripts/train.py
    python scripts/train.py --model org/model --data my.parquet --output runs/my
    python scripts/train.py --resume runs/my
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import tyro
from config import FREE, SETTINGS, Config, ConfigError, as_json, check, continued
from inputs import fingerprint, open_evaluator, open_tasks

from jaxembed.data import load_batches
from jaxembed.encoders import Encoder
from jaxembed.training import (
    Checkpoints,
    RunLog,
    Screen,
    adamw,
    build_train_step,
    create_state,
    init_lora,
    layer_scales,
    make_mesh,
    merge_lora,
    plot_run,
    read_log,
    trainable,
    warmup_schedule,
    with_frozen,
    with_lora,
)


def main(config: Config) -> int:
    """Runs the training; returns the exit status."""
    config = continued(config) if config.resume else config
    check(config)

    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax: "did not provide metrics"
    if config.cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(config.cache.expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

    # Model, losses and data: all that can be wrong is found before anything is written
    mesh = make_mesh()
    tasks = open_tasks(config, n_devices=mesh.size)
    encoder = tasks.networks.encoder
    objective = tasks.build(mesh=mesh, mini_batch_size=config.mini_batch_size)
    root_key, init_key = jax.random.split(jax.random.key(config.seed))
    params = tasks.init(init_key)
    tasks.check(objective, params)
    steps = config.steps if config.epochs is None else tasks.n_steps(config.epochs)
    evaluator = open_evaluator(config)

    # What learns: all parameters, some of them, or adapters
    frozen = tasks.networks.frozen_params
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

    # State and step
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
    state = create_state(params, optimizer, mesh, frozen=frozen)
    train_step = build_train_step(objective, optimizer, schedule, mesh)

    # The run's folder
    output = config.output
    file = output / "config.json"  # an older run has fewer flags, here and in its checkpoints
    flags = json.loads(file.read_text()) if config.resume else as_json(config)
    identity = {
        **{name: value for name, value in flags.items() if name not in FREE},
        "steps": steps,
        "data_fingerprint": fingerprint(task.hashes for task in tasks.tasks.values()),
        "model_fingerprint": fingerprint(jax.tree.leaves(encoder.params)),
        "frozen_fingerprint": fingerprint(jax.tree.leaves(tasks.networks.frozen_params)),
        "objectives": {name: task.objective.name for name, task in tasks.tasks.items()},
    }
    start = 0
    if config.resume:
        checkpoints = Checkpoints(output / "checkpoints", identity, keep=config.keep)
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(state)
            start = int(state.step)
    else:
        if config.overwrite:
            shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True, exist_ok=True)
        write_json(file, flags)
        checkpoints = Checkpoints(output / "checkpoints", identity, keep=config.keep)
    log = RunLog(output, from_step=start, tensorboard=config.tensorboard)
    screen = Screen(steps, start=start, every=config.log_every)
    screen.say(
        f"{config.model}: {sum(len(task.rows) for task in tasks.tasks.values()):,} rows,"
        f" {steps} steps of {config.batch_size}, {mesh.size} {jax.devices()[0].platform} device(s),"
        f" run in {output}"
    )
    if start:
        screen.say(f"goes on after step {start}")

    def trained() -> Encoder:
        """Returns the encoder as it is now."""
        params = state.params["encoder"]
        if config.lora_rank is not None:
            params = merge_lora(encoder.params, params, alpha=config.lora_alpha)
        return dataclasses.replace(encoder, params=params)

    def evaluate(step: int) -> float | None:
        """Measures the model after `step` steps; returns the metric that ranks checkpoints."""
        if evaluator is None:
            return None
        begin = time.perf_counter()
        current = trained()

        def embed(texts: list[str], *, role: str | None) -> Any:
            name = config.query_prompt if role == "query" else config.document_prompt
            return current.encode(texts, prompt_name=name)

        values = evaluator.evaluate(embed)
        log.write(step, "evaluation", values)
        seconds = time.perf_counter() - begin
        value = values[evaluator.main_metric]
        screen.say(f"step {step}: {evaluator.main_metric} {value:.4f}  ({seconds:.0f} s)")
        return value

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
        for step, batch in enumerate(batches, start=start + 1):
            state, metrics = train_step(state, batch, root_key)
            report()
            counted = tasks.count(batch)
            pending = (step, metrics, counted)
            last = step == steps or stop.requested
            evaluated = step % config.evaluate_every == 0 or step == steps
            metric = None
            if evaluated and not (stop.requested and step < steps):
                report()
                pending = None
                metric = evaluate(step)
                clock = time.perf_counter()
            if last or metric is not None or step % config.checkpoint_every == 0:
                checkpoints.save(step, state, metric=metric)
            if stop.requested and step < steps:
                report()
                screen.close()
                checkpoints.close()
                print(f"stopped after step {step}; go on with: {command(output)}", flush=True)
                return stop.status
    finally:
        screen.close()
        log.close()

    # What comes out
    if config.save_best and checkpoints.best_step is not None:
        state = checkpoints.restore(state, step=checkpoints.best_step)
    checkpoints.close()
    records = read_log(log.file)
    measured = [record for record in records if record["kind"] == "evaluation"]
    main_metric = evaluator.main_metric if evaluator else ""
    facts = model_facts(config, identity, measured, main_metric)
    folder = trained().save(output / "model", facts=facts)
    plot_run(records, main_metric, output / "curve.png")
    show_results(screen.console, measured, folder, output)
    return 0


class StopRequest:
    """Ctrl-C and SIGTERM end the run after the step that is running, a second Ctrl-C at once."""

    def __init__(self) -> None:
        self.status = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)

    @property
    def requested(self) -> bool:
        return self.status != 0

    def _request(self, number: int, frame: object) -> None:
        self.status = 128 + number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping after this step, and saving", file=sys.stderr, flush=True)


def command(folder: Path) -> str:
    """Returns the command that goes on with a run."""
    return f"python scripts/train.py --resume {folder}"


def model_facts(
    config: Config, identity: Mapping[str, Any], measured: list[dict[str, Any]], metric: str
) -> dict[str, Any]:
    """Collects what the model card says of the training."""
    partly = {
        "freeze": ", ".join(config.freeze),
        "layer_decay": config.layer_decay,
        "lora_rank": config.lora_rank,
    }
    facts = {
        "base model": config.model,
        "data": ", ".join(config.data),
        "loss": ", ".join(identity["objectives"].values()),
        **{name: getattr(config, name) for name in SETTINGS if getattr(config, name) is not None},
        **{name: value for name, value in partly.items() if value},
        "steps": identity["steps"],
        "batch size": config.batch_size,
        "learning rate": config.learning_rate,
        "precision": config.dtype,
        "seed": config.seed,
    }
    if measured:
        facts[f"{metric} before"] = f"{measured[0][metric]:.4f}"
        facts[f"{metric} after"] = f"{measured[-1][metric]:.4f}"
    return facts


def show_results(console: Any, measured: list[dict[str, Any]], folder: Path, output: Path) -> None:
    """Prints the metrics before and after, where everything is, and how to load the model."""
    from rich.table import Table

    if measured:
        before, after = measured[0], measured[-1]
        table = Table("metric", f"before (step {before['step']})", f"after (step {after['step']})")
        shown = [name for name in after if name.endswith("@10")] or list(after)[2:]
        for name in shown:
            table.add_row(name, f"{before[name]:.4f}", f"{after[name]:.4f}")
        console.print(table)
        write_json(output / "results.json", {"before": before, "after": after})
    console.print(
        f"model    {folder}\npicture  {output / 'curve.png'}\nresults  {output / 'results.json'}\n"
        "\nimport jaxembed\n"
        f'encoder = jaxembed.load("{folder}")\n'
        'embeddings = encoder.encode(["bank: They pulled the canoe up on the bank."])',
        highlight=False,
        soft_wrap=True,
    )


def write_json(file: Path, content: Any) -> None:
    """Writes a file whole or not at all."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(file)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Config, description=__doc__)))
    except ValueError as error:  # wrong flags, data, model or checkpoint
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, a folder that may not be written
        print(
            f"error: {error}; what was saved before is whole, go on with --resume", file=sys.stderr
        )
        sys.exit(1)
