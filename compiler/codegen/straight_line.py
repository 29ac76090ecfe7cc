"""Expressions to straight-line code, the same way for every target: each distinct part becomes one statement.

A target brings a :class:`Dialect` that spells single operations. Nothing is short-circuited: a branch is a select and a
read outside its table gives 0, so every statement may run whatever the others found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..diagnostics import within_64_bits
from ..ir import Apply, Const, Entry, Expr, Logit, Member, Number, Op, Position, Type, children, walk


class Dialect(Protocol):
    """How one target spells single operations. Operands are names or literals that this dialect made."""

    def constant(self, value: bool | int | float) -> str: ...

    def position(self, name: str) -> str: ...

    def logit(self) -> str: ...

    def number(self, index: int) -> str:
        """An integer that the launch passes."""
        ...

    def entry(self, table: int, indices: tuple[str, ...], kind: Type) -> str:
        """A bounds-checked read: 0 or false outside."""
        ...

    def member(self, element: str, table: int, indices: tuple[str, ...]) -> str:
        """A bounds-checked look into a set, a bitmap or rising members: false outside."""
        ...

    def operation(self, op: Op, args: tuple[str, ...], types: tuple[Type, ...], kind: Type) -> str: ...


@dataclass(frozen=True)
class Statement:
    """``name = text``. ``depends`` holds ``"q"``, ``"k"`` and ``"s"`` as far as the value changes with them."""

    name: str
    type: Type
    text: str
    depends: frozenset[str]


@dataclass(frozen=True)
class Lowered:
    """Statements in an order in which each follows its operands; ``results`` names or spells each root."""

    statements: tuple[Statement, ...]
    results: tuple[str, ...]


def lower(roots: Sequence[Expr], dialect: Dialect, prefix: str = "t") -> Lowered:
    """Straight-line code for several expressions at once. Tables are named by their number in the Program."""
    statements: list[Statement] = []
    spelled: dict[Expr, str] = {}
    depends: dict[Expr, frozenset[str]] = {}
    for root in roots:
        for node in walk(root):
            if node in spelled:
                continue
            parts = children(node)
            depends[node] = frozenset().union(*(depends[part] for part in parts)) | _own(node)
            operands = tuple(spelled[part] for part in parts)
            match node:
                case Const(value=value):
                    spelled[node] = dialect.constant(within_64_bits(value) if type(value) is int else value)
                    continue
                case Position(name=name):
                    spelled[node] = dialect.position(name)
                    continue
                case Logit():
                    spelled[node] = dialect.logit()
                    continue
                case Number(index=index):
                    spelled[node] = dialect.number(index)
                    continue
                case Entry(table=table, type=kind):
                    text = dialect.entry(int(table), operands, kind)
                case Member(table=table):
                    text = dialect.member(operands[-1], int(table), operands[:-1])
                case Apply(op=op, args=args, type=kind):
                    text = dialect.operation(op, operands, tuple(x.type for x in args), kind)
            spelled[node] = f"{prefix}{len(statements)}"
            statements.append(Statement(spelled[node], node.type, text, depends[node]))
    return Lowered(tuple(statements), tuple(spelled[root] for root in roots))


def _own(node: Expr) -> frozenset[str]:
    match node:
        case Position(name=("q" | "k") as name):
            return frozenset((name,))
        case Logit():
            return frozenset("s")
        case _:
            return frozenset()
