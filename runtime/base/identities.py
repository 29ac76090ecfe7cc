"""Names an attention by its meaning alone: equal attentions have the same name, in every process.

Operators take strings, not attentions: :func:`register` keeps the attention of each name. This module does not import
torch.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from ...compiler.ir import Apply, Attention, Const, Entry, Expr, Literal_, Member, Position, Table, children, walk

_ATTENTIONS: dict[str, Attention] = {}


def register(attention: Attention) -> str:
    """Keeps an attention in this process, and returns the name by which :func:`registered` finds it.

    Of equal attentions the last one is kept: they differ only in their places in a text, and errors show the latest.
    """
    name = identity(attention)
    _ATTENTIONS[name] = attention
    return name


def registered(name: str) -> Attention:
    """The attention of a name. RuntimeError where this process never bound it, as when a traced call is loaded from
    elsewhere.
    """
    if name not in _ATTENTIONS:
        raise RuntimeError("this process never bound the attention of a traced call: bind it before the call runs")
    return _ATTENTIONS[name]


@lru_cache(maxsize=512)
def identity(attention: Attention) -> str:
    """sha256, in hexadecimal, over an attention's expressions and tables; shared subexpressions are written once."""
    lines: list[str] = []
    numbers: dict[Expr, int] = {}
    for root in (attention.mask, attention.score, attention.scale, attention.sink):
        if root is None:
            lines.append("none")
            continue
        for node in walk(root):
            if node not in numbers:
                parts = " ".join(str(numbers[part]) for part in children(node))
                lines.append(f"{_leaf(node)} {parts}")
                numbers[node] = len(numbers)
        lines.append(f"root {numbers[root]}")
    lines.extend(map(_table, attention.tables))
    if attention.heads is not None:
        lines.append(f"heads {attention.heads}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _leaf(node: Expr) -> str:
    match node:
        case Const(value=value):
            return f"constant {node.type} {value!r}"
        case Position(name=name):
            return f"position {name}"
        case Entry(table=table, type=kind):
            return f"entry {table} {kind}"
        case Member(table=table):
            return f"member {table}"
        case Apply(op=op, type=kind):
            return f"{op} {kind}"
        case _:
            return "logit"


def _table(table: Table) -> str:
    dimensions = " ".join(f"{one.kind}:{one.size}:{one.name}" for one in table.dimensions)
    return f"table {table.name} {table.element} [{dimensions}] {_literal(table.default)} {_literal(table.value)}"


def _literal(literal: Literal_ | None) -> str:
    if isinstance(literal, frozenset):
        return f"{{{sorted(literal)}}}"
    if isinstance(literal, tuple):
        return f"({','.join(map(_literal, literal))})"
    return repr(literal)
