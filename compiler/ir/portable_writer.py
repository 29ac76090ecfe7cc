"""Writes an attention as one line that another process reads back: what an exported program carries.

    attnc:1:<sha256 of the rest>:q;k;le:b 1 0;s;=f0x1.0p+0;…|mask 2|score 3|scale 8|sink -|table g set - - - 0

After the form's number and the digest come the nodes of all expressions, each once, operands before what is made of
them: a position, the logit ``s``, a constant after ``=``, an entry or a member of a table, or an operation with the
letter of its type; numbers are those of earlier nodes. Then the four roots, each table with its element, dimensions,
default, contents and whether something is divided by it, and the number of heads where that is given. Names of
declarations and places in a text are left out: equal attentions have equal lines, in every process.
:mod:`compiler.ir.portable_reader` reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache

from .attentions import Attention, Dimension, Literal_, Table
from .expressions import Apply, Const, Entry, Expr, Logit, Member, Number, Position, children, walk

FORM = 1
"""The number of the form; a change of the form, or of what an operation means, counts it up."""

HEAD = "attnc"
ROOTS = ("mask", "score", "scale", "sink")
DIGEST = 64  # characters of a sha256


@lru_cache(maxsize=512)
def portable_text(attention: Attention) -> str:
    """The line of an attention. Attentions have the same line if and only if they are equal but for their names."""
    body = "|".join(_parts(attention))
    return f"{HEAD}:{FORM}:{digest(body)}:{body}"


def digest_of(text: str) -> str:
    """The digest of an attention's line: its name where a short one is wanted."""
    start = len(f"{HEAD}:{FORM}:")
    return text[start : start + DIGEST]


def digest(body: str) -> str:
    """sha256, in hexadecimal, of what follows the digest."""
    return hashlib.sha256(body.encode()).hexdigest()


def _parts(attention: Attention) -> Iterator[str]:
    roots = [getattr(attention, name) for name in ROOTS]
    numbers: dict[Expr, int] = {}
    nodes: list[str] = []
    for root in roots:
        for node in () if root is None else walk(root):
            if node not in numbers:
                nodes.append(" ".join((_node(node), *(str(numbers[part]) for part in children(node)))))
                numbers[node] = len(numbers)
    yield ";".join(nodes)
    for name, root in zip(ROOTS, roots, strict=True):
        yield f"{name} {'-' if root is None else numbers[root]}"
    yield from map(_table, attention.tables)
    if attention.heads is not None:
        yield f"heads {attention.heads}"


def _node(node: Expr) -> str:
    match node:
        case Const(value=value):
            return f"={_literal(value)}"
        case Position(name=name):
            return name
        case Logit():
            return "s"
        case Entry(table=table, type=kind):
            return f"entry:{kind[0]} {table}"
        case Member(table=table):
            return f"member:b {table}"
        case Apply(op=op, type=kind):
            return f"{op}:{kind[0]}"
        case Number():
            raise ValueError("a number that a launch passes is part of no attention")


def _table(table: Table) -> str:
    dimensions = ",".join(map(_dimension, table.dimensions)) or "-"
    default, value = ("-" if one is None else _literal(one) for one in (table.default, table.value))
    return f"table {table.name} {table.element} {dimensions} {default} {value} {int(table.divides)}"


def _dimension(dimension: Dimension) -> str:
    size = "" if dimension.size is None else dimension.size
    return f"{dimension.kind}:{size}:{dimension.name}".rstrip(":")


def _literal(literal: Literal_) -> str:
    """The contents of a table, or a constant; floats by their bits."""
    match literal:
        case bool():
            return "true" if literal else "false"
        case int():
            return str(literal)
        case float():
            return f"f{literal.hex()}"
        case frozenset():
            return f"{{{','.join(map(str, sorted(literal)))}}}"
        case tuple():
            return f"[{','.join(map(_literal, literal))}]"
