"""Affine arithmetic on sets of integers, one set for each box of a batch: :mod:`.classify` computes with it.

A digit is an unknown integer with a range of its own in every box. A form is ``constant + sum(coefficient * digit)``; a
result that is not affine becomes a new digit that covers its range. Nothing here rounds or wraps around, provided that
the caller keeps magnitudes below 2**63 or uses Python's integers (dtype ``object``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

Integers: TypeAlias = Any  # an int, the same for every box, or an array [boxes] of int64 or of Python integers
IntBounds: TypeAlias = tuple[Integers, Integers]


@dataclass(frozen=True)
class AffineForm:
    """``constant + sum(coefficient * digit)`` in every box; ``terms`` maps the number of a digit to its coefficient."""

    constant: Integers
    terms: Mapping[int, Integers] = field(default_factory=dict)


@dataclass
class AffineContext:
    """The digits of one batch of boxes, by number: the least and the greatest value of each, in every box.

    Values are Python integers or arrays of ``dtype``; :meth:`exact` makes these, as numpy by itself would make int64.
    """

    dtype: np.dtype[Any]
    low: list[Integers] = field(default_factory=list)
    high: list[Integers] = field(default_factory=list)

    def digit(self, low: Integers, high: Integers) -> int:
        """The number of a new digit with these bounds."""
        self.low.append(low)
        self.high.append(high)
        return len(self.low) - 1

    def exact(self, values: Integers) -> Integers:
        """The same integers as an array of ``dtype``."""
        return np.asarray(values, self.dtype if isinstance(values, int) else None).astype(self.dtype, copy=False)

    def where(self, condition: Any, a: Integers, b: Integers) -> Integers:
        return np.where(condition, self.exact(a), self.exact(b))

    def least(self, values: list[Integers]) -> Integers:
        return reduce(np.minimum, map(self.exact, values))

    def greatest(self, values: list[Integers]) -> Integers:
        return reduce(np.maximum, map(self.exact, values))

    def covering(self, low: Integers, high: Integers) -> AffineForm:
        """A form that may be any integer from ``low`` to ``high``."""
        low, high = self.exact(low), self.exact(high)
        length = high - low
        return AffineForm(low, {self.digit(0, length): 1}) if np.any(length) else AffineForm(low)

    def bounds(self, form: AffineForm) -> IntBounds:
        """The least and the greatest value of a form in every box."""
        low = high = form.constant
        for number, coefficient in form.terms.items():
            first, last = coefficient * self.low[number], coefficient * self.high[number]
            if isinstance(coefficient, int):
                low, high = (low + first, high + last) if coefficient > 0 else (low + last, high + first)
            else:
                low, high = low + self.least([first, last]), high + self.greatest([first, last])
        return low, high

    def lattice(self, form: AffineForm) -> IntBounds:
        """``(step, base)`` in every box: each value of the form is ``base`` plus a multiple of ``step``.

        With step 0, ``base`` is the only value. Digits with a single value in a box are part of the base.
        """
        for number, coefficient in form.terms.items():
            if isinstance(coefficient, int) and coefficient in (1, -1) and np.all(self.low[number] < self.high[number]):
                return 1, 0
        step: Integers = 0
        base = form.constant
        for number, coefficient in form.terms.items():
            low, high = self.low[number], self.high[number]
            base = base + coefficient * low
            step = np.gcd(self.exact(step), self.where(low < high, np.abs(self.exact(coefficient)), 0))
        return step, base

    def multiply(self, a: AffineForm, b: AffineForm) -> AffineForm:
        if not a.terms:
            return scale(b, a.constant)
        if not b.terms:
            return scale(a, b.constant)
        (a0, a1), (b0, b1) = self.bounds(a), self.bounds(b)
        products = [a0 * b0, a0 * b1, a1 * b0, a1 * b1]
        low, high = self.least(products), self.greatest(products)
        if a is b:  # a square
            low = self.where((a0 > 0) | (a1 < 0), self.greatest([low, 0]), 0)
        return self.covering(low, high)

    def floordiv(self, form: AffineForm, divisor: int) -> AffineForm:
        """The quotient ``form // divisor`` as a form; the divisor is positive.

        Terms whose coefficient is a multiple of the divisor are divided exactly. The quotient of all other terms
        becomes one new digit with the range that it can have, which may be wider than the quotient needs.
        """
        exact: dict[int, Integers] = {}
        rest: dict[int, Integers] = {}
        for number, coefficient in form.terms.items():
            if isinstance(coefficient, int):
                (rest if coefficient % divisor else exact)[number] = (
                    coefficient if coefficient % divisor else coefficient // divisor
                )
            else:
                divides = coefficient % divisor == 0
                exact[number] = self.where(divides, coefficient // divisor, 0)
                rest[number] = self.where(divides, 0, coefficient)
        low, high = self.bounds(AffineForm(form.constant % divisor, rest))
        whole = AffineForm(form.constant // divisor, exact)
        return add(whole, self.covering(low // divisor, high // divisor))

    def mod(self, form: AffineForm, divisor: int) -> AffineForm:
        """The remainder ``form % divisor`` as a form; the divisor is positive.

        It is exact in boxes in which the quotient is constant. In the others it is a new digit, over all remainders
        that :meth:`lattice` of the form allows.
        """
        reduced = {number: _remainder(coefficient, divisor) for number, coefficient in form.terms.items()}
        reduced = {number: c for number, c in reduced.items() if not isinstance(c, int) or c}
        rest = AffineForm(form.constant % divisor, reduced)
        low, high = self.bounds(rest)
        quotient = low // divisor
        same = quotient == high // divisor
        exact = AffineForm(rest.constant - divisor * quotient, reduced)
        if np.all(same):
            return exact
        step, base = self.lattice(rest)
        step = np.gcd(step, self.exact(divisor)) if not isinstance(step, int) else math.gcd(step, divisor)
        base = base % step
        wrapped = AffineForm(base, {self.digit(0, divisor // step - 1): step})
        return self.choose(same, exact, wrapped)

    def floordiv_by(self, form: AffineForm, least: Integers, greatest: Integers) -> AffineForm:
        """The quotient by any divisor from ``least`` to ``greatest``, which are positive."""
        low, high = self.bounds(form)
        return self.covering(
            self.least([low // least, low // greatest]), self.greatest([high // least, high // greatest])
        )

    def mod_by(self, form: AffineForm, least: Integers, greatest: Integers) -> AffineForm:
        """The remainder by any divisor from ``least`` to ``greatest``, which are positive.

        It is exact in boxes in which there is one divisor and one quotient.
        """
        low, high = self.bounds(form)
        quotient = self.exact(low) // least
        same = (self.exact(least) == greatest) & (quotient == self.exact(high) // least)
        exact = AffineForm(form.constant - least * quotient, form.terms)
        if np.all(same):
            return exact
        small = (self.exact(low) >= 0) & (self.exact(high) < least)  # the number is its own remainder
        most = self.where(self.exact(low) >= 0, self.least([high, greatest - 1]), greatest - 1)
        return self.choose(same, exact, self.choose(small, form, self.covering(0, most)))

    def absolute(self, form: AffineForm) -> AffineForm:
        low, high = self.bounds(form)
        positive, negative = low >= 0, high <= 0
        if np.all(positive):
            return form
        if np.all(negative):
            return scale(form, -1)
        hull = self.covering(0, self.greatest([-low, high]))
        return self.choose(positive, form, self.choose(negative, scale(form, -1), hull))

    def extreme(self, a: AffineForm, b: AffineForm, greatest: bool) -> AffineForm:
        """The greater of two forms if ``greatest``, else the lesser."""
        low, high = self.bounds(subtract(a, b))
        first, second = (low >= 0, high <= 0) if greatest else (high <= 0, low >= 0)
        if np.all(first):
            return a
        if np.all(second):
            return b
        pick = self.greatest if greatest else self.least
        (a0, a1), (b0, b1) = self.bounds(a), self.bounds(b)
        hull = self.covering(pick([a0, b0]), pick([a1, b1]))
        return self.choose(first, a, self.choose(second, b, hull))

    def hull(self, a: AffineForm, b: AffineForm) -> AffineForm:
        """A form that covers all values of both."""
        (a0, a1), (b0, b1) = self.bounds(a), self.bounds(b)
        return self.covering(self.least([a0, b0]), self.greatest([a1, b1]))

    def choose(self, condition: Any, a: AffineForm, b: AffineForm) -> AffineForm:
        """``a`` in the boxes where the condition holds, ``b`` in the others."""
        if np.all(condition):
            return a
        if not np.any(condition):
            return b
        terms: dict[int, Integers] = {}
        for number in (*a.terms, *(number for number in b.terms if number not in a.terms)):
            first, second = a.terms.get(number, 0), b.terms.get(number, 0)
            same = isinstance(first, int) and isinstance(second, int) and first == second
            terms[number] = first if same else self.where(condition, first, second)
        return AffineForm(self.where(condition, a.constant, b.constant), terms)


def add(a: AffineForm, b: AffineForm) -> AffineForm:
    terms = dict(a.terms)
    for number, coefficient in b.terms.items():
        total = terms.get(number, 0) + coefficient
        if isinstance(total, int) and not total:
            terms.pop(number, None)
        else:
            terms[number] = total
    return AffineForm(a.constant + b.constant, terms)


def scale(form: AffineForm, factor: Integers) -> AffineForm:
    if isinstance(factor, int) and not factor:
        return AffineForm(0)
    return AffineForm(form.constant * factor, {number: c * factor for number, c in form.terms.items()})


def subtract(a: AffineForm, b: AffineForm) -> AffineForm:
    return add(a, scale(b, -1))


def _remainder(coefficient: Integers, divisor: int) -> Integers:
    """The remainder of the coefficient with its sign kept, so that its magnitude does not grow."""
    if isinstance(coefficient, int):
        return coefficient % divisor if coefficient >= 0 else -(-coefficient % divisor)
    return np.where(coefficient >= 0, coefficient % divisor, -(-coefficient % divisor))
