"""Constructors of expressions, one per operation. Each folds constants, and simplifies where that changes no value.

Arguments are well typed already (the checker sees to that). To :mod:`compiler.oracle.interpreter` the result has the
same value as the plain node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce

from ..diagnostics import FIRST_BEYOND, Span
from .expressions import FALSE, TRUE, Apply, Const, Entry, Expr, Member, children, walk
from .operations import OPERATIONS, Op, Type


def _constants(*xs: Expr) -> tuple[bool | int | float, ...] | None:
    values = tuple(x.value for x in xs if isinstance(x, Const))
    return values if len(values) == len(xs) else None


def _value(op: Op, *xs: Expr) -> Const | None:
    """The value of an operation on constants; None if an argument is not constant or there is no such value."""
    known = _constants(*xs)
    if known is None:
        return None
    try:
        return Const(OPERATIONS[op].python(*known))
    except (ValueError, OverflowError, ZeroDivisionError):
        return None


def _flat(op: Op, xs: tuple[Expr, ...]) -> list[Expr]:
    parts: list[Expr] = []
    for x in xs:
        parts.extend(x.args if isinstance(x, Apply) and x.op == op else (x,))
    return parts


def add(*xs: Expr, span: Span | None = None) -> Expr:
    """The sum of numbers of one type. Integer constants are added up into one last term."""
    kind = xs[0].type
    if kind == "float":  # the order of additions is part of a float's meaning
        known = _constants(*xs)
        return Const(float(sum(known))) if known is not None else Apply("add", xs, "float", span)
    parts = _flat("add", xs)
    constants = [x for x in parts if isinstance(x, Const)]
    constant = sum(int(x.value) for x in constants)
    rest: list[Expr] = [x for x in parts if not isinstance(x, Const)]
    if rest and abs(constant) >= FIRST_BEYOND:  # their sum may overflow where no partial sum does
        rest += constants
    elif constant or not rest:
        rest.append(Const(constant))
    return rest[0] if len(rest) == 1 else Apply("add", tuple(rest), kind, span)


def sub(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    if (known := _value("sub", a, b)) is not None:
        return known
    if isinstance(b, Const) and b.type == "int":
        return add(a, Const(-b.value), span=span) if b.value else a
    if a == b and a.type == "int":
        return Const(0)
    return Apply("sub", (a, b), a.type, span)


def mul(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    if (known := _value("mul", a, b)) is not None:
        return known
    if isinstance(a, Const):
        a, b = b, a
    if isinstance(b, Const) and b.value == 1:
        return a
    if b == Const(0) and b.type == "int":
        return Const(0)
    return Apply("mul", (a, b), a.type, span)


def neg(x: Expr, span: Span | None = None) -> Expr:
    if isinstance(x, Apply) and x.op == "neg":
        return x.args[0]
    return function("neg", x, span=span)


def absolute(x: Expr, span: Span | None = None) -> Expr:
    return function("abs", x, span=span)


def _extreme(op: Op, xs: tuple[Expr, ...], span: Span | None) -> Expr:
    parts = list(dict.fromkeys(_flat(op, xs)))
    known = [x.value for x in parts if isinstance(x, Const)]
    rest: list[Expr] = [x for x in parts if not isinstance(x, Const)]
    if known:
        rest.append(Const(reduce(OPERATIONS[op].python, known)))
    return rest[0] if len(rest) == 1 else Apply(op, tuple(rest), xs[0].type, span)


def minimum(*xs: Expr, span: Span | None = None) -> Expr:
    return _extreme("min", xs, span)


def maximum(*xs: Expr, span: Span | None = None) -> Expr:
    return _extreme("max", xs, span)


def floordiv(x: Expr, divisor: int | Expr, span: Span | None = None) -> Expr:
    """``x // divisor``, rounded down; the divisor is positive: a number, or a run-time number."""
    by = Const(divisor) if isinstance(divisor, int) else divisor
    return x if by == Const(1) else function("floordiv", x, by, span=span)


def mod(x: Expr, divisor: int | Expr, span: Span | None = None) -> Expr:
    """``x % divisor``, in ``0 .. divisor - 1``; the divisor is positive: a number, or a run-time number."""
    by = Const(divisor) if isinstance(divisor, int) else divisor
    return Const(0) if by == Const(1) else function("mod", x, by, span=span)


def hashed(*xs: Expr, span: Span | None = None) -> Expr:
    return function("hash", *xs, span=span)


