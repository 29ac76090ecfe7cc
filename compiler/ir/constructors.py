"""Building expressions: each constructor folds what is known, and keeps what is not as it was meant.

Constructors take arguments that are already well typed (the checker sees to that) and never change a meaning: what
:mod:`compiler.oracle.interpreter` makes of the result equals what it would make of the plain node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce

from ..diagnostics import FIRST_BEYOND, Span
from .expressions import FALSE, TRUE, Apply, Const, Entry, Expr, Member, Op, Type, children, walk


def _constants(*xs: Expr) -> tuple[bool | int | float, ...] | None:
    values = tuple(x.value for x in xs if isinstance(x, Const))
    return values if len(values) == len(xs) else None


def _flat(op: Op, xs: tuple[Expr, ...]) -> list[Expr]:
    parts: list[Expr] = []
    for x in xs:
        parts.extend(x.args if isinstance(x, Apply) and x.op == op else (x,))
    return parts


def add(*xs: Expr, span: Span | None = None) -> Expr:
    """The sum of numbers of one type; constants are gathered at the end."""
    kind = xs[0].type
    if kind == "float":  # the order of additions is part of a float's meaning
        known = _constants(*xs)
        return Const(float(sum(known))) if known is not None else Apply("add", xs, "float", span)
    parts = _flat("add", xs)
    constants = [x for x in parts if isinstance(x, Const)]
    constant = sum(int(x.value) for x in constants)
    rest: list[Expr] = [x for x in parts if not isinstance(x, Const)]
    if rest and abs(constant) >= FIRST_BEYOND:  # together they may be too large where each sum on the way is not
        rest += constants
    elif constant or not rest:
        rest.append(Const(constant))
    return rest[0] if len(rest) == 1 else Apply("add", tuple(rest), kind, span)


def sub(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    if (known := _constants(a, b)) is not None:
        return Const(known[0] - known[1])
    if isinstance(b, Const) and b.type == "int":
        return add(a, Const(-b.value), span=span) if b.value else a
    if a == b and a.type == "int":
        return Const(0)
    return Apply("sub", (a, b), a.type, span)


def mul(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    if (known := _constants(a, b)) is not None:
        return Const(known[0] * known[1])
    if isinstance(a, Const):
        a, b = b, a
    if isinstance(b, Const) and b.value == 1:
        return a
    if b == Const(0) and b.type == "int":
        return Const(0)
    return Apply("mul", (a, b), a.type, span)


def neg(x: Expr, span: Span | None = None) -> Expr:
    if isinstance(x, Const):
        return Const(-x.value)
    if isinstance(x, Apply) and x.op == "neg":
        return x.args[0]
    return Apply("neg", (x,), x.type, span)


def absolute(x: Expr, span: Span | None = None) -> Expr:
    if isinstance(x, Const):
        return Const(abs(x.value))
    return Apply("abs", (x,), x.type, span)


def _extreme(op: Op, choose_of: Callable[..., int | float], xs: tuple[Expr, ...], span: Span | None) -> Expr:
    parts = list(dict.fromkeys(_flat(op, xs)))
    known = [x.value for x in parts if isinstance(x, Const)]
    rest: list[Expr] = [x for x in parts if not isinstance(x, Const)]
    if known:
        rest.append(Const(choose_of(known)))
    return rest[0] if len(rest) == 1 else Apply(op, tuple(rest), xs[0].type, span)


def minimum(*xs: Expr, span: Span | None = None) -> Expr:
    return _extreme("min", min, xs, span)


def maximum(*xs: Expr, span: Span | None = None) -> Expr:
    return _extreme("max", max, xs, span)


def floordiv(x: Expr, divisor: int, span: Span | None = None) -> Expr:
    """``x // divisor``, rounded down; the divisor is positive."""
    if isinstance(x, Const):
        return Const(int(x.value) // divisor)
    return x if divisor == 1 else Apply("floordiv", (x, Const(divisor)), "int", span)


def mod(x: Expr, divisor: int, span: Span | None = None) -> Expr:
    """``x % divisor``, in ``0 .. divisor - 1``; the divisor is positive."""
    if isinstance(x, Const):
        return Const(int(x.value) % divisor)
    return Const(0) if divisor == 1 else Apply("mod", (x, Const(divisor)), "int", span)


def murmur(values: tuple[int, ...]) -> int:
    """The language's ``hash`` of integers: MurmurHash3's ``fmix32`` over each in turn, 31 bits."""
    h = 0x9E3779B9
    for value in values:
        h ^= value & 0xFFFFFFFF
        h = ((h ^ (h >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
        h = ((h ^ (h >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
        h ^= h >> 16
    return h >> 1


def hashed(*xs: Expr, span: Span | None = None) -> Expr:
    if (known := _constants(*xs)) is not None:
        return Const(murmur(tuple(int(x) for x in known)))
    return Apply("hash", xs, "int", span)


def less(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    if (known := _constants(a, b)) is not None:
        return Const(known[0] < known[1])
    return FALSE if a == b and a.type == "int" else Apply("lt", (a, b), "bool", span)


def less_equal(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    if (known := _constants(a, b)) is not None:
        return Const(known[0] <= known[1])
    return TRUE if a == b and a.type == "int" else Apply("le", (a, b), "bool", span)


def equal(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    """Of two numbers of one type, or of two conditions."""
    if a.type == "bool":
        return iff(a, b, span=span)
    if (known := _constants(a, b)) is not None:
        return Const(known[0] == known[1])
    return TRUE if a == b and a.type == "int" else Apply("eq", (a, b), "bool", span)


def not_equal(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    if a.type == "bool":
        return negation(iff(a, b, span=span), span=span)
    if (known := _constants(a, b)) is not None:
        return Const(known[0] != known[1])
    return FALSE if a == b and a.type == "int" else Apply("ne", (a, b), "bool", span)


def _junction(op: Op, neutral: Const, absorbing: Const, xs: tuple[Expr, ...], span: Span | None) -> Expr:
    parts = [x for x in dict.fromkeys(_flat(op, xs)) if x != neutral]
    if absorbing in parts:
        return absorbing
    if len(parts) < 2:
        return parts[0] if parts else neutral
    return Apply(op, tuple(parts), "bool", span)


def conjunction(*xs: Expr, span: Span | None = None) -> Expr:
    """All of the conditions, reached from left to right; true of none."""
    return _junction("and", TRUE, FALSE, xs, span)


def disjunction(*xs: Expr, span: Span | None = None) -> Expr:
    """Any of the conditions; false of none."""
    return _junction("or", FALSE, TRUE, xs, span)


def negation(x: Expr, span: Span | None = None) -> Expr:
    if isinstance(x, Const):
        return Const(not x.value)
    if isinstance(x, Apply) and x.op == "not":
        return x.args[0]
    return Apply("not", (x,), "bool", span)


def iff(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    """Both conditions hold, or neither."""
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Const):
            return y if x.value else negation(y)
    return TRUE if a == b else Apply("iff", (a, b), "bool", span)


def choose(condition: Expr, then: Expr, otherwise: Expr, span: Span | None = None) -> Expr:
    """``then if condition else otherwise``; a condition beside a count stands for 0 or 1."""
    if isinstance(condition, Const):
        return then if condition.value else otherwise
    if then == otherwise:
        return then
    kind: Type = then.type if then.type == otherwise.type else "count"
    return Apply("if", (condition, then, otherwise), kind, span)


def plus(*xs: Expr, span: Span | None = None) -> Expr:
    """The sum of conditions and counts, each condition 0 or 1; of none: keeps nothing."""
    parts = [x for x in _flat("plus", xs) if x != FALSE]
    if len(parts) < 2:
        return parts[0] if parts else FALSE
    return Apply("plus", tuple(parts), "count", span)


def filtered(condition: Expr, count: Expr, span: Span | None = None) -> Expr:
    """The count where the condition holds, else 0."""
    if count.type == "bool":
        return conjunction(condition, count, span=span)
    if isinstance(condition, Const):
        return count if condition.value else FALSE
    return Apply("filter", (condition, count), "count", span)


def to_float(x: Expr, span: Span | None = None) -> Expr:
    if x.type == "float":
        return x
    return Const(float(x.value)) if isinstance(x, Const) else Apply("float", (x,), "float", span)


def div(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    """Of floats. A constant zero divisor is left as it stands: the checker has refused it in a text."""
    known = _constants(a, b)
    if known is not None and known[1]:
        return Const(known[0] / known[1])
    return a if b == Const(1.0) else Apply("div", (a, b), "float", span)


_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "exp": math.exp,
    "log": math.log,
    "tanh": math.tanh,
    "sqrt": math.sqrt,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}


def function(name: Op, x: Expr, span: Span | None = None) -> Expr:
    """``exp log tanh sqrt sigmoid`` of a float; a constant outside the function's domain is left as it stands."""
    if isinstance(x, Const):
        try:
            return Const(_FUNCTIONS[name](float(x.value)))
        except (ValueError, OverflowError):
            pass
    return Apply(name, (x,), "float", span)


def apply(op: Op, args: tuple[Expr, ...], span: Span | None = None) -> Expr:
    """The constructor of any operation by its name."""
    if op in _FUNCTIONS:
        return function(op, args[0], span=span)
    if op in ("floordiv", "mod"):
        divisor = args[1]
        assert isinstance(divisor, Const)
        return (floordiv if op == "floordiv" else mod)(args[0], int(divisor.value), span=span)
    return _CONSTRUCTORS[op](*args, span=span)


_CONSTRUCTORS: dict[str, Callable[..., Expr]] = {
    "add": add, "sub": sub, "mul": mul, "neg": neg, "abs": absolute, "min": minimum, "max": maximum, "hash": hashed,
    "lt": less, "le": less_equal, "eq": equal, "ne": not_equal, "and": conjunction, "or": disjunction, "not": negation,
    "iff": iff, "if": choose, "plus": plus, "filter": filtered, "float": to_float, "div": div,
}  # fmt: skip


def rebuild(expr: Expr, parts: tuple[Expr, ...]) -> Expr:
    """The same node with other direct parts, in the order of :func:`compiler.ir.expressions.children`."""
    match expr:
        case Apply(op=op, span=span):
            return apply(op, parts, span)
        case Entry(table=table, type=kind, span=span):
            return Entry(table, parts, kind, span)
        case Member(table=table, span=span):
            return Member(parts[-1], table, parts[:-1], span=span)
        case _:
            return expr


def transform(expr: Expr, replace: Callable[[Expr], Expr]) -> Expr:
    """Rebuild an expression from its parts up, each new node passed through ``replace``; shared parts stay shared."""
    done: dict[Expr, Expr] = {}
    for node in walk(expr):
        parts = children(node)
        new = tuple(done[part] for part in parts)
        done[node] = replace(node if all(a is b for a, b in zip(parts, new, strict=True)) else rebuild(node, new))
    return done[expr]


def substitute(expr: Expr, mapping: Mapping[Expr, Expr]) -> Expr:
    """Replace whole sub-expressions."""
    return transform(expr, lambda node: mapping.get(node, node)) if mapping else expr


def rename_tables(expr: Expr, names: Mapping[str, str]) -> Expr:
    """Give every table that an expression reads another name; names not in the mapping stay."""

    def renamed(node: Expr) -> Expr:
        match node:
            case Entry(table=table, indices=indices, type=kind, span=span) if table in names:
                return Entry(names[table], indices, kind, span)
            case Member(element=element, table=table, indices=indices, span=span) if table in names:
                return Member(element, names[table], indices, span=span)
            case _:
                return node

    return transform(expr, renamed)


def total(xs: list[Expr]) -> Expr:
    """The sum of any number of expressions of one numeric type, at least one."""
    return reduce(add, xs)
