"""Integer expressions as linear sums, and the inequalities between them that a condition implies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from ..ir import Apply, Const, Expr, constructors, walk


@dataclass(frozen=True)
class Linear:
    """``constant + sum(factor * part)``, where the parts are not sums themselves."""

    factors: Mapping[Expr, int]
    constant: int


def linear(expr: Expr, known: Mapping[Expr, int]) -> Linear:
    """An integer expression as a linear sum; ``known`` gives the values of constant parts, such as ``n``."""
    forms: dict[Expr, Linear] = {}
    for node in walk(expr):
        forms[node] = _linear(node, forms, known)
    return forms[expr]


def _linear(node: Expr, forms: Mapping[Expr, Linear], known: Mapping[Expr, int]) -> Linear:
    if node in known:
        return Linear({}, known[node])
    match node:
        case Const(value=int(value)):
            return Linear({}, value)
        case Apply(op="add", args=args, type="int"):
            return _sum([(forms[part], 1) for part in args])
        case Apply(op="sub", args=(left, right), type="int"):
            return difference(forms[left], forms[right])
        case Apply(op="neg", args=(part,), type="int"):
            return _sum([(forms[part], -1)])
        case Apply(op="mul", args=args, type="int"):
            varying = [forms[part] for part in args if forms[part].factors]
            if len(varying) < 2:
                factor = prod(forms[part].constant for part in args if not forms[part].factors)
                return _sum([(varying[0] if varying else Linear({}, 1), factor)])
    return Linear({node: 1}, 0)


def _sum(parts: list[tuple[Linear, int]]) -> Linear:
    factors: dict[Expr, int] = {}
    constant = 0
    for form, factor in parts:
        constant += factor * form.constant
        for part, value in form.factors.items():
            factors[part] = factors.get(part, 0) + factor * value
    return Linear({part: value for part, value in factors.items() if value}, constant)


def difference(a: Linear, b: Linear) -> Linear:
    return _sum([(a, 1), (b, -1)])


def implied(condition: Expr, known: Mapping[Expr, int]) -> Iterator[Linear]:
    """Yields linear sums that are at most 0 wherever the condition holds."""
    match condition:
        case Apply(op="and", args=args):
            for part in args:
                yield from implied(part, known)
        case Apply(op="le", args=(left, right)) if left.type == "int":
            yield from _unfolded(difference(linear(left, known), linear(right, known)), known)
        case Apply(op="lt", args=(left, right)) if left.type == "int":
            form = difference(linear(left, known), linear(right, known))
            yield from _unfolded(Linear(form.factors, form.constant + 1), known)
        case Apply(op="eq", args=(left, right)) if left.type == "int":
            form = difference(linear(left, known), linear(right, known))
            yield from _unfolded(form, known)
            yield from _unfolded(_sum([(form, -1)]), known)
        case Apply(op="not", args=(Apply(op="le" | "lt" as op, args=(left, right)),)):
            opposite = constructors.less(right, left) if op == "le" else constructors.less_equal(right, left)
            yield from implied(opposite, known)


def _unfolded(form: Linear, known: Mapping[Expr, int]) -> Iterator[Linear]:
    """Yields the sum, and smaller ones in which an ``abs``, ``max`` or ``min`` is replaced by an argument.

    As ``abs(x) >= x`` and ``max(x, y) >= x``, a sum with such a part and a positive factor does not become greater
    (likewise ``min`` with a negative factor): if the given sum is at most 0, so are the new ones.
    """
    yield form
    for part, factor in form.factors.items():
        smaller: list[Linear]
        match part:
            case Apply(op="abs", args=(inner,)) if factor > 0:
                smaller = [linear(inner, known), _sum([(linear(inner, known), -1)])]
            case Apply(op="max", args=args) if factor > 0:
                smaller = [linear(inner, known) for inner in args]
            case Apply(op="min", args=args) if factor < 0:
                smaller = [linear(inner, known) for inner in args]
            case _:
                continue
        rest = Linear({other: value for other, value in form.factors.items() if other != part}, form.constant)
        for replacement in smaller:
            yield from _unfolded(_sum([(rest, 1), (replacement, factor)]), known)
        return
