"""What a compiled program does: its matrix products, its collectives and its memory.

They are read from the optimised HLO, which is what every device runs. So they show what became of
a program: the same rows encoded on all devices, or a gradient that is reduced in every turn of a
loop. JAX's own `cost_analysis()` does not: it counts the body of a loop once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxembed.training.hlo import Hlo, Run
from jaxembed.training.memory_traffic import memory_traffic

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)
# Calls of other libraries that multiply matrices; HLO does not say how large they are.
PRODUCTS_ELSEWHERE = re.compile(
    "matmul|gemm|convolution|cudnn|tpu_custom_call|triton", re.IGNORECASE
)


@dataclass(frozen=True)
class Traffic:
    """How many collectives, and their bytes on one device.

    The bytes are those of the operands or of the results, whichever are more: of the gathered
    array, of the array before it is scattered.
    """

    count: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class ProgramCost:
    """What one call of a compiled program takes on each device.

    `flops` are those of matrix products and convolutions, two for each multiply and add. What is in
    a loop counts as often as the loop turns. Of a conditional, all branches count. Products with a
    single vector may be left out, as TPUs compute them as sums. An asynchronous collective counts
    once, as does one that XLA combined from several.
    """

    flops: int
    memory_traffic: int  # bytes, estimated by `memory_traffic`
    collectives: Mapping[str, Traffic]  # by kind, outside of loops
    loop_collectives: Mapping[str, Traffic]  # by kind, inside of loops
    temporary_bytes: int
    argument_bytes: int
    output_bytes: int
    aliased_bytes: int  # of outputs that take the place of donated arguments

    @property
    def memory_bytes(self) -> int:
        """Arguments, outputs and temporaries together."""
        held = self.argument_bytes + self.output_bytes - self.aliased_bytes
        return held + self.temporary_bytes


def program_cost(compiled: Any) -> ProgramCost:
    """Returns the cost of a compiled program, such as `jax.jit(f).lower(x).compile()`.

    >>> x = jnp.zeros((3, 5))
    >>> program_cost(jax.jit(lambda x: x @ x.T).lower(x).compile()).flops == 2 * 3 * 3 * 5
    True

    Raises:
        ValueError: a matrix product or a collective is in a loop of which the program does not say
            how often it turns, or a product is done by a kernel that HLO does not describe.
    """
    flops = 0
    moving: dict[Any, Run] = {}  # collectives, each once
    hlo = Hlo(compiled.as_text())
    for number, run in enumerate(hlo.runs()):
        if once := product_flops(run):
            flops += run.times * once
        if run.instruction.opcode.removesuffix("-done") in COLLECTIVES:
            # TPUs do a collective in steps beside other work; each step is then written as a whole
            # one, and the first of them stands where the collective does.
            steps = "chain_id" in run.instruction.attributes
            name = run.instruction.attribute("channel_id") if steps else number
            if name not in moving or run.times < moving[name].times:
                moving[name] = run
    outside: dict[str, Traffic] = {}
    inside: dict[str, Traffic] = {}
    for run in moving.values():
        kind = run.instruction.opcode.removesuffix("-done")
        traffic = inside if run.loops else outside
        so_far = traffic.get(kind, Traffic())
        count, size = run.times, run.times * moved_bytes(run)
        traffic[kind] = Traffic(so_far.count + count, so_far.bytes + size)
    memory = compiled.memory_analysis()
    return ProgramCost(
        flops,
        memory_traffic(hlo),
        outside,
        inside,
        temporary_bytes=memory.temp_size_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        aliased_bytes=memory.alias_size_in_bytes,
    )


def product_flops(run: Run) -> int:
    """Floating-point operations of one run of a dot or a convolution, 0 of other instructions."""
    instruction = run.instruction
    if instruction.opcode == "dot":
        left = run.operands[0].shapes[0].dims
        contracted = [left[axis] for axis in instruction.numbers("lhs_contracting_dims")]
        return 2 * math.prod(instruction.shapes[0].dims) * math.prod(contracted)
    if instruction.opcode == "convolution":
        return _convolution_flops(run)
    if instruction.opcode == "custom-call":
        target = instruction.attribute("custom_call_target")
        if PRODUCTS_ELSEWHERE.search(target):
            raise ValueError(
                f"the program calls {target}, whose operations HLO does not describe; compile it"
                " without that kernel to count them"
            )
    return 0


def _convolution_flops(run: Run) -> int:
    """Of a convolution, also where it stands for a product with batch axes, as on TPUs.

    Such an axis is a window that slides over an input with holes and meets one element at a time.
    So what counts are the pairs of an element of the window and an element of the input that meet.
    """
    labels = re.split("_|->", run.instruction.attribute("dim_labels"))
    arrays = [array.shapes[0].dims for array in (*run.operands, run.instruction)]
    inputs, kernel, output = (
        dict(zip(*pair, strict=True)) for pair in zip(labels, arrays, strict=True)
    )
    window = dict(part.split("=") for part in run.instruction.attribute("window").split())
    spatial = sorted(axis for axis in output if axis.isdigit())

    def along(axis: int, key: str, default: int) -> int:
        return int(window[key].split("x")[axis].split("_")[0]) if key in window else default

    pairs = 1
    for axis, name in enumerate(spatial):
        hole, reach = along(axis, "lhs_dilate", 1), along(axis, "rhs_dilate", 1)
        starts = np.arange(output[name]) * along(axis, "stride", 1) - along(axis, "pad", 0)
        places = (starts + reach * offset for offset in range(along(axis, "size", 1)))
        stop = inputs[name] * hole
        pairs *= sum(int(np.sum((p >= 0) & (p < stop) & (p % hole == 0))) for p in places)
    return 2 * pairs * output["b"] * output["f"] * kernel["i"]


def moved_bytes(run: Run) -> int:
    """Bytes of a collective's operands or of its results, whichever are more."""
    return max(run.instruction.bytes, sum(operand.bytes for operand in run.operands))
