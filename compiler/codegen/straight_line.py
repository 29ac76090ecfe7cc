"""Lowers expressions to straight-line code, the same for every target: each distinct part becomes one statement.

A target brings a :class:`Dialect` that spells single operations. Nothing is short-circuited: a branch is a select and a
read outside its table gives 0, so every statement may run whatever the values of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        """A bounds-checked test of membership in a set (a bitmap, or members in rising order): false outside."""
        ...

    def operation(self, op: Op, args: tuple[str, ...], types: tuple[Type, ...], kind: Type) -> str: ...


@dataclass(frozen=True)
class Statement:
    """One variable and the operation that gives it its value.

    - ``name`` is the variable's own name, ``holder`` the record whose field it is, if it is a field;
    - ``text`` spells the operation, ``operands`` names the statements whose values it reads, by their ``reference``;
    - ``depends`` says what the value depends on: some of ``"q"`` (query), ``"k"`` (key) and ``"s"`` (logit).
    """

    name: str
    type: Type
    text: str
    depends: frozenset[str]
    operands: tuple[str, ...] = ()
    holder: str | None = None

    @property
    def reference(self) -> str:
        """How other statements read the value: ``t3``, or ``row.t3`` where a record holds it."""
        return self.name if self.holder is None else f"{self.holder}.{self.name}"


@dataclass(frozen=True)
class Lowered:
    """Statements, each after its operands. ``results`` spells each root: a statement's reference, or a leaf."""

    statements: tuple[Statement, ...]
    results: tuple[str, ...]


def lower(
    roots: Sequence[Expr], dialect: Dialect, prefix: str = "t", holders: Mapping[Expr, str] | None = None
) -> Lowered:
    """Return straight-line code for several expressions at once.

    The name of a variable is ``prefix`` and its number. ``holders`` gives, for each expression whose value is a field
    of a record, the name of the record. Tables are named by their number in the Program.
    """
    holders = holders or {}
    statements: list[Statement] = []
    spelled: dict[Expr, str] = {}
    depends = dependencies(roots)
    for node in depends:
        parts = children(node)
        texts = tuple(spelled[part] for part in parts)
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
                text = dialect.entry(int(table), texts, kind)
            case Member(table=table):
                text = dialect.member(texts[-1], int(table), texts[:-1])
            case Apply(op=op, args=args, type=kind):
                text = dialect.operation(op, texts, tuple(x.type for x in args), kind)
        operands = tuple(spelled[part] for part in parts if not is_leaf(part))
        statement = Statement(f"{prefix}{len(statements)}", node.type, text, depends[node], operands, holders.get(node))
        spelled[node] = statement.reference
        statements.append(statement)
    return Lowered(tuple(statements), tuple(spelled[root] for root in roots))


def dependencies(roots: Sequence[Expr]) -> dict[Expr, frozenset[str]]:
    """Return every distinct part of some expressions, operands first, with what its value depends on.

    That is a set of ``"q"`` (the position of the query), ``"k"`` (that of the key) and ``"s"`` (the logit).
    """
    found: dict[Expr, frozenset[str]] = {}
    for root in roots:
        for node in walk(root):
            if node not in found:
                found[node] = frozenset().union(*(found[part] for part in children(node))) | _own(node)
    return found


def is_leaf(node: Expr) -> bool:
    """Whether an expression is spelled where it is used, without a statement of its own."""
    return isinstance(node, (Const, Position, Logit, Number))


def _own(node: Expr) -> frozenset[str]:
    match node:
        case Position(name=("q" | "k") as name):
            return frozenset((name,))
        case Logit():
            return frozenset("s")
        case _:
            return frozenset()
