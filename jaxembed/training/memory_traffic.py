"""How many bytes a compiled program moves to and from main memory: an estimate from its HLO.

What runs inside a fusion stays on the chip; operands and results of fusions and of single
instructions go through memory. Of an array that is only sliced or updated in part, that part
counts. Caches, padding to tiles and what XLA keeps on the chip beyond what HLO says do not.
"""

from __future__ import annotations

import math

from jaxembed.training.hlo import Hlo, Instruction, Run

MOVE_NOTHING = {
    *("bitcast", "call", "conditional", "constant", "get-tuple-element", "iota", "parameter"),
    *("partition-id", "replica-id", "reshape", "tuple", "while", "after-all"),
}
SLICES = ("dynamic-slice", "gather", "slice")


def memory_traffic(hlo: Hlo) -> int:
    """Counts the bytes that one call moves on each device.

    Loops count as often as they turn, once where the program does not say it.
    """
    total = 0
    for run in hlo.runs(into_fusions=False):
        opcode = run.instruction.opcode
        if opcode in MOVE_NOTHING or opcode.endswith("-done"):
            continue
        if moved := _moved(hlo, run):
            total += moved * math.prod(
                1 if loop.turns is None else loop.turns for loop in run.loops
            )
    return total


def _moved(hlo: Hlo, run: Run) -> int:
    instruction = run.instruction
    if instruction.opcode.endswith("-start"):  # something asynchronous: what arrives
        arriving = instruction.shapes[1:2] or instruction.shapes
        return sum(shape.bytes for shape in arriving)
    if instruction.opcode == "dynamic-update-slice":
        return 2 * _in_memory(run.operands[1])
    if instruction.opcode in SLICES:
        return 2 * _in_memory(instruction)
    inner = hlo.inside(instruction) if instruction.opcode == "fusion" else []
    read = sum(_read(inner, number, operand) for number, operand in enumerate(run.operands))
    return read + _written(inner, instruction)


def _in_memory(instruction: Instruction) -> int:
    return sum(shape.bytes for shape in instruction.shapes if shape.space == 0)


def _read(inner: list[Instruction], number: int, operand: Instruction) -> int:
    """Bytes of an operand of a fusion that it reads."""
    parameter = next(
        (x for x in inner if x.opcode == "parameter" and x.brackets == str(number)), None
    )
    size = _in_memory(operand)
    if parameter is None or not size:
        return size
    users = [x for x in inner if parameter.name in x.operands]
    if users and all(x.opcode in SLICES for x in users):
        return min(size, sum(x.bytes for x in users))
    updates = [x for x in users if x.opcode == "dynamic-update-slice"]
    if users and len(updates) == len(users) and all(x.operands[0] == parameter.name for x in users):
        return 0  # updated in place
    return size


def _written(inner: list[Instruction], instruction: Instruction) -> int:
    """Bytes of the results of a fusion that it writes."""
    by_name = {x.name: x for x in inner}
    updates = [x for x in inner if x.opcode == "dynamic-update-slice"]
    whole = _in_memory(instruction)
    for update in updates:
        part = by_name.get(update.operands[1])
        if part is not None and update.bytes <= whole:
            whole += part.bytes - update.bytes
    return max(whole, 0)
