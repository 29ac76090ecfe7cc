"""Values of expressions of the text: numbers and conditions, sets, lists, run-time tables. Dataclasses only.

None in place of a value means that it has a fault, which is reported already: whatever needs it reports nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from ..diagnostics import limits
from ..ir import Apply, Const, Dimension, Expr, Type


@dataclass(frozen=True)
class Scalar:
    """A number, a condition or a count.

    ``constant``: known at compile time. While a declaration is checked by itself, the values of its parameters are not
    known yet; a constant that depends on one is not a :class:`compiler.ir.expressions.Const`.
    """

    kind: Type
    expr: Expr
    constant: bool = False

    @property
    def known(self) -> bool:
        return self.constant and isinstance(self.expr, Const)


@dataclass(frozen=True)
class ConstantSet:
    """A compile-time set. ``runs`` are closed ranges, rising and not adjacent; None while they are not known yet.

    ``parameter`` is the compile-time parameter that the set was passed to, if any; messages name it.
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
        """The same set as the value of a parameter. The hash of its runs, which may be long, is kept."""
        found = ConstantSet(self.runs, parameter)
        found.__dict__["_hash_of_runs"] = self._hash_of_runs
        return found


@dataclass(frozen=True)
class OpenSet:
    """A set whose members depend on positions or tables: closed ranges, with equal ends for a single member."""

    ranges: tuple[tuple[Expr, Expr], ...]


@dataclass(frozen=True)
class ListValue:
    """A list of constants: numbers, conditions, sets or lists, all of one kind.

    ``contents`` caches the list as a table: contents and sizes, by the table's element type and number of dimensions.
    """

    items: tuple[Value, ...]
    contents: dict[tuple[str, int], tuple[Any, tuple[int, ...]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def __reduce__(self) -> tuple[type[ListValue], tuple[object, ...]]:
        return ListValue, (self.items,)  # without the hash, which differs in each process

    @cached_property
    def _hash(self) -> int:
        return hash(self.items)

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class TableValue:
    """A run-time parameter, or a table whose contents the text gives."""

    name: str
    element: Literal["int", "float", "bool", "set", "order"]
    dimensions: tuple[Dimension, ...]


@dataclass(frozen=True)
class TableSet:
    """One set of a run-time table of sets, chosen by one index for each dimension."""

    table: str
    indices: tuple[Expr, ...]


@dataclass(frozen=True)
class AttentionValue:
    """An applied attention; or an applied pattern, with the default score and scale. ``sink`` is None without one."""

    name: str
    mask: Expr
    score: Expr
    scale: Expr
    sink: Expr | None


Value: TypeAlias = Scalar | ConstantSet | OpenSet | ListValue | TableValue | TableSet


def runs_of(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The union of closed ranges, given in any order, as rising runs that are not adjacent. A range may be empty."""
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
    """What a value is, in words for a message."""
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


def holds_integer(value: Scalar) -> bool:
    """Whether a number is an integer that only the call knows, or a float that may be one by a choice."""
    if value.kind == "int":
        return not value.constant
    return any(isinstance(part, Apply) and part.op == "float" for part in _branches(value.expr))


def is_computed(value: Scalar) -> bool:
    """Whether a float that only the call knows is computed, not a choice between entries, constants and integers."""
    parts = _branches(value.expr) if value.kind == "float" and not value.constant else ()
    return any(isinstance(part, Apply) and part.op != "float" for part in parts)


def _branches(expr: Expr) -> tuple[Expr, ...]:
    """The numbers that a choice, of choices perhaps, is between; others alone."""
    if isinstance(expr, Apply) and expr.op == "if":
        return (*_branches(expr.args[1]), *_branches(expr.args[2]))
    return (expr,)


def power_of(base: int | float, exponent: int | float) -> int | float | str:
    """The power, or in words what is wrong with it."""
    if isinstance(base, int) and isinstance(exponent, int):
        if exponent < 0:
            return "is an int to a negative power"
        if abs(base) > 1 and exponent * math.log10(abs(base)) > limits.DIGITS + 1:
            return f"is a number of more than {limits.DIGITS} digits"
        result = base**exponent
        return result if abs(result) <= limits.LARGEST else f"is a number of more than {limits.DIGITS} digits"
    try:
        power = float(base) ** float(exponent)
    except ZeroDivisionError:
        return "divides by 0"
    except OverflowError:
        return "is beyond the largest float"
    if isinstance(power, complex):
        return "is a root of a negative number"
    return power if abs(power) < math.inf else "is beyond the largest float"
