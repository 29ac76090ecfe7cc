"""Which positions and which tables an expression reads."""

from __future__ import annotations

from functools import lru_cache

from .expressions import Entry, Expr, Member, Position, walk


def tables_read(expr: Expr) -> set[str]:
    """The names of the tables that an expression reads."""
    return {node.table for node in walk(expr) if isinstance(node, Entry | Member)}


@lru_cache(maxsize=4096)
def positions(expr: Expr) -> frozenset[str]:
    """The names of the positions that an expression reads."""
    return frozenset(node.name for node in walk(expr) if isinstance(node, Position))
