"""Questions about an expression: the tables and positions that it reads, and whether it is opaque to analysis."""

from __future__ import annotations

from functools import lru_cache

from .expressions import Apply, Entry, Expr, Member, Position, walk
from .operations import OPERATIONS


def tables_read(expr: Expr) -> set[str]:
    """The names of the tables that an expression reads."""
    return {node.table for node in walk(expr) if isinstance(node, Entry | Member)}


def divisors(*exprs: Expr) -> set[str]:
    """The names of the tables by whose number something is divided, with ``//`` or ``%``, in some expressions."""
    return {
        node.args[1].table
        for expr in exprs
        for node in walk(expr)
        if isinstance(node, Apply) and node.op in ("floordiv", "mod") and isinstance(node.args[1], Entry)
    }


@lru_cache(maxsize=4096)
def positions(expr: Expr) -> frozenset[str]:
    """The names of the positions that an expression reads."""
    return frozenset(node.name for node in walk(expr) if isinstance(node, Position))


def is_opaque(expr: Expr) -> bool:
    """Whether an expression is a call of an opaque function: the analysis knows only the bounds of its value."""
    return isinstance(expr, Apply) and OPERATIONS[expr.op].opaque is not None
