"""The pictures of the benchmarks: curves and bars, drawn without a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]
COLORS = {
    "ours": "tab:blue",
    "sentence-transformers": "tab:orange",
    "representax": "tab:green",
    "transformers' Flax": "tab:red",
}


DASHED = ("dense", "cached", "tiled", "packed", "warm")  # of two lines of a side


def curves(
    file: Path,
    panels: Mapping[str, Mapping[str, Points]],
    *,
    across: str,
    logarithmic: bool = True,
) -> None:
    """Draws a panel of lines for each of `panels`: its title, and points by the line's name."""
    figure, axes = _figure(len(panels), height=3.6)
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for name, points in lines.items():
            x, y = zip(*points, strict=True)
            dashes = "--" if name.endswith(DASHED) else "-"
            axis.plot(x, y, f"o{dashes}", markersize=4, label=name, color=_color(name))
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(across)
        if logarithmic:
            axis.set(xscale="log", yscale="log")
            ticks = sorted({x for points in lines.values() for x, _ in points})
            axis.set_xticks(ticks, [f"{x:,.0f}" for x in ticks], rotation=30, ha="right")
            axis.minorticks_off()
        axis.legend(fontsize=8, frameon=False)
    figure.savefig(file, dpi=150)


def bars(
    file: Path, panels: Mapping[str, Mapping[str, float]], *, line: float | None = None
) -> None:
    """Draws a panel of bars for each of `panels`: its title, and lengths by the bar's name.

    A `line` is drawn where ratios are 1, which are then on a logarithmic scale.
    """
    most = max(len(lengths) for lengths in panels.values())
    figure, axes = _figure(len(panels), height=1.2 + 0.2 * most)
    for axis, (title, lengths) in zip(axes, panels.items(), strict=True):
        ordered = dict(sorted(lengths.items(), key=lambda item: item[1]))
        colors = [_color(name) or "tab:blue" for name in ordered]
        drawn = axis.barh(list(ordered), list(ordered.values()), color=colors, height=0.7)
        numbers = [f"{x:,.0f}" if x >= 100 else f"{x:.3g}" for x in ordered.values()]
        axis.bar_label(drawn, numbers, fontsize=7, padding=2)
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.15, y=0.01)
        axis.tick_params(axis="y", labelsize=8)
        if line is not None:
            axis.set_xscale("log")
            axis.axvline(line, color="black", linewidth=0.8, linestyle="--")
    figure.savefig(file, dpi=150)


def _figure(n_panels: int, *, height: float) -> tuple[Figure, list[Any]]:
    columns = 2 if n_panels == 4 else min(n_panels, 3)
    rows = -(-n_panels // columns)
    figure = Figure(figsize=(5.2 * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[n_panels:]:
        axis.remove()
    return figure, axes[:n_panels]


def _color(name: str) -> str | None:
    return next((color for side, color in COLORS.items() if name.startswith(side)), None)
