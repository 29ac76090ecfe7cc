"""One form for expressions that mean the same for plain reasons, and what follows from forms alone.

The value of an expression stays what it was for every pair, whatever the tables contain. Which reads are reached may
change: a read outside its table gives 0 or false here wherever it stands.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..ir import FALSE, TRUE, Apply, Const, Entry, Expr, K, Member, Position, Q, children, constructors, walk

_EITHER_WAY = {"and", "or", "iff", "plus", "add", "mul", "min", "max", "eq"}
"""Operations whose arguments may change places."""

_MOST_COMPARED = 20_000  # pairs of parts, of two masks; beyond that nothing is said to follow


@lru_cache(maxsize=256)
def canonical(expr: Expr) -> Expr:
    """The same function of positions and tables, with arguments that may change places in one order.

    ``a != b`` becomes ``not a == b``, and ``abs(a - b)`` is written one way round. Floats are not rearranged but for
    the two sides of ``==``: their sums are rounded, and NaN equals nothing, itself included.
    """
    keys: dict[Expr, Any] = {}
    done: dict[Expr, Expr] = {}
    for node in walk(expr):
        old = children(node)
        new = tuple(done[part] for part in old)
        found = node if all(a is b for a, b in zip(old, new, strict=True)) else constructors.rebuild(node, new)
        done[node] = _arranged(found, keys)
    return done[expr]


def _arranged(node: Expr, keys: dict[Expr, Any]) -> Expr:
    if not isinstance(node, Apply):
        return node
    of_floats = node.args[-1].type in ("float", "double")
    if node.op == "ne":
        return constructors.negation(_arranged(constructors.equal(node.args[0], node.args[1]), keys))
    if node.op == "abs" and (terms := _difference(node.args[0])) is not None:
        # of floats, too: a - b is exactly -(b - a), however it is rounded
        first, second = sorted(terms, key=lambda part: _key(part, keys))
        return constructors.absolute(constructors.sub(first, second))
    if node.op in _EITHER_WAY and (node.op == "eq" or not of_floats):
        args = tuple(sorted(node.args, key=lambda part: _key(part, keys)))
        if node.op in ("add", "mul"):  # a constant stands last, as their constructors have it
            args = tuple(sorted(args, key=lambda part: isinstance(part, Const)))
        return Apply(node.op, args, node.type, node.span)
    return node


def _difference(expr: Expr) -> tuple[Expr, ...] | None:
    """The two terms of a difference, which the text of floats has as a sum; None of anything else."""
    match expr:
        case Apply(op="sub", args=terms):
            return terms
        case Apply(op="add", args=(a, Apply(op="neg", args=(b,)))):
            return a, b
    return None


def _key(expr: Expr, keys: dict[Expr, Any]) -> Any:
    """What expressions are sorted by: equal for equal ones only, whatever the process."""
    for node in [expr] if expr in keys else walk(expr):
        if node not in keys:
            keys[node] = (_word(node), tuple(keys[part] for part in children(node)))
    return keys[expr]


def _word(node: Expr) -> str:
    match node:
        case Const(value=value, type=kind):
            return f"0 {kind} {value!r}"
        case Position(name=name):
            return f"1 {name}"
        case Entry(table=table, type=kind):
            return f"2 {table} {kind}"
        case Member(table=table):
            return f"3 {table}"
        case Apply(op=op, type=kind):
            return f"4 {op} {kind}"
    return f"5 {node!r}"


def mirrored(expr: Expr) -> Expr:
    """The canonical condition that holds of (q, k) where the given one holds of (k, q)."""
    return canonical(constructors.substitute(expr, {Q: K, K: Q}))


def implies(a: Expr, b: Expr) -> bool:
    """Whether one condition follows from another by their forms: by ``and``, ``or`` and parts that are the same.

    Both are canonical. False where more would have to be known.
    """
    known: dict[tuple[Expr, Expr], bool] = {}

    def follows(a: Expr, b: Expr) -> bool:
        if a in (b, FALSE) or b == TRUE:
            return True
        if (a, b) not in known:
            if len(known) > _MOST_COMPARED:
                return False
            known[a, b] = False
            known[a, b] = _by_parts(a, b)
        return known[a, b]

    def _by_parts(a: Expr, b: Expr) -> bool:
        if isinstance(a, Apply) and a.op == "or":
            return all(follows(part, b) for part in a.args)
        if isinstance(b, Apply) and b.op == "and":
            return all(follows(a, part) for part in b.args)
        if isinstance(a, Apply) and a.op == "and" and any(follows(part, b) for part in a.args):
            return True
        return isinstance(b, Apply) and b.op == "or" and any(follows(a, part) for part in b.args)

    return follows(a, b)
