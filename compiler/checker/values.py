"""What an expression of the text has become: a number or condition, a set, a list, a run-time table. Nouns only.

None stands for a value whose fault has been reported already: whatever needs it is silent in turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from ..ir import Const, Dimension, Expr, Type


@dataclass(frozen=True)
class Scalar:
    """A number, a condition or a count.

    ``constant``: known to the compiler. While a declaration is checked by itself its parameters stand for constants
    that are not known yet; then ``expr`` is no :class:`compiler.ir.expressions.Const`.
    """

    kind: Type
    expr: Expr
    constant: bool = False

    @property
    def known(self) -> bool:
        return self.constant and isinstance(self.expr, Const)


@dataclass(frozen=True)
class ConstantSet:
    """Members as closed runs, rising and apart; None while they are not known yet.

    ``parameter`` is the compile-time parameter that the set was given for, if any.
    """

    runs: tuple[tuple[int, int], ...] | None
    parameter: str = ""

    @property
    def size(self) -> int:
        return sum(high - low + 1 for low, high in self.runs or ())

    @cached_property
    def _hash_of_runs(self) -> int:
        return hash(self.runs)

    def __hash__(self) -> int:
        return hash((self._hash_of_runs, self.parameter))

    def given_for(self, parameter: str) -> ConstantSet:
        """The same set as the value of a parameter; what was found out about its members stays known."""
        found = ConstantSet(self.runs, parameter)
        found.__dict__["_hash_of_runs"] = self._hash_of_runs
        return found


@dataclass(frozen=True)
class OpenSet:
    """Members that depend on positions or tables: closed ranges; a single member is one from itself to itself."""

    ranges: tuple[tuple[Expr, Expr], ...]


@dataclass(frozen=True)
class ListValue:
    """Constants: numbers, conditions, sets or lists, all of one kind.

    ``contents``: what the list is as a table, by the table's element and dimensions, once that is worked out.
    """

    items: tuple[Value, ...]
    contents: dict[tuple[str, int], tuple[Any, tuple[int, ...]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def __reduce__(self) -> tuple[type[ListValue], tuple[object, ...]]:
        return ListValue, (self.items,)  # hashes of words differ from process to process

    @cached_property
    def _hash(self) -> int:
        return hash(self.items)

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class TableValue:
    """A run-time parameter."""

    name: str
    element: Literal["int", "float", "bool", "set", "order"]
    dimensions: tuple[Dimension, ...]


@dataclass(frozen=True)
class TableSet:
    """One set of a table of sets."""

    table: str
    indices: tuple[Expr, ...]


@dataclass(frozen=True)
class AttentionValue:
    """An applied attention, or a pattern in its place. ``sink`` None: there is none."""

    name: str
    mask: Expr
    score: Expr
    scale: Expr
    sink: Expr | None


Value: TypeAlias = Scalar | ConstantSet | OpenSet | ListValue | TableValue | TableSet


def runs_of(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Closed ranges in any order, empty ones allowed, as rising runs with a gap between any two."""
    runs: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if low > high:
            continue
        if runs and low <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], max(high, runs[-1][1]))
        else:
            runs.append((low, high))
    return tuple(runs)


def described(value: Value) -> str:
    """What a value is, for a message."""
    match value:
        case Scalar(kind="int"):
            return "an int"
        case Scalar(kind="float"):
            return "a float"
        case Scalar(kind="bool"):
            return "a condition"
        case Scalar():
            return "a count"
        case ConstantSet() | OpenSet() | TableSet() | TableValue(element="set", dimensions=()):
            return "a set"
        case ListValue():
            return "a list"
        case TableValue(element="set"):
            return "a table of sets"
        case TableValue(element=element, dimensions=()):
            return f"a run-time {element}"
        case TableValue():
            return "a table"
