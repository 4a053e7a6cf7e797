"""What a mining says in the end: counts by filter, similarities, and a picture of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from rich.table import Table

from jaxembed.console import Console


def statistics(values: np.ndarray) -> dict[str, float]:
    """Computes how many there are, and how they are spread."""
    if not len(values):
        return {"count": 0}
    quartiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()
    names = ("min", "25%", "median", "75%", "max")
    mean = {"mean": float(np.mean(values, dtype=float)), "std": float(np.std(values, dtype=float))}
    return {"count": len(values), **mean, **dict(zip(names, quartiles, strict=True))}


def show(counts: Mapping[str, int], similarities: Mapping[str, Mapping[str, float]]) -> None:
    """Prints what became of the candidates, in shares of the first count, and the similarities."""
    console = Console()
    table = Table("candidates")
    table.add_column("count", justify="right")
    table.add_column("share", justify="right")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}", f"{count / next(iter(counts.values())):.1%}")
    console.print(table)
    table = Table("similarity")
    for name in similarities:
        table.add_column(name, justify="right")
    for row in next(iter(similarities.values())):
        cells = [values.get(row, float("nan")) for values in similarities.values()]
        table.add_row(row, *(f"{v:,}" if row == "count" else f"{v:.4f}" for v in cells))
    console.print(table)


def plot(positives: np.ndarray, negatives: np.ndarray, stream: BinaryIO) -> None:
    """Draws how similar answers and negatives are to their queries."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    edges = np.histogram_bin_edges(np.concatenate([positives, negatives]), bins=80)
    for values, label, color in ((negatives, "negatives", "C1"), (positives, "answers", "C0")):
        share = np.full(len(values), 1 / len(values))
        label = f"{len(values):,} {label}"
        axes.hist(values, edges.tolist(), weights=share, alpha=0.6, color=color, label=label)
    axes.set_xlabel("similarity to the query")
    axes.set_ylabel("share")
    axes.legend(loc="upper left", frameon=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(stream, format="png", dpi=150)
