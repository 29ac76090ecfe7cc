"""What of a condition is decided by the orders in which rows and keys are walked, whatever the lengths and the tables.

A conjunct that gathers the keys holds of all of them; ``k % 4 == 0`` holds all along every fourth key.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from ..analysis import BoundTable, Boxes, Classifier, DigitRange
from ..ir import FALSE, HEADS, TRUE, Apply, CallShape, Expr, HostTable, N, Number, Table, constructors, walk
from ..plan import EMPTY, FULL, Order

# No token's position is larger; twice as many still add up in 64 bits.
_FURTHEST = 2**45
_ANY = CallShape(_FURTHEST, _FURTHEST, 2**20)
# What a launch alone knows, as an integer of which nothing is known here.
_UNKNOWN: Mapping[Expr, Expr] = {N: Number(0), HEADS: Number(1)}


@lru_cache(maxsize=1024)
def simplify_for_orders(condition: Expr, rows: Order, keys: Order, tables: tuple[Table, ...]) -> Expr:
    """The condition, as it need be asked of rows and keys walked in these orders: what they decide is folded in.

    A row's position is taken for its index: the orders of rows are those of launches whose first position is a
    multiple of their alignment.
    """
    condition = constructors.substitute(condition, {**_gathering(rows), **_gathering(keys)})
    if _is_plain(rows) and _is_plain(keys):
        return condition
    nodes = dict.fromkeys(walk(condition))
    asked = [node for node in nodes if _may_be_decided(node)]
    if not asked:
        return condition
    box = Boxes(_everything(rows), _everything(keys), np.zeros(1, np.int64))
    unread = {str(number): BoundTable(table, HostTable(None)) for number, table in enumerate(tables)}
    unknown = {node: number for node, number in _UNKNOWN.items() if node in nodes}
    kinds = Classifier([constructors.substitute(node, unknown) for node in asked], _ANY, unread).evaluate_boxes(box)
    decided = {
        node: TRUE if kind[0] == FULL else FALSE
        for node, kind in zip(asked, kinds, strict=True)
        if isinstance(kind, np.ndarray) and kind[0] in (EMPTY, FULL)
    }
    return constructors.substitute(condition, decided) if decided else condition


def _is_plain(order: Order) -> bool:
    """Whether an order says nothing of its tokens that arithmetic could tell."""
    return order.covers or order.gathered_by is not None


def _may_be_decided(node: Expr) -> bool:
    return isinstance(node, Apply) and node.type == "bool" and node.op in ("lt", "le", "eq", "ne")


def _gathering(order: Order) -> dict[Expr, Expr]:
    """What holds of every token of an order, and does not hold of any."""
    condition = order.gathered_by
    if condition is None:
        return {}
    conjuncts = condition.args if isinstance(condition, Apply) and condition.op == "and" else ()
    return dict.fromkeys((condition, *conjuncts), TRUE)


def _everything(order: Order) -> tuple[DigitRange, ...]:
    """All tokens of an order, and perhaps others, in one box."""
    axes, offset = order.hull
    digits = [_digit(axis.stride, axis.length or _FURTHEST // axis.stride) for axis in axes]
    start = np.full(1, offset)
    return (*digits, DigitRange(1, start, start))


def _digit(stride: int, length: int) -> DigitRange:
    return DigitRange(stride, np.zeros(1, np.int64), np.full(1, length - 1))
