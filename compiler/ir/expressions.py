"""The nodes of a typed expression, which masks, scores, scales and sinks are made of. Dataclasses only.

An expression is a function of one pair: the query position ``q``, the key position ``k``, the number of keys ``n``, the
query head, and run-time tables. All that the text knows at compile time (constants, sizes, layers, local names, applied
patterns) is substituted before an expression exists. :mod:`compiler.ir.operations` lists the operations,
:mod:`compiler.ir.constructors` builds expressions and folds constants, and :mod:`compiler.oracle.interpreter` says what
they mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from ..diagnostics import Span
from .operations import Op, Type


@dataclass(frozen=True)
class Const:
    """A condition, an integer or a float that is known at compile time."""

    value: bool | int | float
    type: Type = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # A field, so that 1, 1.0 and true differ: Python holds them equal, and a dict would mix them up.
        kind: Type = "bool" if isinstance(self.value, bool) else "int" if isinstance(self.value, int) else "float"
        object.__setattr__(self, "type", kind)


@dataclass(frozen=True)
class Position:
    """``q``, ``k``, ``n``, ``head`` or ``heads`` of the language; or ``head_dim``, which occurs in a scale only."""

    name: Literal["q", "k", "n", "head", "heads", "head_dim"]
    type: Type = field(default="int", init=False)


@dataclass(frozen=True)
class Logit:
    """``s``: the scaled logit ``scale * q·k``. It occurs in a score only."""

    type: Type = field(default="float", init=False)


@dataclass(frozen=True)
class Entry:
    """One entry of a run-time table, read by one index for each of its dimensions (none for a scalar).

    A read outside the table gives 0 or false. The index of a ``query`` dimension is the position ``q``: the table's
    row is ``q - q_start``.
    """

    table: str
    indices: tuple[Expr, ...]
    type: Type
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Member:
    """Whether ``element`` is in a run-time set, chosen from its table by one index for each dimension."""

    element: Expr
    table: str
    indices: tuple[Expr, ...]
    type: Type = field(default="bool", init=False)
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Number:
    """An integer passed at the launch, ``index`` among its numbers. Only :mod:`compiler.codegen` makes these."""

    index: int
    type: Type = field(default="int", init=False)


@dataclass(frozen=True)
class Apply:
    """An operation on arguments; ``type`` is that of its value. Node count, depth and hash are computed once."""

    op: Op
    args: tuple[Expr, ...]
    type: Type
    span: Span | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Computed here, where the parts have theirs already: deep expressions are looked up often.
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
        return Apply, (self.op, self.args, self.type, self.span)  # without the hash, which differs in each process


Expr = Const | Position | Logit | Number | Entry | Member | Apply

Q, K, N = Position("q"), Position("k"), Position("n")
HEAD, HEADS, HEAD_DIM = Position("head"), Position("heads"), Position("head_dim")
LOGIT = Logit()
TRUE, FALSE = Const(True), Const(False)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct operands of an expression, in the order in which they are evaluated."""
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
    """The number of nodes of an expression, shared parts counted each time, and the depth of its nesting."""
    if isinstance(expr, Apply):
        found: tuple[int, int] = expr.__dict__["_measure"]
        return found
    parts = children(expr) if isinstance(expr, (Entry, Member)) else ()
    if not parts:
        return 1, 1
    measures = [measure(part) for part in parts]
    return 1 + sum(size for size, _ in measures), 1 + max(depth for _, depth in measures)


def walk(expr: Expr) -> Iterator[Expr]:
    """Every distinct sub-expression once, operands before what is made of them; ``expr`` itself comes last."""
    seen: set[Expr] = set()
    stack: list[Expr | None] = [expr]
    while stack:
        node = stack.pop()
        if node is None:  # all parts of the node below it on the stack are done
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
