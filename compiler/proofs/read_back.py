"""Functions and sets of isl, over one key and the sizes of a call, as expressions that a person reads.

Imports islpy: for :mod:`.worker` and tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import islpy as isl

from ..ir import HEAD, HEADS, Apply, Const, Expr, K, N, constructors

LARGEST = 2**30
"""The greatest number that an expression read back may hold: its value at lengths up to this one fits 63 bits."""

_PARAMETER, _IN, _DIV = isl.dim_type.param, isl.dim_type.in_, isl.dim_type.div
_PARAMETERS: Mapping[str, Expr] = {"n": N, "head": HEAD, "heads": HEADS}


class TooLargeError(ValueError):
    """A number is beyond LARGEST."""


@dataclass
class _Sum:
    """Multiples of expressions, and a constant. ``inside``: what each quotient among them is the quotient of."""

    terms: Counter[Expr] = field(default_factory=Counter)
    constant: int = 0
    inside: dict[Expr, tuple[_Sum, int]] = field(default_factory=dict)

    def add(self, other: _Sum, times: int) -> None:
        for part, factor in other.terms.items():
            self.terms[part] += times * factor
        self.constant += times * other.constant
        self.inside.update(other.inside)

    @property
    def size(self) -> int:
        return sum(1 for factor in self.terms.values() if factor)

    def sides(self) -> tuple[Expr, Expr]:
        """Two sums without negative factors: the difference of the first and the second is this one."""
        plus, minus = ([(x, s * f) for x, f in self.terms.items() if s * f > 0] for s in (1, -1))
        return _total(plus, max(self.constant, 0)), _total(minus, max(-self.constant, 0))

    def expression(self) -> Expr:
        added = [(x, factor) for x, factor in self.terms.items() if factor > 0]
        taken = [(x, -factor) for x, factor in self.terms.items() if factor < 0]
        if not taken:
            return _total(added, self.constant)
        if not added:
            return constructors.sub(Const(self.constant), _total(taken, 0))
        difference = _total(added, 0)
        for x, factor in taken:
            difference = constructors.sub(difference, constructors.mul(x, Const(factor)))
        return constructors.add(difference, Const(self.constant)) if self.constant else difference


def _total(parts: list[tuple[Expr, int]], constant: int) -> Expr:
    products = [constructors.mul(x, Const(factor)) for x, factor in parts]
    return constructors.add(*products, *([Const(constant)] if constant or not products else []))


def number(aff: isl.Aff) -> Expr:
    """The value of an integer function. TooLargeError where it holds a number beyond LARGEST."""
    return _shortest(_quotient(*_scaled(aff))).expression()


def conjuncts(basic: isl.BasicSet) -> Iterator[tuple[isl.Set, Expr]]:
    """The conditions whose conjunction a set without unknown parts is, each as a set and as an expression."""
    for constraint in basic.get_constraints():
        aff = constraint.get_aff()
        alone = isl.PwAff.from_aff(aff)
        if constraint.is_equality():
            yield alone.zero_set(), _equal(*_shortest(_scaled(aff)[0]).sides())
        else:
            yield alone.nonneg_set(), _at_most(_shortest(_scaled(aff)[0]))


def _equal(one: Expr, two: Expr) -> Expr:
    """Whether two sums are equal; ``k % 2 == 1`` for ``0 == (k + 1) % 2``."""
    one, two = (two, one) if isinstance(one, Const) else (one, two)
    match one, two:
        case Apply(op="mod", args=(Apply(op="add", args=(*parts, Const(value=shift))), Const(value=divisor))), Const():
            rest = (int(two.value) - int(shift)) % int(divisor)
            if 0 <= int(two.value) < int(divisor):
                return constructors.equal(constructors.mod(constructors.add(*parts), int(divisor)), Const(rest))
    return constructors.equal(one, two)


def _at_most(margin: _Sum) -> Expr:
    """The condition that a sum is not negative."""
    greater, smaller = margin.sides()
    if isinstance(greater, Const):  # k <= 3 is k < 4
        return constructors.less(smaller, Const(int(greater.value) + 1))
    if margin.constant == -1:  # k + 1 <= n is k < n
        return constructors.less(_total([(x, -f) for x, f in margin.terms.items() if f < 0], 0), greater)
    return constructors.less_equal(smaller, greater)


def _scaled(aff: isl.Aff) -> tuple[_Sum, int]:
    """A function as a sum of integer multiples, and the number that it is divided by."""
    divisor = aff.get_denominator_val()
    found = _Sum()

    def integer(value: isl.Val) -> int:
        whole = int(value.mul(divisor).to_python())
        if abs(whole) > LARGEST:
            raise TooLargeError("a number of the last reader is too large")
        return whole

    found.constant = integer(aff.get_constant_val())
    found.terms[K] = integer(aff.get_coefficient_val(_IN, 0))
    for place in range(aff.dim(_PARAMETER)):
        factor = integer(aff.get_coefficient_val(_PARAMETER, place))
        if factor:
            found.terms[_PARAMETERS[aff.get_dim_name(_PARAMETER, place)]] = factor
    for place in range(aff.dim(_DIV)):
        factor = integer(aff.get_coefficient_val(_DIV, place))
        if factor:
            found.add(_quotient(*_scaled(aff.get_div(place))), factor)
    found.terms = Counter({x: factor for x, factor in found.terms.items() if factor})
    return found, integer(isl.Val(1))


def _quotient(sum_: _Sum, divisor: int) -> _Sum:
    """A sum divided, rounded down: what the divisor goes into stands before the quotient."""
    if divisor == 1:
        return sum_
    outside, inside = _Sum(inside=dict(sum_.inside)), _Sum(inside=dict(sum_.inside))
    for x, factor in sum_.terms.items():
        whole, rest = _nearest(factor, divisor)
        if x == K and 2 * rest == divisor and len(sum_.terms) > 1:  # (n - k) // 2 rather than (n + k) // 2 - k
            whole, rest = whole + 1, -rest
        outside.terms[x] += whole
        inside.terms[x] += rest
    outside.constant, inside.constant = _nearest(sum_.constant, divisor)
    inside.terms = Counter({x: factor for x, factor in inside.terms.items() if factor})
    if not inside.terms:
        outside.constant += inside.constant // divisor
        return outside
    sign = 1
    if all(factor < 0 for factor in inside.terms.values()):  # -k // 3 is -((k + 2) // 3)
        up = _Sum(constant=divisor - 1, inside=dict(inside.inside))
        up.add(inside, -1)
        inside, sign = up, -1
        whole, inside.constant = _nearest(inside.constant, divisor)
        outside.constant -= whole
    floor = constructors.floordiv(inside.expression(), divisor)
    outside.terms[floor] += sign
    outside.inside[floor] = (inside, divisor)
    return outside


def _nearest(number: int, divisor: int) -> tuple[int, int]:
    """A number as a multiple of the divisor and a rest of at most half of it in magnitude."""
    whole = (2 * number + divisor - 1) // (2 * divisor)
    return whole, number - whole * divisor


def _shortest(sum_: _Sum) -> _Sum:
    """The same with ``x - x % d`` for ``x // d * d`` where that is shorter."""
    best = sum_
    for floor, factor in sum_.terms.items():
        if floor not in sum_.inside or not factor:
            continue
        inside, divisor = sum_.inside[floor]
        if factor % divisor:
            continue
        times = factor // divisor
        other = _Sum(Counter(sum_.terms), sum_.constant, dict(sum_.inside))
        del other.terms[floor]
        other.add(inside, times)
        rest = Apply("mod", (inside.expression(), Const(divisor)), "int")
        other.terms[rest] -= times
        if other.size < best.size:
            best = other
    return best
