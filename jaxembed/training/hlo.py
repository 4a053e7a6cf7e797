"""The text of optimised HLO: its instructions, and how often each of them runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?)\s([a-z][\w\-]*)\((.*?)\)(.*)$")
SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{[^}]*?S\((\d+)\)[^}]*\})?")
NAME = re.compile(r"%([\w.\-]+)")
CALLING = ("body", "branch_computations", "called_computations", "calls", "false_computation",
           "to_apply", "true_computation")  # fmt: skip
FLOW = ("call", "conditional", "while", "async-start")
COPYING = ("bitcast", "copy", "copy-done")


@dataclass(frozen=True)
class Shape:
    """One array, such as `bf16[8,128]{1,0:S(1)}`."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0  # of memory: 0 is the main one, others are on the chip itself

    @property
    def bytes(self) -> int:
        """Its size; flags take a byte, tokens nothing."""
        width = re.search(r"\d+", self.dtype)
        bits = int(width[0]) if width else 8 if self.dtype == "pred" else 0
        return math.ceil(math.prod(self.dims) * bits / 8)


@dataclass(frozen=True)
class Instruction:
    """One line: `%name = shapes opcode(%operand, …), attributes`."""

    computation: str
    name: str
    shapes: tuple[Shape, ...]
    opcode: str
    brackets: str  # the operands, or the value of a constant
    attributes: str

    @property
    def bytes(self) -> int:
        """The size of its results."""
        return sum(shape.bytes for shape in self.shapes)

    @property
    def operands(self) -> list[str]:
        """The names of its operands."""
        return NAME.findall(self.brackets)

    @property
    def index(self) -> int | None:
        """The element that it takes of a tuple, None if it does something else."""
        return self.numbers("index")[0] if self.opcode == "get-tuple-element" else None

    @property
    def integer(self) -> int | None:
        """The constant that it is, None if it is none or no integer."""
        is_integer = self.opcode == "constant" and re.fullmatch(r"-?\d+", self.brackets)
        return int(self.brackets) if is_integer else None

    @property
    def calls(self) -> list[str]:
        """The computations that run when it runs; of a loop, its body."""
        return [name for key in CALLING for name in NAME.findall(self.attribute(key))]

    def attribute(self, key: str) -> str:
        """What an attribute says, without its braces or quotes; empty if there is none."""
        found = re.search(rf'\b{key}=(?:\{{([^}}]*)|"([^"]*)|([^,\s]+))', self.attributes)
        return "" if found is None else found[found.lastindex or 0]

    def numbers(self, key: str) -> list[int]:
        """The integers of an attribute."""
        return [int(number) for number in re.findall(r"-?\d+", self.attribute(key))]


@dataclass(frozen=True)
class Loop:
    """A loop and how often it turns, None if the program does not say it."""

    name: str
    origin: str  # the place in the JAX program
    turns: int | None


@dataclass(frozen=True)
class Run:
    """An instruction that runs, the instructions that its operands are, the loops around it."""

    instruction: Instruction
    operands: list[Instruction]
    loops: tuple[Loop, ...]

    @property
    def times(self) -> int:
        """How often it runs.

        Raises:
            ValueError: the program does not say how often a loop around it turns.
        """
        for loop in self.loops:
            if loop.turns is None:
                raise ValueError(
                    f"how often {self.instruction.opcode} runs is unknown: the program does not say"
                    f" the turns of the loop {loop.name} ({loop.origin}); use lax.scan, or"
                    " lax.fori_loop with Python ints"
                )
        return math.prod(loop.turns or 0 for loop in self.loops)


