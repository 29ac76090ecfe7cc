"""Lowers expressions to C++ statements, each at the stage at which its value is known: a head, a query, a key, a pair.

So a pair computes only what changes from pair to pair. Stages are assigned to expressions, before they become text. A
value that a later stage reads is a field of the record of its own stage (``head.t0``, ``row.t1``, ``key.t2``); others
are local variables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...ir import Expr, children
from .. import Code, Dialect, Statement, dependencies, is_leaf, lower

Stage = Literal["head", "row", "key", "pair"]

_SINGLE = {"int": "Int", "float": "Real", "double": "double", "bool": "bool", "count": "Int"}
_VECTOR = {"int": "Ints", "float": "Reals", "double": "Doubles", "bool": "Bools", "count": "Ints"}


QUERIES, KEYS = frozenset({"q", "s"}), frozenset({"k", "s"})
"""What a value depends on that has a lane for each query, and one that has a lane for each key."""


@dataclass(frozen=True)
class Straight:
    """The statements for one pair, and the text of their result."""

    statements: tuple[Code, ...]
    result: Code


@dataclass(frozen=True)
class Stages:
    """Some expressions as statements, each statement at its stage. ``spelled`` is the text of each expression;
    ``vectors``: what depends on one of these has a lane for each query, or for each key.
    """

    by_reference: Mapping[str, Statement]
    spelled: Mapping[Expr, Code]
    vectors: frozenset[str] = QUERIES

    def fields(self, stage: Stage) -> tuple[Code, ...]:
        """The declarations of the fields of a stage's record, ``Ints t1;``."""
        return tuple(Code(f"{self._type(s)} {s.name};") for s in self.by_reference.values() if s.holder == stage)

    def statements(self, stage: Stage) -> tuple[Code, ...]:
        """The statements of a stage in order, for fields and local variables."""
        return tuple(self._line(s) for s in self.by_reference.values() if _stage(s.depends) == stage)

    def pair(self, *results: Expr, known: frozenset[str] = frozenset()) -> tuple[Code, ...]:
        """The statements that compute some of the expressions for a pair, in order; the values of ``known`` ones are
        fields of ``held``.
        """
        wanted: set[str] = set()
        stack: list[str] = [self.spelled[result] for result in results if not is_leaf(result)]
        while stack:
            statement = self.by_reference[stack.pop()]
            if statement.reference not in wanted and _stage(statement.depends) == "pair":
                wanted.add(statement.reference)
                stack.extend(() if statement.reference in known else statement.operands)
        return tuple(
            Code(f"const {self._type(s)} {s.name} = held.{s.name};") if reference in known else self._line(s)
            for reference, s in self.by_reference.items()
            if reference in wanted
        )

    def declaration(self, reference: str) -> Code:
        """The declaration of a statement's value as a field, ``Bools t4;``."""
        statement = self.by_reference[reference]
        return Code(f"{self._type(statement)} {statement.name};")

    def _line(self, statement: Statement) -> Code:
        declared = "" if statement.holder is not None else f"const {self._type(statement)} "
        return Code(f"{declared}{statement.reference} = {statement.text};")

    def _type(self, statement: Statement) -> str:
        """The C++ type: a vector if the value differs from lane to lane, else a single value."""
        return (_VECTOR if statement.depends & self.vectors else _SINGLE)[statement.type]

    def straight(self, result: Expr) -> Straight:
        """The statements that compute one of the expressions for a pair, and the text of its value."""
        return Straight(self.pair(result), self.spelled[result])


def lower_in_stages(roots: Sequence[Expr], dialect: Dialect, vectors: frozenset[str] = QUERIES) -> Stages:
    """Return the statements of several expressions whose values are needed for each pair."""
    lowered = lower(roots, dialect, holders=_holders(roots))
    spelled = {root: Code(text) for root, text in zip(roots, lowered.results, strict=True)}
    return Stages({statement.reference: statement for statement in lowered.statements}, spelled, vectors)


def _holders(roots: Sequence[Expr]) -> dict[Expr, Stage]:
    """The parts that are read at a later stage, each with its own stage, whose record holds the value."""
    stages = {node: _stage(depends) for node, depends in dependencies(roots).items()}
    read: set[tuple[Expr, Stage]] = {(root, "pair") for root in roots}
    read |= {(part, stage) for node, stage in stages.items() for part in children(node)}
    return {part: stages[part] for part, stage in read if stages[part] != stage and not is_leaf(part)}


def _stage(depends: frozenset[str]) -> Stage:
    if not depends:
        return "head"
    if depends == {"q"}:
        return "row"
    return "key" if depends == {"k"} else "pair"
