"""What a finished training says: the facts of its model card, and the table of results."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from config import SETTINGS, Config


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


def show_results(
    console: Any, measured: list[dict[str, Any]], folder: Path, output: Path
) -> list[tuple[str, ...]]:
    """Prints the metrics before and after, where everything is, and how to load the model.

    Returns all metrics before and after, with a header.
    """
    from rich.table import Table

    rows: list[tuple[str, ...]] = []
    if measured:
        before, after = measured[0], measured[-1]
        table = Table("metric", f"before (step {before['step']})", f"after (step {after['step']})")
        names = [name for name in after if name not in ("step", "kind") and name in before]
        metrics = [name for name in names if not name.startswith("health/")]
        for name in [name for name in metrics if name.endswith("@10")] or metrics:
            table.add_row(name, f"{before[name]:.4f}", f"{after[name]:.4f}")
        console.print(table)
        rows = [("metric", f"step {before['step']}", f"step {after['step']}")]
        rows += [(name, f"{before[name]:.4f}", f"{after[name]:.4f}") for name in names]
        write_json(output / "results.json", {"before": before, "after": after})
    console.say(
        f"model    {folder}\npicture  {output / 'curve.png'}\nreport   {output / 'report.html'}\n"
        f"results  {output / 'results.json'}\n"
        "\nimport jaxembed\n"
        f'encoder = jaxembed.load("{folder}")\n'
        'embeddings = encoder.encode(["bank: They pulled the canoe up on the bank."])'
    )
    return rows


def versions() -> dict[str, str]:
    """Returns the versions of what computes, and the device."""
    packages = ("jaxembed", "jax", "jaxlib", "flax", "optax", "transformers", "datasets", "numpy")
    found = {name: metadata.version(name) for name in packages}
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **found,
        "platform": platform.platform(),
        "devices": f"{len(jax.devices())} {device.device_kind}",
    }


def write_json(file: Path, content: Any) -> None:
    """Writes a file whole or not at all."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, default=str) + "\n")
    partial.replace(file)
