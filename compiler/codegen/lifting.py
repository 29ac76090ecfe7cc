"""What of a Program decides the text of its kernels, and the integers that a launch passes to them.

Windows, offsets and bounds of equal structure share one kernel. Divisors stay in it, because divisions by them must.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..diagnostics import within_64_bits
from ..ir import FALSE, TRUE, Apply, Const, Entry, Expr, Member, Number, Table, substitute, walk
from ..plan import Gathered, Kernel, Order, Program, Segment, Sorted


class Lifted(NamedTuple):
    """A Program with its integers taken out: each :class:`Number` stands for the entry of ``numbers`` at its index.

    What no kernel reads is the same in all lifted programs: the mask, what gathers or sorts an order, the heads, what
    tables are called and what the text says of their contents.
    """

    program: Program
    numbers: tuple[int, ...]


def lift(program: Program) -> Lifted:
    """Take every integer constant out of conditions, score and sink, but for divisors.

    Equal integers stay apart, so that programs that differ only in numbers are lifted to the same one; only where the
    same expression stands twice has it the same numbers.
    """
    lifting = _Lifting()
    kernels = tuple(_kernel(kernel, lifting) for kernel in program.kernels)
    score = lifting.lift(program.score)
    sink = None if program.sink is None else lifting.lift(program.sink)
    tables = tuple(_nameless(table, number) for number, table in enumerate(program.tables))
    lifted = Program(kernels=kernels, mask=TRUE, score=score, sink=sink, tables=tables)
    return Lifted(lifted, tuple(lifting.numbers))


def filled(expr: Expr, numbers: tuple[int, ...]) -> Expr:
    """An expression of a lifted program with its numbers back in their places."""
    return substitute(expr, {Number(index): Const(value) for index, value in enumerate(numbers)})


def _kernel(kernel: Kernel, lifting: _Lifting) -> Kernel:
    segments = tuple(Segment(_order(part.keys), lifting.lift(part.condition)) for part in kernel.segments)
    where = lifting.lift(kernel.where)
    return replace(kernel, rows=_order(kernel.rows), segments=segments, where=where, heads=None)


def _nameless(table: Table, number: int) -> Table:
    dimensions = tuple(replace(dimension, name="") for dimension in table.dimensions)
    return Table(str(number), table.element, dimensions)


def _order(order: Order) -> Order:
    match order:
        case Gathered():
            return replace(order, condition=FALSE)
        case Sorted():
            return replace(order, rank=Entry("0", (), "int"))
        case _:
            return order


@dataclass
class _Lifting:
    """The numbers found so far, and what has become of each expression."""

    numbers: list[int] = field(default_factory=list)
    _done: dict[Expr, Expr] = field(default_factory=dict)

    def lift(self, expr: Expr) -> Expr:
        for node in walk(expr):
            if node not in self._done:
                self._done[node] = self._parts_lifted(node)
        return self._done[expr]

    def _parts_lifted(self, node: Expr) -> Expr:
        """The node itself keeps its shape: nothing is folded again."""
        match node:
            case Apply(op="floordiv" | "mod", args=(dividend, divisor)):
                return replace(node, args=(self._part(dividend), divisor))
            case Apply(args=args):
                return replace(node, args=tuple(map(self._part, args)))
            case Entry(indices=indices):
                return replace(node, indices=tuple(map(self._part, indices)))
            case Member(element=element, indices=indices):
                indices = tuple(map(self._part, indices))
                return replace(node, indices=indices, element=self._part(element))
            case _:
                return node

    def _part(self, part: Expr) -> Expr:
        if isinstance(part, Const) and part.type == "int":
            self.numbers.append(within_64_bits(int(part.value)))  # no wider one is looked at
            return Number(len(self.numbers) - 1)
        return self._done[part]


def numbers_of(expr: Expr) -> tuple[int, ...]:
    """The indices of the numbers that an expression of a lifted program reads, in the order in which it does."""
    return tuple(node.index for node in walk(expr) if isinstance(node, Number))