class Hlo:
    """A program, parsed from `compiled.as_text()`."""

    def __init__(self, text: str) -> None:
        self._computations: dict[str, dict[str, Instruction]] = {}
        self._roots: dict[str, Instruction] = {}
        self._loops: dict[str, Instruction] = {}  # by their bodies and conditions
        self._entry = current = ""
        for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
            if header := COMPUTATION.match(line):
                current = header[2]
                self._computations[current] = {}
                self._entry = current if header[1] else self._entry
            elif found := INSTRUCTION.match(line):
                root, name, results, *rest = found.groups()
                shapes = tuple(
                    Shape(dtype, tuple(int(n) for n in dims.split(",") if n), int(space or 0))
                    for dtype, dims, space in SHAPE.findall(results)
                )
                instruction = Instruction(current, name, shapes, *rest)
                self._computations[current][name] = instruction
                if root:
                    self._roots[current] = instruction
                if instruction.opcode == "while":
                    for key in ("body", "condition"):
                        self._loops[NAME.findall(instruction.attribute(key))[0]] = instruction

    def runs(self, *, into_fusions: bool = True) -> Iterator[Run]:
        """Yields every instruction that runs; of a conditional, those of all branches.

        Without `into_fusions`, what a fusion or a reduction consists of is left out.
        """
        return self._runs(self._entry, (), into_fusions)

    def inside(self, instruction: Instruction) -> list[Instruction]:
        """Returns the instructions of the computation that an instruction calls, none otherwise."""
        return [inner for name in instruction.calls for inner in self._computations[name].values()]

    def _runs(self, computation: str, loops: tuple[Loop, ...], into_fusions: bool) -> Iterator[Run]:
        for instruction in self._computations[computation].values():
            yield Run(instruction, self._operands(instruction), loops)
            around = loops
            if instruction.opcode == "while":
                origin = instruction.attribute("op_name")
                around = (*loops, Loop(instruction.name, origin, self._turns(instruction)))
            if into_fusions or instruction.opcode in FLOW:
                for called in instruction.calls:
                    yield from self._runs(called, around, into_fusions)

    def _operands(self, instruction: Instruction) -> list[Instruction]:
        """Its operands; the end of something asynchronous has those of its start."""
        computation = self._computations[instruction.computation]
        operands = [computation[name] for name in instruction.operands]
        return self._operands(operands[0]) if instruction.opcode.endswith("-done") else operands

    def _turns(self, loop: Instruction) -> int | None:
        """How often a loop turns: as it is noted (on CPUs), or by its counter (on TPUs).

        The counter is an element of what the loop carries. It starts at a constant, grows by a
        constant in every turn, and the loop turns while it is below a constant.
        """
        if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
            return int(noted[1])
        test = self._roots[loop.attribute("condition").removeprefix("%")]
        if test.opcode != "compare" or test.attribute("direction") != "LT":
            return None
        counter, stop = map(self._origin, self._operands(test))
        start, grown = self._before(loop, counter.index), self._after(loop, counter.index)
        if start is None or grown is None or grown.opcode != "add":
            return None
        before, step = sorted(
            map(self._origin, self._operands(grown)), key=lambda x: x.index is None
        )
        # What is compared and what is added to must be the same element of this very loop.
        carried = {counter.computation: counter.index, before.computation: before.index}
        if carried != {test.computation: counter.index, grown.computation: counter.index}:
            return None
        match start.integer, stop.integer, step.integer:
            case int(first), int(last), int(each) if each > 0:
                return max(0, -(-(last - first) // each))
        return None

    def _before(self, loop: Instruction, index: int | None, **how: bool) -> Instruction | None:
        """An element of what goes into a loop."""
        whole = self._origin(self._operands(loop)[0], **how)
        if index is None or whole.opcode != "tuple":
            return None
        return self._origin(self._operands(whole)[index], **how)

    def _after(self, loop: Instruction, index: int | None) -> Instruction | None:
        """An element of what a turn hands to the next, traced back to the start of the turn."""
        whole = self._roots[loop.calls[0]]
        if index is None or whole.opcode != "tuple":
            return None
        return self._origin(self._operands(whole)[index], within_turn=True)

    def _origin(self, value: Instruction, *, within_turn: bool = False) -> Instruction:
        """Where a value comes from, through copies, tuples and loops that carry it unchanged."""
        if value.opcode in COPYING:
            return self._origin(self._operands(value)[0], within_turn=within_turn)
        if value.index is None:
            return value
        whole = self._origin(self._operands(value)[0], within_turn=within_turn)
        if whole.opcode == "tuple":
            return self._origin(self._operands(whole)[value.index], within_turn=within_turn)
        loop = whole if whole.opcode == "while" else None
        if whole.opcode == "parameter" and not within_turn:
            loop = self._loops.get(whole.computation)
        if loop is None:
            return value
        after = self._after(loop, value.index)
        if after is None or after.index != value.index:
            return value
        if self._operands(after)[0].opcode != "parameter":
            return value
        return self._before(loop, value.index, within_turn=within_turn) or value
