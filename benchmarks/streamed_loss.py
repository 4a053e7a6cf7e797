"""Does the streamed ranking loss run at the speed of its matrix products, and in how much memory?

Value and gradient of `multiple_negatives_ranking_loss` with respect to both embeddings, with the
masks and ids that a training batch brings: in blocks, all rows at once, and the other libraries'.
Beside them the three matrix products that no exact gradient can do without, 6 n² d operations:

    A Bᵀ = S, the similarities of anchors A [n d] and positives B [n d]
    S B and Sᵀ A, where S [n n] stands for their gradients

each by itself over all rows, and all three in one loop over blocks of rows. All are measured in
turns. Memory is what a call adds to the resident memory of its process at its peak, or the
temporaries of its program where those are more. Embeddings in bfloat16 are raised to float32, which
the products are in.

    python benchmarks/streamed_loss.py --torch-python .venv-torch/bin/python
    python benchmarks/streamed_loss.py --n 1024 2048 4096 8192 16384 32768 65536
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plots
import report
from jax import Array, lax
from loss_time import TOLERANCE, norm, their_seconds
from loss_workloads import workloads
from peer import REPRESENTAX, ST, Peer, SideFlags, close, open_peers, tolerance, versions_of
from program_figures import call_memory, figures
from report import Target
from rich.progress import track
from sides import in_turns, spread
from timing import enough_repeats, seconds_per_call

from jaxembed.data import split_words
from jaxembed.losses import multiple_negatives_ranking_loss
from jaxembed.losses.blocks import into_blocks, out_of_blocks

LOSS = "multiple_negatives_ranking_loss"
PRODUCTS = {
    "A Bᵀ": lambda left, right, matrix: left @ right.T,
    "S B": lambda left, right, matrix: matrix @ right,
    "Sᵀ A": lambda left, right, matrix: matrix.T @ left,
}
TOGETHER = "the products"
BLOCKED = "the products, blocked"
TILED = f"{LOSS}, tiled"  # Representax's own loss in blocks
BOUND_AT, MEMORY_AT = 8192, 16384  # the sizes that speed and memory are held to bounds at
PATIENCE_S = 60.0  # no further round of a size after so long


@dataclass(frozen=True)
class Config(SideFlags):
    """Measures the streamed ranking loss beside its matrix products."""

    n: tuple[int, ...] = (8192,)
    """Rows; several give a curve."""
    d: int = 768
    """Features."""
    block_size: int = 1024
    """Rows that are compared with all candidates at once."""
    dense_limit: int = 16384
    """With more rows than this, what holds a matrix [n n] is left out."""
    rounds: int = 7
    """Measurements of each side; the median counts."""
    output: Path = Path("runs/benchmarks")
    """Where table, picture and all times are written."""


def main(config: Config) -> int:
    """Measures and reports; returns 1 if the sides disagree anywhere."""
    peers = open_peers(config, "losses")
    settings = {name: getattr(config, name) for name in ("n", "d", "block_size", "dtype", "rounds")}
    content: dict[str, Any] = {
        "question": "Value and gradient of the ranking loss, beside its matrix products alone",
        "settings": settings,
        "machine": report.machine(),
        "versions": report.versions() | versions_of(peers),
    }
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for n in track(config.n, "measuring", transient=True):
        sides = measure(n, config, peers)
        rows += sides.values()
        targets += held_to(n, sides)
    close(peers)
    columns = ["side", "n", "seconds (min–max)", "GFLOP/s", "of the products' rate"]
    columns += ["in blocks", "flops / 6 n² d", "temporaries, MiB", "measured, MiB"]
    content["sides"] = rows
    report.save(config.output, "streamed_loss", content, columns, list(map(cells, rows)), targets)
    draw(rows, config.output / "streamed_loss.png")
    if differ := [row["side"] for row in rows if not row["agrees"]]:
        print(f"values differ: {', '.join(differ)}")
    return int(bool(differ))


def measure(n: int, config: Config, peers: dict[str, Peer]) -> dict[str, dict[str, Any]]:
    """Compiles and checks all sides, then measures them in turns."""
    (workload,) = (row for row in workloads(n, config.d) if row.name == LOSS)
    arrays = workload.arrays()
    pair = tuple(jnp.asarray(arrays[name], config.dtype) for name in ("anchors", "positives"))
    dense = n <= config.dense_limit

    losses: dict[str, int | None] = {f"block_size={config.block_size}": config.block_size}
    losses |= {"dense": None} if dense else {}
    programs = {
        name: compile_for(value_and_gradient(size), *pair, distinct(n))
        for name, size in losses.items()
    }
    whole = tuple(array.astype(jnp.float32) for array in pair)  # as the losses multiply
    programs[BLOCKED] = compile_for(partial(blocked, config.block_size), *whole)
    arguments = {name: (*pair, distinct(n)) for name in losses} | {BLOCKED: whole}
    if dense:
        matrix = jax.jit(PRODUCTS["A Bᵀ"])(*whole, None)
        for name, product in PRODUCTS.items():
            arguments[name] = (*whole, matrix)
            programs[name] = compile_for(product, *arguments[name])

    sides = {name: row_of(name, n, config, program) for name, program in programs.items()}
    for name in losses:
        value, gradients = programs[name](*arguments[name])
        sides[name] |= {"value": float(value), "gradient_norm": norm(gradients)}

    calls: dict[str, Callable[[], float]] = {}
    for name, program in programs.items():
        call = partial(wait, program, arguments[name])
        calls[name] = partial(seconds_per_call, call, enough_repeats(call))
        if name in losses:
            sides[name]["resident_growth"] = call_memory(call, program)
    theirs = [(ST, ST, LOSS), (REPRESENTAX, REPRESENTAX, LOSS)] if dense else []
    for side, library, loss in [*theirs, (f"{REPRESENTAX}, tiled", REPRESENTAX, TILED)]:
        if library in peers:
            ask = peers[library].ask
            request = {"n": n, "d": config.d, "block": config.block_size}
            answer = ask(load=loss, **request, dtype=config.dtype)
            sides[side] = row_of(side, n, config, None) | answer | ask(grow=loss)
            calls[side] = partial(their_seconds, peers[library], loss)
    first, rel_tol = next(iter(losses)), tolerance(config.dtype, TOLERANCE)
    for row in sides.values():
        row["agrees"] = all(
            math.isclose(row.get(name, sides[first][name]), sides[first][name], rel_tol=rel_tol)
            for name in ("value", "gradient_norm")
        )

    for name, seconds in in_turns(calls, config.rounds, patience_s=PATIENCE_S).items():
        sides[name]["seconds"] = seconds
        sides[name]["median_s"] = statistics.median(seconds)
    if dense:
        sides[TOGETHER] = row_of(TOGETHER, n, config, None) | {
            "seconds": [],
            "median_s": sum(sides[name]["median_s"] for name in PRODUCTS),
            "agrees": True,
        }
        for row in sides.values():
            row["share"] = rate(row) / rate(sides[TOGETHER])
    for row in sides.values():
        row["share_in_blocks"] = rate(row) / rate(sides[BLOCKED])
    return sides


def value_and_gradient(block_size: int | None) -> Callable[..., Any]:
    """Makes the function of anchors, positives and the keywords of a batch."""

    def loss(anchors: Array, positives: Array, keywords: dict[str, Any]) -> Array:
        return multiple_negatives_ranking_loss(
            anchors, positives, block_size=block_size, **keywords
        )

    return jax.value_and_grad(loss, argnums=(0, 1))


def blocked(block_size: int, left: Array, right: Array) -> Any:
    """Computes the three products over blocks of rows, as the streamed loss does."""

    def step(total: Array, rows: Array) -> tuple[Array, Array]:
        matrix = rows @ right.T
        return total + matrix.T @ rows, matrix @ right

    total, of_rows = lax.scan(step, jnp.zeros_like(right), into_blocks(left, block_size))
    return out_of_blocks(of_rows, left.shape[0]), total


def distinct(n: int) -> dict[str, Array]:
    """Makes what a training batch brings beside its texts; no text occurs twice."""
    hashes = np.random.default_rng(n).permutation(2 * n).astype(np.uint64)
    hashes *= np.uint64(0x9E3779B97F4A7C15)  # odd, so that they stay distinct
    ids = split_words(hashes)
    return jax.device_put({"where": np.ones(n, bool), "anchor_ids": ids[:n], "ids": ids[n:]})


def compile_for(function: Callable[..., Any], *arguments: Any) -> Any:
    return jax.jit(function, keep_unused=True).lower(*arguments).compile()


def wait(program: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return jax.block_until_ready(program(*arguments))


def rate(row: dict[str, Any]) -> float:
    """Computes floating-point operations per second."""
    return row["nominal_flops"] / row["median_s"]


def row_of(name: str, n: int, config: Config, program: Any) -> dict[str, Any]:
    """Begins the row of a side: what it has to compute, and what its program takes."""
    row: dict[str, Any] = {"side": name, "n": n, "d": config.d}
    row["nominal_flops"] = (2 if name in PRODUCTS else 6) * n**2 * config.d
    if program is not None:
        row |= figures(program)
    return row


def held_to(n: int, sides: dict[str, dict[str, Any]]) -> list[Target]:
    """Compares the streamed loss with the others."""
    streamed = next(iter(sides.values()))
    name = f"n = {n}, {streamed['side']}"
    targets = []
    if "share" in streamed:
        of_products = f"{name}, share of the products' rate"
        at_least = 0.95 if n == BOUND_AT else None
        targets.append(Target(of_products, streamed["share"], at_least=at_least))
    targets.append(Target(f"{name}, the same in blocks", streamed["share_in_blocks"]))
    for other, bound in (
        ("dense", 1.2),
        (ST, 1.8),
        (REPRESENTAX, None),
        (f"{REPRESENTAX}, tiled", None),
    ):
        if other in sides:
            faster = sides[other]["median_s"] / streamed["median_s"]
            at_least = bound if n == BOUND_AT else None
            targets.append(Target(f"{name}, times as fast as {other}", faster, at_least=at_least))
    if theirs := memory_of(sides.get(ST, {})):
        at_most = 1 / 8 if n == MEMORY_AT else None
        share = memory_of(streamed) / theirs
        targets.append(Target(f"{name}, memory / {ST}'s", share, at_most=at_most))
    temporaries = streamed["temporaries"] / report.MIB
    at_most = 100 if n == BOUND_AT else None
    targets.append(Target(f"{name}, temporaries in MiB", temporaries, at_most=at_most))
    return targets


def memory_of(row: dict[str, Any]) -> int:
    """Bytes that a call takes: what its program says or what was measured, whichever is more."""
    return max(row.get(name) or 0 for name in ("temporaries", "resident_growth"))


def cells(row: dict[str, Any]) -> list[str]:
    """Writes a row of the table."""
    seconds = spread(row["seconds"]) if row["seconds"] else f"{row['median_s']:.4g}"
    return [
        row["side"],
        str(row["n"]),
        seconds if row["agrees"] else f"{seconds}, values differ",
        f"{rate(row) / 1e9:,.0f}",
        f"{row['share']:.3f}" if "share" in row else "–",
        f"{row['share_in_blocks']:.3f}",
        f"{row['flops'] / (6 * row['n'] ** 2 * row['d']):.3f}" if "flops" in row else "–",
        f"{row['temporaries'] / report.MIB:,.1f}" if "temporaries" in row else "–",
        f"{row['resident_growth'] / report.MIB:,.0f}" if row.get("resident_growth") else "–",
    ]


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draws time and memory over the number of rows."""
    shown = [row for row in rows if row["side"] not in (*PRODUCTS, TOGETHER, BLOCKED)]

    def lines(value: Callable[[dict[str, Any]], float]) -> dict[str, list[tuple[float, float]]]:
        found: dict[str, list[tuple[float, float]]] = {}
        for row in shown:
            ours = "=" in row["side"] or row["side"] == "dense"
            if value(row):
                name = f"ours, {row['side']}" if ours else row["side"]
                found.setdefault(name, []).append((row["n"], value(row)))
        return found

    panels = {
        "value and gradient, seconds": lines(lambda row: row["median_s"]),
        "memory of a call, MiB": lines(lambda row: memory_of(row) / report.MIB),
    }
    plots.curves(file, {title: its for title, its in panels.items() if its}, across="rows")


if __name__ == "__main__":
    report.command(main, Config, __doc__)
