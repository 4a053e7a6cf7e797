"""What a finished training says: the facts of its model card, and the table of results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
