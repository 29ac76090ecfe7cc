"""Simplifies a condition using what the chosen orders already guarantee, for all lengths and all contents of tables.

For example, a conjunct by which keys are gathered holds for all of them, and ``k % 4 == 0`` holds in an order of every
fourth key.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from ..analysis import BoundTable, Boxes, Classifier, DigitRange
from ..ir import FALSE, HEADS, TRUE, Apply, CallShape, Expr, HostTable, N, Number, Table, constructors, walk
from ..plan import EMPTY, FULL, Order

# An upper bound on positions; sums of two still fit in 64 bits.
_FURTHEST = 2**45
_ANY = CallShape(_FURTHEST, _FURTHEST, 2**20)
# Sizes that only a launch knows, replaced by integers of which nothing is known.
_UNKNOWN: Mapping[Expr, Expr] = {N: Number(0), HEADS: Number(1)}


@lru_cache(maxsize=1024)
def simplify_for_orders(condition: Expr, rows: Order, keys: Order, tables: tuple[Table, ...]) -> Expr:
    """The part of the condition that still has to be tested under these orders.

    A row's index is taken for its position: these orders serve only launches whose first position is a multiple of
    their alignment.
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
    """Whether an order implies nothing that arithmetic could use: it has all tokens, or is gathered by a condition."""
    return order.covers or order.gathered_by is not None


def _may_be_decided(node: Expr) -> bool:
    return isinstance(node, Apply) and node.type == "bool" and node.op in ("lt", "le", "eq", "ne")


def _gathering(order: Order) -> dict[Expr, Expr]:
    """The condition by which an order is gathered, and its conjuncts, each with TRUE; empty for other orders."""
    condition = order.gathered_by
    if condition is None:
        return {}
    conjuncts = condition.args if isinstance(condition, Apply) and condition.op == "and" else ()
    return dict.fromkeys((condition, *conjuncts), TRUE)


def _everything(order: Order) -> tuple[DigitRange, ...]:
    """The digits of one box with all tokens of an order, and perhaps others."""
    axes, offset = order.hull
    digits = [_digit(axis.stride, axis.length or _FURTHEST // axis.stride) for axis in axes]
    start = np.full(1, offset)
    return (*digits, DigitRange(1, start, start))


def _digit(stride: int, length: int) -> DigitRange:
    return DigitRange(stride, np.zeros(1, np.int64), np.full(1, length - 1))
