"""Turns a condition on pairs into limits of the position that a loop walks, as far as it is a conjunction of such.

``0 <= q - k and q - k < w``, where keys are walked, is ``q - w + 1 <= k <= q``: two limits for each query, computed
once, where the condition would cost several operations for each pair. What is no limit stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ...ir import TRUE, Apply, Const, Expr, Position, constructors, depends_on

Walked = Literal["q", "k"]
_MOST_SUMS = 16  # of one comparison: a text may compare a maximum of many with a minimum of many


@dataclass(frozen=True)
class Sum:
    """``constant`` plus the sum of ``terms``, each a sign (1 or -1) and an integer that is no sum itself."""

    terms: tuple[tuple[int, Expr], ...]
    constant: int = 0

    def __sub__(self, other: Sum) -> Sum:
        return self + -other

    def __add__(self, other: Sum) -> Sum:
        return Sum((*self.terms, *other.terms), self.constant + other.constant)

    def __neg__(self) -> Sum:
        return Sum(tuple((-sign, term) for sign, term in self.terms), -self.constant)


@dataclass(frozen=True)
class Limits:
    """A condition on the walked position ``x``, in parts of which all must hold.

    - ``lower`` and ``upper``: sums that do not depend on ``x``; it is at least each of the first, at most each of the
      others;
    - ``fixed`` does not depend on ``x``, ``walked`` on nothing else that differs between pairs;
    - ``rest`` is what is left, TRUE if nothing is.
    """

    lower: tuple[Sum, ...]
    upper: tuple[Sum, ...]
    fixed: Expr
    walked: Expr
    rest: Expr

    @property
    def any(self) -> bool:
        return bool(self.lower or self.upper)


def without_limits(condition: Expr) -> Limits:
    """Return a condition as a whole."""
    return Limits((), (), TRUE, TRUE, condition)


def find_limits(condition: Expr, walked: Walked) -> Limits:
    """Return the limits of the position ``walked`` ("q" or "k") that a condition sets; counts set none."""
    if condition.type != "bool":
        return without_limits(condition)
    lower: list[Sum] = []
    upper: list[Sum] = []
    fixed: list[Expr] = []
    alone: list[Expr] = []
    rest: list[Expr] = []
    other = "k" if walked == "q" else "q"
    for part in _conjuncts(condition):
        found = [_limit(form, walked) for form in _at_most_zero(part)]
        if found and all(limit is not None for limit in found):
            for limit in found:
                assert limit is not None
                (upper if limit[0] else lower).append(limit[1])
        elif not depends_on(part, walked):
            fixed.append(part)
        elif not depends_on(part, other):
            alone.append(part)
        else:
            rest.append(part)
    if not lower and not upper:
        return without_limits(condition)
    joined = (constructors.conjunction(*parts) for parts in (fixed, alone, rest))
    return Limits(tuple(lower), tuple(upper), *joined)


def _conjuncts(condition: Expr) -> Iterator[Expr]:
    """Yields the parts of a condition that must all hold."""
    match condition:
        case Apply(op="and", args=args):
            for part in args:
                yield from _conjuncts(part)
        case _ if condition != TRUE:
            yield condition


def _at_most_zero(condition: Expr) -> tuple[Sum, ...]:
    """Sums that are all at most 0 where the condition holds, and only there; none if it is no such condition."""
    match condition:
        case Apply(op="le" | "lt" as op, args=(left, right)) if left.type == "int":
            one = Sum((), 1 if op == "lt" else 0)
            greater, smaller = _smallest(left), _largest(right)
            few = len(greater) * len(smaller) <= _MOST_SUMS
            return tuple(a - b + one for a in greater for b in smaller) if few else ()
        case Apply(op="eq", args=(left, right)) if left.type == "int":
            form = _sum(left) - _sum(right)
            return form, -form
        case Apply(op="not", args=(Apply(op="le" | "lt" as op, args=(left, right)),)) if left.type == "int":
            return _at_most_zero(constructors.less(right, left) if op == "le" else constructors.less_equal(right, left))
    return ()


def _smallest(expr: Expr) -> tuple[Sum, ...]:
    """Sums whose greatest is the value of an expression."""
    match expr:
        case Apply(op="abs", args=(inner,)):
            return _sum(inner), -_sum(inner)
        case Apply(op="max", args=args, type="int"):
            return tuple(form for inner in args for form in _smallest(inner))
    return (_sum(expr),)


def _largest(expr: Expr) -> tuple[Sum, ...]:
    """Sums whose least is the value of an expression."""
    match expr:
        case Apply(op="min", args=args, type="int"):
            return tuple(form for inner in args for form in _largest(inner))
    return (_sum(expr),)


def _sum(expr: Expr) -> Sum:
    """An integer as a sum of what is no sum."""
    match expr:
        case Const(value=int(value)):
            return Sum((), value)
        case Apply(op="add", args=args, type="int"):
            sums = [_sum(part) for part in args]
            terms = tuple(term for part in sums for term in part.terms)
            return Sum(terms, sum(part.constant for part in sums))
        case Apply(op="sub", args=(left, right), type="int"):
            return _sum(left) - _sum(right)
        case Apply(op="neg", args=(inner,), type="int"):
            return -_sum(inner)
    return Sum(((1, expr),))


def _limit(form: Sum, walked: Walked) -> tuple[bool, Sum] | None:
    """The limit that ``form <= 0`` sets for the walked position, and whether it is an upper one; None if none."""
    position = Position(walked)
    factor = sum(sign for sign, term in form.terms if term == position)
    others = Sum(tuple((sign, term) for sign, term in form.terms if term != position), form.constant)
    if abs(factor) != 1 or any(depends_on(term, walked) for _, term in others.terms):
        return None
    return (True, -others) if factor == 1 else (False, others)
