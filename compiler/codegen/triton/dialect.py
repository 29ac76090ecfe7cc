"""Spells single operations in Triton: a dialect of :mod:`compiler.codegen.straight_line`.

Positions are the kernel's variables ``q``, ``k``, ``n``, ``head`` and ``heads``; table 3 is a pointer ``table3`` with
sizes ``table3_size0, …``. Operands broadcast against each other, so the same text serves tiles of either orientation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...ir import HASH_START, Op, Table, Type, hash_more
from ...plan import FP32, FP64, integers

_SMALLEST_NORMAL, _LARGEST = 2.0**-126, 3.4028234663852886e38
_COMPARISONS: Mapping[Op, str] = {"lt": "<", "le": "<=", "eq": "==", "ne": "!=", "iff": "=="}
_JOINS: Mapping[Op, str] = {"add": "+", "mul": "*", "and": "&", "or": "|"}
_FUNCTIONS: Mapping[Op, str] = {
    "abs": "tl.abs", "exp": "tl.exp", "log": "tl.log", "sqrt": "tl.sqrt", "sigmoid": "tl.sigmoid", "tanh": "_tanh",
}  # fmt: skip


def floating(value: float, double: bool = False) -> str:
    """A float as a literal of the compute type: beyond fp32's normal range, Triton would take it for an fp64."""
    if math.isnan(value):
        return 'float("nan")'
    if not double and abs(value) > _LARGEST:
        value = math.copysign(math.inf, value)
    if not double and abs(value) < _SMALLEST_NORMAL:
        value = 0.0
    if math.isinf(value):
        return 'float("inf")' if value > 0 else 'float("-inf")'
    return repr(value) if value >= 0 else f"({value!r})"


@dataclass(frozen=True)
class Place:
    """Where a table's entry lies: its offset in elements, and the condition under which it is inside the table."""

    offset: str
    inside: str | None


