"""Expressions as C++ statements, spread over the stages at which their parts are known: a head, a query, a key, a pair.

So a pair computes only what changes with it. The stages are decided on the expressions, before any text exists: a value
that a later stage reads is a field of its stage's record (``head.t0``, ``row.t1``, ``key.t2``), any other is a local
variable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...ir import Expr, children
from .. import Code, Dialect, Statement, dependencies, is_leaf, lower

Stage = Literal["head", "row", "key", "pair"]

_SINGLE = {"int": "Int", "float": "Real", "bool": "bool", "count": "Int"}
_VECTOR = {"int": "Ints", "float": "Reals", "bool": "Bools", "count": "Ints"}


@dataclass(frozen=True)
class Straight:
    """Statements for one pair, and what spells their result."""

    statements: tuple[Code, ...]
    result: Code


@dataclass(frozen=True)
class Stages:
    """Some expressions as statements, each statement at its stage. ``spelled`` is the text of each expression."""

    by_reference: Mapping[str, Statement]
    spelled: Mapping[Expr, Code]

    def fields(self, stage: Stage) -> tuple[Code, ...]:
        """The declarations of the fields of a stage's record, ``Ints t1;``."""
        return tuple(Code(f"{_type(s)} {s.name};") for s in self.by_reference.values() if s.holder == stage)

    def statements(self, stage: Stage) -> tuple[Code, ...]:
        """All that is computed at a stage, fields and local variables, in order."""
        return tuple(_line(s) for s in self.by_reference.values() if _stage(s.depends) == stage)

    def pair(self, *results: Expr) -> tuple[Code, ...]:
        """The statements that a pair needs for some of the expressions, in order."""
        wanted: set[str] = set()
        stack: list[str] = [self.spelled[result] for result in results if not is_leaf(result)]
        while stack:
            statement = self.by_reference[stack.pop()]
            if statement.reference not in wanted and _stage(statement.depends) == "pair":
                wanted.add(statement.reference)
                stack.extend(statement.operands)
        return tuple(_line(s) for reference, s in self.by_reference.items() if reference in wanted)

    def straight(self, result: Expr) -> Straight:
        """What a pair needs for one of the expressions, and its spelling."""
        return Straight(self.pair(result), self.spelled[result])


def lower_in_stages(roots: Sequence[Expr], dialect: Dialect) -> Stages:
    """Return the statements of several expressions, whose values are wanted for a pair."""
    lowered = lower(roots, dialect, holders=_holders(roots))
    spelled = {root: Code(text) for root, text in zip(roots, lowered.results, strict=True)}
    return Stages({statement.reference: statement for statement in lowered.statements}, spelled)


def _holders(roots: Sequence[Expr]) -> dict[Expr, Stage]:
    """The stage whose record holds the value of a part: of each that is read at another stage than its own."""
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


def _line(statement: Statement) -> Code:
    declared = "" if statement.holder is not None else f"const {_type(statement)} "
    return Code(f"{declared}{statement.reference} = {statement.text};")


def _type(statement: Statement) -> str:
    """A vector over queries where the value changes with the query or the logit, else one value."""
    return (_VECTOR if statement.depends & {"q", "s"} else _SINGLE)[statement.type]
