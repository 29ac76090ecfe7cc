"""Symbolic derivatives of scores and sinks: what the backward kernels multiply by."""

from __future__ import annotations

from .constructors import add, choose, div, equal, less, less_equal, mul, neg, sub
from .expressions import Apply, Const, Entry, Expr, Position, walk

ZERO, ONE = Const(0.0), Const(1.0)


def reads(expr: Expr, table: str | None = None) -> tuple[Entry, ...]:
    """The distinct float entries that an expression reads (of one table, if named), in a fixed order."""
    return tuple(
        node
        for node in walk(expr)
        if isinstance(node, Entry) and node.type == "float" and (table is None or node.table == table)
    )


def derivative(expr: Expr, variable: Expr) -> Expr:
    """d ``expr`` / d ``variable``, both float; the variable is the logit or one entry of a table.

    At the kinks of ``abs``, ``min`` and ``max`` the slope is that of PyTorch's own operators: 0 at ``abs(0)``; a tie of
    ``min`` or ``max`` is shared equally between two arguments. A condition is constant: only the chosen branch counts.
    """
    slopes: dict[Expr, Expr] = {}
    for node in walk(expr):
        if node == variable:
            slopes[node] = ONE
        elif isinstance(node, Apply) and node.type == "float":
            slopes[node] = _slope(node, slopes)
        elif node.type == "float":
            slopes[node] = ZERO
    return slopes[expr]


def _slope(node: Apply, slopes: dict[Expr, Expr]) -> Expr:
    if node.op == "float":
        return ZERO
    if node.op == "if":
        condition, then, otherwise = node.args
        return choose(condition, slopes[then], slopes[otherwise])
    inner = [slopes[x] for x in node.args]
    if all(slope == ZERO for slope in inner):
        return ZERO
    match node.op, node.args:
        case "add", _:
            return _sum(inner)
        case "sub", _:
            return _difference(inner[0], inner[1])
        case "neg", _:
            return neg(inner[0])
        case "mul", (a, b):
            return _sum([_product(inner[0], b), _product(inner[1], a)])
        case "div", (a, b):
            direct = ZERO if inner[0] == ZERO else div(inner[0], b)
            return _difference(direct, ZERO if inner[1] == ZERO else div(_product(inner[1], node), b))
        case ("min" | "max") as op, args:
            return _extreme(op, args, inner)
        case _, (x,):
            return _product(inner[0], _outer(node, x))
    raise ValueError(f"no derivative of {node.op}")  # unreachable: every float operation is listed


def _outer(node: Apply, x: Expr) -> Expr:
    """The derivative of a function of one float with regard to its argument."""
    match node.op:
        case "exp":
            return node
        case "log":
            return div(ONE, x)
        case "tanh":
            return sub(ONE, mul(node, node))
        case "sqrt":
            return div(Const(0.5), node)
        case "sigmoid":
            return mul(node, sub(ONE, node))
        case "abs":
            return choose(less(ZERO, x), ONE, choose(less(x, ZERO), Const(-1.0), ZERO))
    raise ValueError(f"no derivative of {node.op}")  # unreachable: every function is listed


def _extreme(op: str, args: tuple[Expr, ...], slopes: list[Expr]) -> Expr:
    best, slope = args[0], slopes[0]
    for x, its in zip(args[1:], slopes[1:], strict=True):
        wins = less(x, best) if op == "min" else less(best, x)
        tie = mul(_sum([slope, its]), Const(0.5))
        slope = choose(wins, its, choose(equal(x, best), tie, slope))
        best = choose(less_equal(x, best) if op == "min" else less_equal(best, x), x, best)
    return slope


def _product(slope: Expr, factor: Expr) -> Expr:
    if slope == ZERO or factor == ZERO:
        return ZERO
    return factor if slope == ONE else mul(slope, factor)


def _sum(xs: list[Expr]) -> Expr:
    parts = [x for x in xs if x != ZERO]
    if len(parts) < 2:
        return parts[0] if parts else ZERO
    return add(*parts)


def _difference(a: Expr, b: Expr) -> Expr:
    if b == ZERO:
        return a
    return neg(b) if a == ZERO else sub(a, b)


def depends_on(expr: Expr, name: str) -> bool:
    """Whether an expression reads a position (``q``, ``k``, ``head``, …)."""
    return any(isinstance(node, Position) and node.name == name for node in walk(expr))
