"""The typed expression that a checked pattern is, and the attention built around it. Nouns only.

An expression speaks of one pair: the query position ``q``, the key position ``k``, the number of keys ``n``, the
query head, and run-time tables. Everything that the text knew at compile time (constants, sizes, layers, local names,
applied patterns) has been substituted before an expression exists. What operations there are says the table of
:mod:`compiler.ir.operations`; building expressions, with constants folded, is :mod:`compiler.ir.constructors`'s work;
what they mean is :mod:`compiler.oracle.interpreter`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from ..diagnostics import Span
from .operations import Op, Type


@dataclass(frozen=True)
class Const:
    value: bool | int | float
    type: Type = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # A field, so that 1, 1.0 and true differ: to Python they are equal, and one would stand for another in a dict.
        kind: Type = "bool" if isinstance(self.value, bool) else "int" if isinstance(self.value, int) else "float"
        object.__setattr__(self, "type", kind)


@dataclass(frozen=True)
class Position:
    """``q``, ``k``, ``n``, ``head`` and ``heads`` of the language; ``head_dim`` stands in a scale only."""

    name: Literal["q", "k", "n", "head", "heads", "head_dim"]
    type: Type = field(default="int", init=False)


@dataclass(frozen=True)
class Logit:
    """``s``: the scaled logit ``scale * q·k``; in a score only."""

    type: Type = field(default="float", init=False)


@dataclass(frozen=True)
class Entry:
    """One entry of a run-time table, with one index for each of its dimensions (none for a scalar).

    An index outside the table reads 0 or false. The index of a ``query`` dimension is the position ``q``: the table's
    row is ``q - q_start``.
    """

    table: str
    indices: tuple[Expr, ...]
    type: Type
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Member:
    """Whether ``element`` is in a run-time set, itself chosen by one index for each dimension of the table."""

    element: Expr
    table: str
    indices: tuple[Expr, ...]
    type: Type = field(default="bool", init=False)
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Number:
    """An integer given at the launch, number ``index`` of its numbers; made by :mod:`compiler.codegen` alone."""

    index: int
    type: Type = field(default="int", init=False)


@dataclass(frozen=True)
class Apply:
    op: Op
    args: tuple[Expr, ...]
    type: Type
    span: Span | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Kept from the start: a deep expression is looked up often, and its parts have theirs already.
        size, depth = 1, 0
        for part in self.args:
            part_size, part_depth = part.__dict__["_measure"] if isinstance(part, Apply) else measure(part)
            size += part_size
            depth = max(depth, part_depth)
        self.__dict__["_measure"] = size, depth + 1
        self.__dict__["_hash"] = hash((self.op, self.args, self.type))

    def __hash__(self) -> int:
        return int(self.__dict__["_hash"])

    def __reduce__(self) -> tuple[object, ...]:
        return Apply, (self.op, self.args, self.type, self.span)  # hashes of words differ from process to process


Expr = Const | Position | Logit | Number | Entry | Member | Apply

Q, K, N = Position("q"), Position("k"), Position("n")
HEAD, HEADS, HEAD_DIM = Position("head"), Position("heads"), Position("head_dim")
LOGIT = Logit()
TRUE, FALSE = Const(True), Const(False)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct parts of an expression, in the order in which they are reached."""
    match expr:
        case Apply(args=args):
            return args
        case Entry(indices=indices):
            return indices
        case Member(element=element, indices=indices):
            return (*indices, element)
        case _:
            return ()


def measure(expr: Expr) -> tuple[int, int]:
    """How many nodes an expression has when nothing is shared, and how deep they are nested."""
    if isinstance(expr, Apply):
        found: tuple[int, int] = expr.__dict__["_measure"]
        return found
    parts = children(expr) if isinstance(expr, (Entry, Member)) else ()
    if not parts:
        return 1, 1
    measures = [measure(part) for part in parts]
    return 1 + sum(size for size, _ in measures), 1 + max(depth for _, depth in measures)


def walk(expr: Expr) -> Iterator[Expr]:
    """Every distinct part of an expression once, parts before the whole."""
    seen: set[Expr] = set()
    stack: list[Expr | None] = [expr]
    while stack:
        node = stack.pop()
        if node is None:  # the parts of the whole below it are done
            whole = stack.pop()
            assert whole is not None
            yield whole
        elif node not in seen:
            seen.add(node)
            parts = children(node)
            if parts:
                stack += (node, None, *reversed(parts))
            else:
                yield node
