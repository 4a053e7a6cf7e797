"""The picture of a run: loss and evaluation over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def plot_run(records: Sequence[dict[str, Any]], metric: str, file: Path) -> None:
    """Draws the records of a run's log into a PNG: the loss and, below, the metric if any."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train = [record for record in records if record["kind"] == "train"]
    measured = [r for r in records if r["kind"] == "evaluation" and metric in r]
    figure = Figure(figsize=(7, 5.5 if measured else 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 if measured else 1, 1, sharex=True, squeeze=False)[:, 0]
    steps, losses = [r["step"] for r in train], [r["loss"] for r in train]
    axes[0].plot(steps, losses, color="0.75", linewidth=1, label="of each step")
    axes[0].plot(steps, _smooth(losses), color="C0", label="mean of the last 10")
    axes[0].set_ylabel("loss")
    axes[0].legend(frameon=False)
    if measured:
        axes[1].plot([r["step"] for r in measured], [r[metric] for r in measured], "o-", color="C1")
        for record in measured:
            position = (record["step"], record[metric])
            axes[1].annotate(
                f"{record[metric]:.3f}",
                position,
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
            )
        axes[1].margins(0.06, 0.15)
        axes[1].set_ylabel(metric)
    axes[-1].set_xlabel("step")
    for panel in axes:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


def _smooth(values: Sequence[float], window: int = 10) -> list[float]:
    return [
        sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))
    ]
