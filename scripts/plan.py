"""Compiles a training step for TPUs that are not there: does it fit, and how fast can it be?

It takes the flags of train.py, and compiles the very step that train.py would run:

    python scripts/plan.py --topology v5e:4x4 --batch-size 4096 --tokens 128 --mini-batch-size 32
    python scripts/plan.py --topology v5p:2x2x2 --model org/model --data pairs.parquet --auto
    python scripts/plan.py --batch-size 512     # the devices of this machine

Without data at hand, `--data` may name any of the same columns, such as the embedded set's: shapes
are all that counts. Compiling for TPUs needs libtpu in `.venv/libtpu`; it says which version.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import jax
from command import command
from config import Config, ConfigError, check
from planning import GIB, Plan, compile_plan
from rich.table import Table
from rich.text import Text

from jaxembed.console import Console
from jaxembed.settings import Count
from jaxembed.training.roofline import CHIPS, Chip

OF_LIBTPU = {  # it looks for no TPUs, says nothing of that, and several may run at once
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


@dataclass(frozen=True)
class PlanConfig(Config):
    """Compiles a training step for TPUs that are not there."""

    topology: str | None = None
    """TPUs such as v5e:16x16, v4:2x2x2, v5p:4x4x4 or v6e:2x4; this machine's devices if None."""
    tokens: Count | None = None
    """Tokens of every text; the longest bucket that the model can read if not given."""
    auto: bool = False
    """Finds the greatest --mini-batch-size that fits."""
    libtpu: Path = Path(sys.prefix) / "libtpu"
    """The folder where libtpu is installed, apart from the environment."""
    json: Path | None = None
    """Also writes what was found to this file."""


def main(config: PlanConfig) -> int:
    """Plans, prints, and returns 1 if nothing fits."""
    check(dataclasses.replace(config, overwrite=True))
    chip, devices = chips_of(config)
    console = Console(width=None if sys.stdout.isatty() else 110)
    plans: list[Plan] = []

    def compiled(mini_batch_size: int | None) -> Plan:
        flags = dataclasses.replace(config, mini_batch_size=mini_batch_size)
        one = compile_plan(flags, chip, devices, tokens=config.tokens)
        plans.append(one)
        if config.auto:
            word = "fits" if one.fits else "does not fit"
            size = f"{one.needed_bytes / GIB:.2f} of {one.limit_bytes / GIB:.2f} GiB"
            console.print(f"--mini-batch-size {mini_batch_size}: {word}, {size}", highlight=False)
        return one

    found = compiled(None if config.auto else config.mini_batch_size)
    if config.auto and not found.fits:
        found = greatest_that_fits(compiled, config.batch_size // len(devices)) or plans[-1]
    show(console, config, found, chip)
    if config.json is not None:
        content = [dataclasses.asdict(one) | {"fits": one.fits} for one in plans]
        config.json.write_text(json.dumps(content, indent=1, default=str) + "\n")
    return 0 if found.fits else 1


def greatest_that_fits(compiled: Callable[[int], Plan], rows: int) -> Plan | None:
    """Searches the powers of two below the rows of a device by halves."""
    sizes = [2**power for power in range(max(rows - 1, 1).bit_length())]
    best, low, high = None, 0, len(sizes)
    while low < high:
        middle = (low + high) // 2
        one = compiled(sizes[middle])
        if one.fits:
            best, low = one, middle + 1
        else:
            high = middle
    return best


def chips_of(config: PlanConfig) -> tuple[Chip | None, list[Any]]:
    """Returns the kind of chip, None for this machine's devices, and the devices."""
    if config.topology is None:
        return None, jax.devices()
    kind, _, shape = config.topology.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise ConfigError(
            f"--topology is one of {', '.join(CHIPS)} and a shape, such as v5e:16x16 or v5p:2x2x2;"
            f" got {config.topology!r}"
        )
    if not (config.libtpu / "libtpu").is_dir():
        wanted = next(name for name in requires("jax") or () if name.startswith("libtpu"))
        raise ConfigError(
            f"no libtpu in {config.libtpu}; run {sys.executable} -m pip install --target"
            f" {config.libtpu} '{wanted.split(';')[0].strip()}'"
        )
    sys.path.append(str(config.libtpu))
    for name, value in OF_LIBTPU.items():
        os.environ.setdefault(name, value)
    jax.config.update("jax_platforms", "cpu")
    from jax.experimental import topologies

    try:
        topology = topologies.get_topology_desc(config.topology, "tpu")
    except Exception as error:
        raise ConfigError(f"libtpu knows no topology {config.topology}") from error
    return CHIPS[kind], list(topology.devices)


def show(console: Console, config: PlanConfig, plan: Plan, chip: Chip | None) -> None:
    """Prints a plan."""
    where = f"{plan.devices} × {chip.name}" if chip else f"{plan.devices} devices of this machine"
    console.print(
        f"{config.model}, {', '.join(config.loss)}: {plan.batch_size:,} rows over {where},"
        f" fsdp {config.fsdp or 1}, tensor {config.tensor or 1}, mini batch {plan.mini_batch_size},"
        f" {config.dtype}",
        highlight=False,
        soft_wrap=True,
    )
    gib = lambda size: f"{size / GIB:.3f} GiB"  # noqa: E731
    table = Table("memory of a chip", "", show_header=True)
    for name, size in plan.parts.items():
        if size:
            table.add_row(name, gib(size))
    if plan.cost is not None:
        table.add_row("activations, gradients, loss", gib(plan.cost.temporary_bytes))
        table.add_row("  of these the loss", gib(plan.loss_bytes))
    table.add_row("together", gib(plan.needed_bytes))
    table.add_row("available", gib(plan.limit_bytes))
    console.print(table)
    if plan.cost is not None:
        table = Table("collectives of a step, on a chip", "number", "MB", "in loops")
        for kinds, inside in ((plan.cost.collectives, ""), (plan.cost.loop_collectives, "yes")):
            for kind, traffic in kinds.items():
                table.add_row(kind, f"{traffic.count}", f"{traffic.bytes / 1e6:.1f}", inside)
        console.print(table)
        console.print(
            f"{plan.cost.flops / 1e12:.3f} TFLOP a step and chip, about"
            f" {plan.cost.memory_traffic / 1e9:.1f} GB to and from memory",
            highlight=False,
            soft_wrap=True,
        )
    if plan.least is not None:
        console.print(
            f"at least {plan.least.seconds * 1e3:.1f} ms a step, bound by {plan.least.bound_by}"
            f" (products {plan.least.products * 1e3:.1f}, memory {plan.least.memory * 1e3:.1f},"
            f" network {plan.least.network * 1e3:.1f}): at most"
            f" {plan.batch_size / plan.least.seconds:,.0f} pairs/s",
            highlight=False,
            soft_wrap=True,
        )
    if plan.fits:
        console.print(Text("fits", "green"))
    else:
        remedy = (
            ": take a smaller --mini-batch-size (--auto finds it), a larger --fsdp, --block-size"
            " for the loss, --remat full, or more chips"
        )
        console.print(Text.assemble(("does not fit", "red"), remedy))


if __name__ == "__main__":
    command(main, PlanConfig, __doc__)