def less(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    if (known := _value("lt", a, b)) is not None:
        return known
    return FALSE if a == b and a.type == "int" else Apply("lt", (a, b), "bool", span)


def less_equal(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    if (known := _value("le", a, b)) is not None:
        return known
    return TRUE if a == b and a.type == "int" else Apply("le", (a, b), "bool", span)


def equal(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    """Whether two numbers of one type, or two conditions, are equal."""
    if a.type == "bool":
        return iff(a, b, span=span)
    if (known := _value("eq", a, b)) is not None:
        return known
    return TRUE if a == b and a.type == "int" else Apply("eq", (a, b), "bool", span)


def not_equal(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    if a.type == "bool":
        return negation(iff(a, b, span=span), span=span)
    if (known := _value("ne", a, b)) is not None:
        return known
    return FALSE if a == b and a.type == "int" else Apply("ne", (a, b), "bool", span)


def _junction(op: Op, neutral: Const, absorbing: Const, xs: tuple[Expr, ...], span: Span | None) -> Expr:
    parts = [x for x in dict.fromkeys(_flat(op, xs)) if x != neutral]
    if absorbing in parts:
        return absorbing
    if len(parts) < 2:
        return parts[0] if parts else neutral
    return Apply(op, tuple(parts), "bool", span)


def conjunction(*xs: Expr, span: Span | None = None) -> Expr:
    """``and``: whether all conditions hold, each evaluated only where those before it hold. True for no conditions."""
    return _junction("and", TRUE, FALSE, xs, span)


def disjunction(*xs: Expr, span: Span | None = None) -> Expr:
    """``or``: whether any of the conditions holds. False for no conditions."""
    return _junction("or", FALSE, TRUE, xs, span)


def negation(x: Expr, span: Span | None = None) -> Expr:
    if isinstance(x, Const):
        return Const(not x.value)
    if isinstance(x, Apply) and x.op == "not":
        return x.args[0]
    return Apply("not", (x,), "bool", span)


def iff(a: Expr, b: Expr, span: Span | None = None) -> Expr:
    """Whether both conditions hold or neither does."""
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Const):
            return y if x.value else negation(y)
    return TRUE if a == b else Apply("iff", (a, b), "bool", span)


def choose(condition: Expr, then: Expr, otherwise: Expr, span: Span | None = None) -> Expr:
    """``then if condition else otherwise``. A branch that is a condition, beside a count, counts 0 or 1."""
    if isinstance(condition, Const):
        return then if condition.value else otherwise
    if then == otherwise:
        return then
    kind: Type = then.type if then.type == otherwise.type else "count"
    return Apply("if", (condition, then, otherwise), kind, span)


def plus(*xs: Expr, span: Span | None = None) -> Expr:
    """The sum of conditions, each counted 0 or 1, and of counts. FALSE, which keeps no pair, where there are none."""
    parts = [x for x in _flat("plus", xs) if x != FALSE]
    if len(parts) < 2:
        return parts[0] if parts else FALSE
    return Apply("plus", tuple(parts), "count", span)


def filtered(condition: Expr, count: Expr, span: Span | None = None) -> Expr:
    """The count where the condition holds, and 0 elsewhere."""
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
    """``a / b`` of floats. Division by a constant zero is not folded; the checker refuses it in a text."""
    return a if b == Const(1.0) else function("div", a, b, span=span)


def function(op: Op, *xs: Expr, span: Span | None = None) -> Expr:
    """Any operation on numbers, folded where all of them are constants and it has a value for them."""
    known = _value(op, *xs)
    return Apply(op, xs, OPERATIONS[op].type_of(xs[-1].type), span) if known is None else known


def apply(op: Op, args: tuple[Expr, ...], span: Span | None = None) -> Expr:
    """A node of any operation, simplified by its own constructor."""
    return constructor_of(op)(*args, span=span)


def constructor_of(op: Op) -> Callable[..., Expr]:
    """The constructor of an operation; :func:`function` where it has no simplifications of its own."""
    return _CONSTRUCTORS.get(op) or partial(function, op)


_CONSTRUCTORS: Mapping[Op, Callable[..., Expr]] = {
    "add": add, "sub": sub, "mul": mul, "neg": neg, "min": minimum, "max": maximum, "lt": less, "le": less_equal,
    "eq": equal, "ne": not_equal, "and": conjunction, "or": disjunction, "not": negation, "iff": iff, "if": choose,
    "plus": plus, "filter": filtered, "float": to_float, "div": div, "floordiv": floordiv, "mod": mod,
}  # fmt: skip


def rebuild(expr: Expr, parts: tuple[Expr, ...]) -> Expr:
    """The same node over other operands, given in the order of :func:`compiler.ir.expressions.children`."""
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
    """Rebuild an expression bottom up, passing each new node through ``replace``; shared parts stay shared."""
    done: dict[Expr, Expr] = {}
    for node in walk(expr):
        parts = children(node)
        new = tuple(done[part] for part in parts)
        done[node] = replace(node if all(a is b for a, b in zip(parts, new, strict=True)) else rebuild(node, new))
    return done[expr]


def substitute(expr: Expr, mapping: Mapping[Expr, Expr]) -> Expr:
    """Replace every sub-expression that ``mapping`` holds."""
    return transform(expr, lambda node: mapping.get(node, node)) if mapping else expr


def rename_tables(expr: Expr, names: Mapping[str, str]) -> Expr:
    """Rename the tables that an expression reads; names that are not in the mapping stay."""

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
    """The sum of one or more expressions of one numeric type."""
    return reduce(add, xs)
