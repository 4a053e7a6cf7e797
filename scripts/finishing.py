"""What comes out of a finished training: the model, its card, a report, and the hub if asked."""

from __future__ import annotations

from typing import Any

import jax
from config import Config, as_json
from results import model_facts, show_results, versions, write_json
from training import Training

from jaxembed.encoders import Encoder
from jaxembed.encoders.hub import push_to_hub
from jaxembed.training import Checkpoints, TrainState, plot_run, read_log
from jaxembed.training.report import write_report
from jaxembed.transforms import ema, init_ema


def chosen_state(config: Config, checkpoints: Checkpoints, state: TrainState) -> TrainState:
    """Returns the state that is saved: the last, the best, or with averaged parameters."""
    if config.save_best and checkpoints.best_step is not None:
        return checkpoints.restore(state, step=checkpoints.best_step)
    steps = checkpoints.steps[-config.average_last :]
    if config.average_last == 1 or len(steps) < 2:
        return state
    average = init_ema(checkpoints.restore(state, step=steps[0]).params)
    for number, step in enumerate(steps[1:], start=2):
        params = checkpoints.restore(state, step=step).params
        average = ema(average, params, 1 - 1 / number)  # the mean of the first so many
    dtypes = jax.tree.map(lambda mean, old: mean.astype(old.dtype), average, state.params)
    return TrainState(**{**vars(state), "params": dtypes})


def finish(
    config: Config,
    training: Training,
    encoder: Encoder,
    identity: dict[str, Any],
    metric: str,
    step: int,
    console: Any,
) -> None:
    """Writes and shows what the run has come to; the model is that after `step` steps."""
    output = config.output
    records = read_log(output / "log.jsonl")
    measured = [one for one in records if one["kind"] == "evaluation" and one["step"] <= step]
    facts = model_facts(config, {**identity, "steps": step}, measured, metric)
    for name, its in training.bound.items():
        task = "" if len(training.bound) == 1 else f"{name}: "
        facts |= {f"{task}{what}": said for what, said in its.items()}
    folder = encoder.save(output / "model", facts=facts)
    plot_run(records, metric, output / "curve.png")
    table = show_results(console, measured, folder, output)
    train = [record for record in records if record["kind"] == "train"]
    write_report(
        output / "report.html",
        f"{config.model} trained on {', '.join(config.data)}",
        records,
        metric,
        {
            "Evaluation": table,
            "Data": {name or "rows": "; ".join(f.lines()) for name, f in training.facts.items()},
            "Steps": {
                "steps": len(train),
                "skipped, not finite": int(sum(record.get("skipped", 0) for record in train)),
                "seconds in all": sum(record["seconds"] for record in train),
            },
            "Versions": versions(),
            "Configuration": {
                name: value for name, value in as_json(config).items() if value not in (None, [])
            },
        },
    )
    write_json(output / "facts.json", {"facts": facts, "versions": versions()})
    if config.push_to_hub is not None:
        address = push_to_hub(folder, config.push_to_hub, private=config.private)
        console.say(f"hub      {address}")
