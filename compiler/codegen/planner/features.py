"""Splits a condition into what one side alone decides (features) and what relates both sides.

A feature is evaluated for every token, exactly, and reduced to its range over each granule of tokens; pairs of granules
are then judged by these ranges (:mod:`.intervals`). So the parts of a condition that read the query alone or the key
alone may be anything: a table entry, a set, a hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import gcd
from typing import Literal

from ...ir import Apply, Const, Entry, Expr, Number, Position, children
from ...plan import Box, ListedOrder, Order, OrderTable, View
from .. import dependencies

Side = Literal["row", "column"]
_GROUPED = frozenset({"and", "or", "add", "min", "max", "plus"})


@dataclass(frozen=True)
class Feature:
    """An expression that only one side decides. ``signed``: its values are also compared for equality, by signature.

    ``step``: all its values in one granule are equal modulo this number; 0 if there is only one value.
    """

    expr: Expr
    step: int
    signed: bool = False


@dataclass
class Features:
    """The features of both sides, in the order in which they were asked for."""

    steps: Mapping[Side, int]
    row: list[Feature] = field(default_factory=list)
    column: list[Feature] = field(default_factory=list)

    def number(self, side: Side, expr: Expr, signed: bool = False) -> int:
        """The number of a feature among those of its side; a new one if nobody asked for it before."""
        found = self.row if side == "row" else self.column
        for number, feature in enumerate(found):
            if feature.expr == expr:
                found[number] = replace(feature, signed=feature.signed or signed)
                return number
        found.append(Feature(expr, step_of(expr, self.steps[side]), signed))
        return len(found) - 1


def side_of(depends: frozenset[str]) -> Side | None:
    """The side that decides an expression which depends on these positions; None if both do.

    What neither decides counts as the rows'.
    """
    if "k" not in depends:
        return "row"
    return None if "q" in depends else "column"


@OrderTable
def position_step(order: Order, /) -> int:
    """A number that divides the differences of all tokens in one tile of an order; 0 where a tile has one token."""
    raise NotImplementedError


@position_step.register(View)
def _of_view(order: View, /) -> int:
    return gcd(*(axis.stride for axis in order.axes if axis.tile > 1))


@position_step.register(Box, ListedOrder)
def _of_any(_order: Order, /) -> int:
    return 1


def step_of(expr: Expr, position: int) -> int:
    """A number that divides all differences of an integer's values in a granule; 0 if there is just one value.

    ``position`` divides those of the granule's positions.
    """
    match expr:
        case Const() | Number() | Position(name="n" | "head" | "heads"):
            return 0
        case Position():
            return position
        case Apply(op="add" | "sub" | "neg", args=args):
            return gcd(*(step_of(part, position) for part in args))
        case Entry(indices=()):
            return 0
        case _:
            return 0 if not _reads_positions(expr) else 1


def _reads_positions(expr: Expr) -> bool:
    found = dependencies([expr])[expr]
    return bool(found & {"q", "k"})


def granule(order: Order, exprs: tuple[Expr, ...], least: int = 16) -> int:
    """How many lanes of a tile are reduced to one range: fewer than all where a divisor tells smaller blocks apart.

    A table entry that is chosen by the number of a block has one value in each, and two values far apart in a tile of
    two blocks: their range would cover all between them.
    """
    size = order.tile & -order.tile
    seen: set[Expr] = set()
    stack = list(exprs)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        stack.extend(children(node))
        if isinstance(node, Apply) and node.op == "floordiv" and isinstance(divisor := node.args[1], Const):
            size = max(min(size, int(divisor.value) & -int(divisor.value)), min(least, size))
    return size


def grouped(node: Apply, depends: Mapping[Expr, frozenset[str]]) -> Apply:
    """The node with its operands that one side decides joined to one operand, where the order does not matter.

    Joined, they are evaluated token by token, which says more than the range of each.
    """
    if node.op not in _GROUPED or node.type in ("float", "double"):
        return node
    alone: dict[Side, list[Expr]] = {"row": [], "column": []}
    mixed: list[Expr] = []
    for part in node.args:
        side = side_of(depends[part])
        (mixed if side is None else alone[side]).append(part)
    if not any("q" in depends[part] for part in alone["row"]):  # what neither side decides joins the keys
        alone["column"] += alone["row"]
        alone["row"] = []
    joined = [_joined(node, parts) for parts in alone.values() if parts]
    return replace(node, args=(*joined, *mixed)) if len(joined) + len(mixed) > 1 else node


def _joined(node: Apply, parts: list[Expr]) -> Expr:
    return parts[0] if len(parts) == 1 else replace(node, args=tuple(parts))
