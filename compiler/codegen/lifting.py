"""Takes the integer constants out of a Program, so that programs of one structure share their kernels.

The lifted Program decides the text of the kernels; the integers are passed at each launch. Divisors stay in it: a
division by a constant costs much less than one by a variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..diagnostics import within_64_bits
from ..ir import TRUE, Apply, Const, Entry, Expr, Member, Number, Table, substitute, walk
from ..plan import Kernel, Program, Segment


class Lifted(NamedTuple):
    """A Program without its integer constants: the value of a :class:`Number` is ``numbers[index]``.

    What kernels do not read is the same in all lifted programs: the mask, the condition that gathers an order or the
    rank that sorts it, the heads, the names of tables, and contents that the text gives them.
    """

    program: Program
    numbers: tuple[int, ...]


def lift_constants(program: Program) -> Lifted:
    """Take every integer constant but the divisors out of conditions, score and sink.

    Each gets a number of its own, even if it equals another one, so that programs that differ only in constants become
    the same lifted program. An expression that occurs twice keeps the same numbers in both places.
    """
    lifting = _Lifting()
    kernels = tuple(_kernel(kernel, lifting) for kernel in program.kernels)
    score = lifting.lift(program.score)
    sink = None if program.sink is None else lifting.lift(program.sink)
    tables = tuple(_nameless(table, number) for number, table in enumerate(program.tables))
    lifted = replace(program, kernels=kernels, mask=TRUE, score=score, sink=sink, tables=tables)
    return Lifted(lifted, tuple(lifting.numbers))


def lift_expressions(exprs: Sequence[Expr]) -> tuple[tuple[Expr, ...], tuple[int, ...]]:
    """Take every integer constant but the divisors out of expressions, as :func:`lift_constants` does for a Program.

    Returns the lifted expressions, and the value of each :class:`Number` in them.
    """
    lifting = _Lifting()
    lifted = tuple(map(lifting.lift, exprs))
    return lifted, tuple(lifting.numbers)


def restore_constants(expr: Expr, numbers: tuple[int, ...]) -> Expr:
    """Put the constants back into an expression of a lifted program."""
    return substitute(expr, {Number(index): Const(value) for index, value in enumerate(numbers)})


def _kernel(kernel: Kernel, lifting: _Lifting) -> Kernel:
    segments = tuple(Segment(part.keys.nameless(), lifting.lift(part.condition)) for part in kernel.segments)
    owned, members = lifting.lift(kernel.owned_rows), kernel.members
    if members is not None:
        member = lifting.lift(members.member)
        assert isinstance(member, Member), "what is lifted keeps its structure"
        members = replace(members, member=member, rest=lifting.lift(members.rest))
    rows = kernel.rows.nameless()
    return replace(kernel, rows=rows, segments=segments, owned_rows=owned, heads=None, members=members)


def _nameless(table: Table, number: int) -> Table:
    dimensions = tuple(replace(dimension, name="") for dimension in table.dimensions)
    return Table(str(number), table.element, dimensions)


@dataclass
class _Lifting:
    """The numbers taken out so far, and the lifted form of each expression."""

    numbers: list[int] = field(default_factory=list)
    _done: dict[Expr, Expr] = field(default_factory=dict)

    def lift(self, expr: Expr) -> Expr:
        for node in walk(expr):
            if node not in self._done:
                self._done[node] = self._parts_lifted(node)
        return self._done[expr]

    def _parts_lifted(self, node: Expr) -> Expr:
        """The node with its parts lifted. It keeps its structure: constants are not folded again."""
        match node:
            case Apply(op="floordiv" | "mod", args=(dividend, divisor)):
                by = divisor if isinstance(divisor, Const) else self._done[divisor]
                return replace(node, args=(self._part(dividend), by))
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
            self.numbers.append(within_64_bits(int(part.value)))  # wider ones are spelled, but never looked at
            return Number(len(self.numbers) - 1)
        return self._done[part]


def numbers_of(expr: Expr) -> tuple[int, ...]:
    """Return the indices of the numbers that an expression of a lifted program reads, in reading order."""
    return tuple(node.index for node in walk(expr) if isinstance(node, Number))
