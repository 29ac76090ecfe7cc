"""Symbolic derivatives of scores and sinks, which the backward kernels multiply gradients by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .constructors import add, choose, div, equal, function, less, less_equal, mul, neg, sub
from .expressions import Apply, Const, Entry, Expr, Position, walk
from .operations import OPERATIONS, ROUNDINGS, Op

ZERO, ONE = Const(0.0), Const(1.0)


def reads(expr: Expr, table: str | None = None) -> tuple[Entry, ...]:
    """The distinct entries of float tables (of ``table`` alone, if given) that an expression reads, in fixed order."""
    return tuple(
        node
        for node in walk(expr)
        if isinstance(node, Entry) and node.type == "float" and (table is None or node.table == table)
    )


def derivative(expr: Expr, variable: Expr) -> Expr:
    """d ``expr`` / d ``variable``, both floats. The variable is the logit or one entry of a table.

    At the kinks of ``abs``, ``min`` and ``max`` the slope is that of PyTorch's operators: 0 at ``abs(0)``, and a tie of
    ``min`` or ``max`` is shared equally by both arguments. Conditions count as constant: only the branch that is chosen
    has a slope.
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
    formula = OPERATIONS[node.op].derivative
    if formula is None:
        return _RULES[node.op](node, inner)
    return _product(inner[0], formula(_Real(node.args[0]), _Real(node)).expr)


@dataclass(frozen=True)
class _Real:
    """A float expression with Python's operators: the derivatives in the table of operations are written in them."""

    expr: Expr

    def __add__(self, other: _Real | float) -> _Real:
        return _Real(add(self.expr, _operand(other)))

    def __radd__(self, other: float) -> _Real:
        return _Real(add(_operand(other), self.expr))

    def __sub__(self, other: _Real | float) -> _Real:
        return _Real(sub(self.expr, _operand(other)))

    def __rsub__(self, other: float) -> _Real:
        return _Real(sub(_operand(other), self.expr))

    def __mul__(self, other: _Real | float) -> _Real:
        return _Real(mul(self.expr, _operand(other)))

    def __rmul__(self, other: float) -> _Real:
        return _Real(mul(_operand(other), self.expr))

    def __truediv__(self, other: _Real | float) -> _Real:
        return _Real(div(self.expr, _operand(other)))

    def __rtruediv__(self, other: float) -> _Real:
        return _Real(div(_operand(other), self.expr))

    def __neg__(self) -> _Real:
        return _Real(neg(self.expr))

    def sign(self) -> _Real:
        x = self.expr
        return _Real(choose(less(ZERO, x), ONE, choose(less(x, ZERO), Const(-1.0), ZERO)))

    def apply(self, op: Op) -> _Real:
        return _Real(function(op, self.expr))


def _operand(x: _Real | float) -> Expr:
    return x.expr if isinstance(x, _Real) else Const(float(x))


def _quotient(node: Apply, slopes: list[Expr]) -> Expr:
    _, divisor = node.args
    above, below = slopes
    direct = ZERO if above == ZERO else div(above, divisor)
    return _difference(direct, ZERO if below == ZERO else div(_product(below, node), divisor))


def _extreme(node: Apply, slopes: list[Expr]) -> Expr:
    is_least = node.op == "min"
    best, slope = node.args[0], slopes[0]
    for x, its in zip(node.args[1:], slopes[1:], strict=True):
        wins = less(x, best) if is_least else less(best, x)
        tie = mul(_sum([slope, its]), Const(0.5))
        slope = choose(wins, its, choose(equal(x, best), tie, slope))
        best = choose(less_equal(x, best) if is_least else less_equal(best, x), x, best)
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


# Derivatives of operators, from the node and the derivatives of its arguments, at least one of which is not 0.
_RULES: Mapping[Op, Callable[[Apply, list[Expr]], Expr]] = {
    "add": lambda _, slopes: _sum(slopes),
    "sub": lambda _, slopes: _difference(*slopes),
    "neg": lambda _, slopes: neg(slopes[0]),
    **{op: lambda _, slopes: slopes[0] for op in ROUNDINGS},
    "mul": lambda node, slopes: _sum([_product(slopes[0], node.args[1]), _product(slopes[1], node.args[0])]),
    "div": _quotient,
    "min": _extreme,
    "max": _extreme,
}


def depends_on(expr: Expr, name: str) -> bool:
    """Whether an expression reads a position (``q``, ``k``, ``head``, …)."""
    return any(isinstance(node, Position) and node.name == name for node in walk(expr))