@dataclass(frozen=True)
class TritonDialect:
    """Triton's :class:`compiler.codegen.straight_line.Dialect`, for the tables of one Program.

    ``wide``: integers have 64 bits, else 32; ``double``: floats are fp64, else fp32; ``names``: the variables of
    positions; ``listed``: the numbers of tables of sets that are given as members in rising order, not as bitmaps.
    """

    tables: tuple[Table, ...]
    wide: bool = False
    double: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    listed: frozenset[int] = frozenset()

    @property
    def integer(self) -> str:
        return integers(self.wide).triton

    @property
    def compute(self) -> str:
        return (FP64 if self.double else FP32).triton

    def constant(self, value: bool | int | float) -> str:
        if isinstance(value, float):
            return floating(value, self.double)
        return str(value) if value >= 0 else f"({value})"

    def position(self, name: str) -> str:
        return self.names.get(name, name)

    def logit(self) -> str:
        return "s"

    def number(self, index: int) -> str:
        return f"number{index}"

    def entry(self, table: int, indices: tuple[str, ...], kind: Type) -> str:
        read = self._load(table, self.place(table, indices))
        match kind:
            case "bool":
                return f"{read} != 0"
            case "float" | "double":
                return read
            case _:
                return f"{read}.to({self.integer})"

    def member(self, element: str, table: int, indices: tuple[str, ...]) -> str:
        if table not in self.listed:
            return f"{self._load(table, self.place(table, (*indices, element)))} != 0"
        place, slots = self.place(table, indices), f"table{table}_size{len(indices)}"
        return f"_holds(table{table}, {slots}, {place.offset}, {place.inside or 'True'}, {element})"

    def place(self, table: int, indices: tuple[str, ...]) -> Place:
        """Where an entry lies. The bitmap of a set has one more dimension, its universe."""
        return self._placed(table, tuple(enumerate(self._rows(table, indices))))

    def choice(self, table: int, indices: tuple[str, ...], axes: tuple[int, ...]) -> Place:
        """Which of the entries that some of a table's axes hold has these indices; those of other axes are not read."""
        rows = self._rows(table, indices)
        return self._placed(table, tuple((axis, rows[axis]) for axis in axes))

    def chosen(self, table: int, indices: tuple[str, ...], axes: tuple[int, ...], number: str) -> Place:
        """Where the entry lies of which ``choice`` tells the ``number``; ``indices`` count on the other axes alone."""
        rows = list(self._rows(table, indices))
        for axis in reversed(axes[1:]):
            size = f"table{table}_size{axis}"
            rows[axis], number = f"({number} % {size})", f"({number} // {size})"
        rows[axes[0]] = number
        return self._placed(table, tuple(enumerate(rows)))

    def _rows(self, table: int, indices: tuple[str, ...]) -> tuple[str, ...]:
        dimensions = self.tables[table].dimensions
        return tuple(
            f"({index} - q_first)" if axis < len(dimensions) and dimensions[axis].kind == "query" else index
            for axis, index in enumerate(indices)
        )

    def _placed(self, table: int, rows: tuple[tuple[int, str], ...]) -> Place:
        """Where a row of each of some axes leads, with these axes alone."""
        offset, conditions = "", []
        for axis, row in rows:
            size = f"table{table}_size{axis}"
            offset = f"({offset}) * {size} + {row}" if offset else row
            conditions.append(f"({row} < {size})" if row.isdecimal() else f"({row} >= 0) & ({row} < {size})")
        inside = " & ".join(conditions)
        if len(rows) > 1:
            # Triton's interpreter turns a condition on scalars into integers when a block joins it, and refuses those
            # as a mask: the comparison makes it a condition again, and costs a device nothing
            inside = f"({inside}) != 0"
        return Place(offset or "0", inside or None)

    def _load(self, table: int, place: Place) -> str:
        if place.inside is None:
            return f"tl.load(table{table})"
        return f"tl.load(table{table} + ({place.offset}), mask={place.inside}, other=0)"

    def operation(self, op: Op, args: tuple[str, ...], types: tuple[Type, ...], kind: Type) -> str:
        if op in _JOINS:
            return f" {_JOINS[op]} ".join(args)
        if op in _COMPARISONS:
            return f"{args[0]} {_COMPARISONS[op]} {args[1]}"
        if op in _FUNCTIONS:
            return f"{_FUNCTIONS[op]}({', '.join(args)})"
        match op, args:
            case "sub", (a, b):
                return f"{a} - {b}"
            case "neg", (x,):
                return f"-{x}"
            case (("min" | "max"), (first, *rest)):
                text = first
                for x in rest:
                    text = f"tl.{op}imum({text}, {x})"
                return text
            case "div", (a, b):
                return f"{a} / {b}"
            case "float", (x,):
                return f"tl.cast({x}, {self.compute})"
            case "floordiv", (x, divisor):
                return _floordiv(x, divisor)
            case "mod", (x, divisor):
                return _mod(x, divisor)
            case (("fp16" | "bf16" | "fp32" | "fp64"), (x,)):
                return self._rounded(op, x)
            case "not", (x,):
                return f"{x} == 0"
            case "hash", _:
                return self._hash(args)
            case (("if" | "filter" | "plus"), _):
                return self._select(op, args, types, kind)
        raise ValueError(f"no spelling of {op}")  # unreachable: every operation is listed

    def _select(self, op: Op, args: tuple[str, ...], types: tuple[Type, ...], kind: Type) -> str:
        if op == "plus":
            return " + ".join(_counted(x, its) for x, its in zip(args, types, strict=True))
        if op == "filter":
            return f"tl.where({args[0]}, {_counted(args[1], types[1])}, 0)"
        if kind == "count":
            return f"tl.where({args[0]}, {_counted(args[1], types[1])}, {_counted(args[2], types[2])})"
        text = f"tl.where({args[0]}, {args[1]}, {args[2]})"
        return f"{text}.to({self.integer})" if kind == "int" else text  # two literals would give 32 bits

    def _rounded(self, op: Op, x: str) -> str:
        """A sum or a product rounded to a dtype, to float32 first. Kernels that do so fuse no products with sums."""
        single = f"{x}.to(tl.float32)" if self.double else x
        if op == "fp64" or (op == "fp32" and not self.double):
            return x
        if op == "bf16":  # by its bits: not every GPU has the format, nor Triton's interpreter its rounding
            bits = f"({single}).to(tl.uint32, bitcast=True)"
            kept = f"((({bits} + 0x7FFF + (({bits} >> 16) & 1)) >> 16) << 16).to(tl.float32, bitcast=True)"
            single = f"tl.where({x} == {x}, {kept}, {single})"
        elif op == "fp16":
            single = f"{single}.to(tl.float16).to(tl.float32)"
        return f"({single}).to(tl.float64)" if self.double else single

    def _hash(self, args: tuple[str, ...]) -> str:
        """The chain of MurmurHash3's ``fmix32``; leading constant arguments are hashed here."""
        known = 0
        start = HASH_START
        while known < len(args) and (value := _integer(args[known])) is not None:
            start = hash_more(start, value)
            known += 1
        text = f"tl.full([], {start}, tl.uint32)"
        for x in args[known:]:
            value = _integer(x)
            text = f"_mix({text}, {x if value is None else f'tl.full([], {value & 0xFFFFFFFF}, tl.uint32)'})"
        return f"({text} >> 1).to({self.integer})"


def _integer(text: str) -> int | None:
    """The value of an integer literal as :meth:`TritonDialect.constant` writes it."""
    digits = text.strip("()")
    return int(digits) if digits.removeprefix("-").isdecimal() else None


def _counted(text: str, kind: Type) -> str:
    """A condition as 0 or 1; a count as it is."""
    return f"tl.cast({text}, tl.int32)" if kind == "bool" else text


def _floordiv(x: str, divisor: str) -> str:
    """The quotient, rounded down; Triton's ``//`` rounds towards zero. The divisor is positive, a literal or a name."""
    if divisor.isdecimal() and int(divisor) & (int(divisor) - 1) == 0:
        return f"{x} >> {int(divisor).bit_length() - 1}"
    return f"{x} // {divisor} - tl.where({x} % {divisor} < 0, 1, 0)"


def _mod(x: str, divisor: str) -> str:
    """The remainder in ``0 .. divisor - 1``; Triton's ``%`` has the sign of its left operand."""
    if divisor.isdecimal() and int(divisor) & (int(divisor) - 1) == 0:
        return f"{x} & {int(divisor) - 1}"
    return f"{x} % {divisor} + tl.where({x} % {divisor} < 0, {divisor}, 0)"
