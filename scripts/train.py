"""Trains a text encoder: pairs in, a sentence-transformers folder out.

python scripts/train.py                                        the embedded demonstration
python scripts/train.py --model org/model --data pairs.parquet --columns query answer --output runs/mine
python scripts/train.py --resume runs/mine                     goes on after an interruption
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

Texts = tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """Trains a text encoder on pairs (or n-tuples, or scored pairs) of texts."""

    # What is trained, on what
    model: str = "all-MiniLM-L6-v2"
    """A folder, or the name of a model on the hub."""
    data: Texts = ("wordnet-gloss",)
    """The embedded set, files (parquet, json, jsonl, csv, tsv, arrow), a folder, or a hub name."""
    split: str = "train"
    """The split of a set that has several."""
    columns: Texts = ()
    """Columns in the order of the loss's roles, or role=column; found by name if empty."""
    hard_negatives: bool = False
    """Also uses the columns of negatives that the data has."""
    loss: str = "multiple_negatives_ranking"
    """One of multiple_negatives_ranking, multiple_negatives_symmetric_ranking, cosine_similarity."""
    output: Path = Path("runs/wordnet-gloss")
    """The folder of the run: log, checkpoints, picture, and the model in the end."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Goes on with the run in this folder, with the flags it was started with."""
    overwrite: bool = False
    """Deletes a run that is already in the output folder."""

    # The loss's own settings; each is only for the losses that know it
    scale: float | None = None
    """Inverse temperature of the ranking losses (20)."""
    directions: Texts | None = None
    """query_to_doc and any of query_to_query, doc_to_query, doc_to_doc."""
    partition_mode: Literal["joint", "per_direction"] | None = None
    """One softmax over all directions, or one per direction."""
    hardness_mode: Literal["in_batch_negatives", "hard_negatives", "all_negatives"] | None = None
    """Which negatives weigh more the harder they are."""
    hardness_strength: float | None = None
    """By how much."""
    false_negative_margin: float | None = None
    """A candidate that is closer than the positive by more is no negative."""

    # Steps
    steps: int = 120
    """Number of steps."""
    epochs: float | None = None
    """Number of passes over the data instead."""
    batch_size: int = 128
    """Rows of a step, over all devices."""
    batch_plan: Literal["no_duplicates", "plain"] = "no_duplicates"
    """Whether a batch may hold the same text twice."""
    learning_rate: float = 5e-5
    warmup_share: float = 0.1
    """Share of the steps in which the learning rate rises."""
    decay: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after that."""
    weight_decay: float = 0.01
    """On matrices, not on biases and norms."""
    clip_norm: float = 1.0
    """Limit of the global norm of the gradient."""
    dropout: bool = True
    """Whether the model drops out what its configuration says. On CPUs it costs as much as the rest."""
    seed: int = 0

    # Speed
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters, optimizer and loss are float32."""
    max_seq_length: int | None = None
    """Tokens that are kept of a text; the model's own limit if not given."""
    buckets: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Lengths that batches are padded to; each that occurs is compiled once."""
    split_lengths: bool = True
    """Encodes the longest quarter of each column apart, so that it does not pad the rest."""
    workers: int = 0
    """Processes that prepare batches; 0 is threads."""
    cache: Path | None = Path("~/.cache/jaxembed/compiled")
    """Where compiled programs are kept between runs; None keeps none."""

    # What is measured and kept
    evaluate: str = "auto"
    """A folder of corpus, queries and qrels (BEIR), or a file of scored pairs; auto is the set's own, none."""
    evaluate_columns: Texts = ()
    """The two text columns and the score of the scored pairs; found by name if empty."""
    evaluate_every: int = 60
    """Steps between evaluations."""
    query_prompt: str | None = None
    """Name of the model's prompt for queries (the first text column)."""
    document_prompt: str | None = None
    """Name of the model's prompt for documents (the other text columns)."""
    checkpoint_every: int = 60
    """Steps between checkpoints."""
    keep: int = 2
    """Checkpoints that are kept, besides the best."""
    save_best: bool = False
    """Saves the model of the best evaluation instead of the last."""
    log_every: int = 10
    """Steps between printed lines, where there is no terminal."""
    tensorboard: bool = False
    """Also writes TensorBoard files (extra log)."""


class ConfigError(ValueError):
    """Flags that do not go together; the message says which."""


