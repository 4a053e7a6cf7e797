"""Pictures of a run: loss, evaluation, throughput and health over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

Records = Sequence[Mapping[str, Any]]
# Panels of the picture of health, and of that of speed: what a record has by these names.
HEALTH = ("mean_cosine", "uniformity", "alignment", "effective_rank", "duplicates", "norm_max")
SPEED = ("pairs_per_s", "tokens_per_s", "padding_share", "waited_share")


def plot_run(records: Records, metric: str, file: Path | IO[bytes]) -> None:
    """Draws the records of a run's log into a PNG: the loss and, below, the metric if any."""
    train = _of(records, "train", "loss")
    measured = _of(records, "evaluation", metric)
    figure, axes = _panels(2 if measured else 1, 1, (7, 5.5 if measured else 3.2))
    steps, losses = [r["step"] for r in train], [r["loss"] for r in train]
    axes[0].plot(steps, losses, color="0.75", linewidth=1, label="of each step")
    axes[0].plot(steps, _smooth(losses), color="C0", label="mean of the last 10")
    axes[0].set_ylabel("loss")
    axes[0].legend(loc="upper right", frameon=False)
    if measured:
        axes[1].plot([r["step"] for r in measured], [r[metric] for r in measured], "o-", color="C1")
        for record in measured[:: max(1, len(measured) // 12)]:
            axes[1].annotate(
                f"{record[metric]:.3f}",
                (record["step"], record[metric]),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
            )
        axes[1].margins(0.06, 0.15)
        axes[1].set_ylabel("loss, held out" if metric == "loss" else metric)
    axes[-1].set_xlabel("step")
    figure.savefig(file, dpi=150)


def plot_values(records: Records, names: Sequence[str], file: Path | IO[bytes]) -> bool:
    """Draws what the training records have by these names, a panel each; returns whether any."""
    present = [name for name in names if _of(records, "train", name)]
    if not present:
        return False
    rows = -(-len(present) // 2)
    figure, axes = _panels(rows, 2, (9, 2.2 * rows))
    for panel, name in zip(axes, present, strict=False):
        train = _of(records, "train", name)
        values = [r[name] for r in train]
        panel.plot([r["step"] for r in train], values, color="0.75", linewidth=1)
        panel.plot([r["step"] for r in train], _smooth(values), color="C0")
        panel.ticklabel_format(axis="y", useOffset=False)
        panel.set_title(name.rpartition("/")[2], fontsize=10, loc="left")
    for panel in axes[len(present) :]:
        panel.set_visible(False)
    figure.savefig(file, dpi=120)
    return True


def _panels(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for panel in axes:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _of(records: Records, kind: str, name: str) -> list[Mapping[str, Any]]:
    return [record for record in records if record["kind"] == kind and name in record]


def _smooth(values: Sequence[float], window: int = 10) -> list[float]:
    return [
        sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))
    ]