SETTINGS = (
    "scale",
    "directions",
    "partition_mode",
    "hardness_mode",
    "hardness_strength",
    "false_negative_margin",
)
# What may differ between a run and its continuation.
FREE = ("output", "resume", "overwrite", "workers", "cache", "evaluate", "evaluate_columns",
        "evaluate_every", "checkpoint_every", "keep", "save_best", "log_every", "tensorboard")  # fmt: skip


def main(config: Config) -> int:
    """Runs the training; returns the exit status."""
    config = continued(config) if config.resume else config
    check(config)

    import jax

    if config.cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(config.cache.expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

    from jaxembed.encoders import load
    from jaxembed.objectives import REGISTRY
    from jaxembed.training.checkpoint import Checkpoints
    from jaxembed.training.log import RunLog, Screen, read_log
    from jaxembed.training.optimizer import adamw, warmup_schedule
    from jaxembed.training.plot import plot_run
    from jaxembed.training.sharding import batch_sharding, make_mesh, replicated
    from jaxembed.training.state import create_state
    from jaxembed.training.step import build_train_step
    from jaxembed.transforms import by_length

    # Model, loss and data: all that can be wrong is found before anything is written
    mesh = make_mesh()
    n_devices = mesh.devices.size
    if config.batch_size % n_devices:
        raise ConfigError(f"batch_size {config.batch_size} is no multiple of {n_devices} devices")
    encoder = load(
        config.model,
        dtype=config.dtype,
        max_seq_length=config.max_seq_length,
        dropout=config.dropout,
    )
    encoder = dataclasses.replace(
        encoder,
        compiled=jax.jit(encoder.apply, in_shardings=(replicated(mesh), batch_sharding(mesh))),
    )
    entry = REGISTRY[config.loss]
    settings = {
        name: getattr(config, name) for name in SETTINGS if getattr(config, name) is not None
    }
    objective = entry.build(by_length(encoder.apply), **settings)
    rows, plan, steps_per_epoch = open_data(config, entry.roles)
    steps = config.steps if config.epochs is None else math.ceil(config.epochs * steps_per_epoch)
    make_batch = batch_maker(config, entry.roles, rows, plan, encoder, n_devices)
    evaluator = open_evaluator(config)

    # State and step
    warmup_steps = int(config.warmup_share * steps)
    schedule = warmup_schedule(
        config.learning_rate, steps=steps, warmup_steps=warmup_steps, decay=config.decay
    )
    optimizer = adamw(schedule, weight_decay=config.weight_decay, clip_norm=config.clip_norm)
    state = create_state({"encoder": encoder.params}, optimizer, mesh)
    train_step = build_train_step(objective, optimizer, schedule, mesh)
    root_key = jax.random.key(config.seed) if config.dropout else None

    # The run's folder
    output = config.output
    identity = {
        **{name: value for name, value in as_json(config).items() if name not in FREE},
        "steps": steps,
        "data_fingerprint": rows.fingerprint,
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
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
        write_json(output / "config.json", as_json(config))
        checkpoints = Checkpoints(output / "checkpoints", identity, keep=config.keep)
    log = RunLog(output, from_step=start, tensorboard=config.tensorboard)
    screen = Screen(steps, start=start, every=config.log_every)
    screen.say(
        f"{config.model}: {len(rows):,} rows, {steps} steps of {config.batch_size},"
        f" {n_devices} {jax.devices()[0].platform} device(s), run in {output}"
    )
    if start:
        screen.say(f"goes on after step {start}")

    def evaluate(step: int) -> float | None:
        """Measures the model after `step` steps; returns the metric that ranks checkpoints."""
        if evaluator is None:
            return None
        begin = time.perf_counter()
        current = dataclasses.replace(encoder, params=state.params["encoder"])

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
    batches = load_batches(
        make_batch, start_step=start, n_steps=steps - start, workers=config.workers
    )
    first = None if start else evaluate(0)
    pending: tuple[int, dict[str, Any], dict[str, float]] | None = None
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
            tokens, places = count_tokens(batch)
            counted = {"pairs": int(batch["where"].sum()), "tokens": tokens, "places": places}
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
    trained = dataclasses.replace(encoder, params=state.params["encoder"])
    folder = trained.save(output / "model", facts=facts)
    plot_run(records, main_metric, output / "curve.png")
    show_results(screen.console, measured, folder, output)
    return 0
