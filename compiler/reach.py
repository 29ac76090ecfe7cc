"""Where each read of a table is looked at, as a condition, and what that condition says of the read's indices.

An index is looked at where the conditions to its left in the same ``and`` hold, in the chosen branch of an ``if``, and
in a score for kept pairs only. All of it is symbolic; :mod:`compiler.ranges` decides it for one extent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Generic, TypeAlias, TypeVar

from . import fold
from .ir import FALSE, TRUE, Apply, Const, Entry, Expr, Member, children, walk

Part = TypeVar("Part", bound=Expr)


@dataclass(frozen=True)
class Reached(Generic[Part]):
    """One part of an expression, and the condition on which it is looked at."""

    node: Part
    reached: Expr


Read: TypeAlias = Reached[Entry | Member]


def reads(expr: Expr, wanted: Callable[[Entry | Member], bool], reached: Expr = TRUE) -> list[Read]:
    """Every distinct wanted read in an expression that is itself looked at where ``reached`` holds."""
    return _reached(expr, [node for node in walk(expr) if isinstance(node, Entry | Member) and wanted(node)], reached)


def parts_reached(expr: Expr, wanted: Callable[[Expr], bool], reached: Expr = TRUE) -> list[Reached[Expr]]:
    """The same of any parts; parts come before wholes."""
    return _reached(expr, [node for node in walk(expr) if wanted(node)], reached)


def _reached(expr: Expr, found: list[Part], reached: Expr) -> list[Reached[Part]]:
    if not found:
        return []
    nodes = tuple(walk(expr))
    holding = _holding(nodes, set(found))
    conditions: dict[Expr, Expr] = {expr: reached}

    def reach(node: Expr, condition: Expr) -> None:
        if node in holding:
            conditions[node] = fold.disjunction(conditions.get(node, FALSE), condition)

    for node in reversed(nodes):  # wholes before their parts
        if node not in holding:
            continue
        here = conditions[node]
        match node:
            case Apply(op="and", args=args):
                for place, part in enumerate(args):
                    if part in holding:
                        reach(part, fold.conjunction(here, *args[:place]))
            case Apply(op="if", args=(condition, then, otherwise)):
                reach(condition, here)
                reach(then, fold.conjunction(here, condition))
                reach(otherwise, fold.conjunction(here, fold.negation(condition)))
            case Apply(op="filter", args=(condition, count)):
                reach(condition, here)
                reach(count, fold.conjunction(here, condition))
            case _:
                for part in children(node):
                    reach(part, here)
    return [Reached(node, conditions[node]) for node in found]


def _holding(nodes: tuple[Expr, ...], found: set[Expr]) -> set[Expr]:
    """The nodes found and those that hold one; ``nodes`` has parts before wholes."""
    holding: set[Expr] = set(found)
    for node in nodes:
        if any(part in holding for part in children(node)):
            holding.add(node)
    return holding


def kept(mask: Expr) -> Expr:
    """The condition that a mask keeps a pair at least once."""
    match mask:
        case Apply(op="plus", args=args):
            return fold.disjunction(*map(kept, args))
        case Apply(op="filter", args=(condition, count)):
            return fold.conjunction(condition, kept(count))
        case Apply(op="if", args=(condition, then, otherwise), type="count"):
            return fold.choose(condition, kept(then), kept(otherwise))
        case _:
            return mask


def certain(condition: Expr, unknown: Callable[[Expr], bool]) -> Expr:
    """A condition that holds only where the given one does, whatever its unknown parts turn out to be.

    ``unknown`` says of a part whether its value is not known here; what is made of something unknown is unknown.
    """
    hidden: set[Expr] = set()
    least: dict[Expr, Expr] = {}  # holds only where the condition does
    most: dict[Expr, Expr] = {}  # holds wherever the condition does
    for node in walk(condition):
        if unknown(node) or any(part in hidden for part in children(node)):
            hidden.add(node)
        match node:
            case Apply(op="and", args=args):
                bounds = tuple(fold.conjunction(*(side[part] for part in args)) for side in (least, most))
            case Apply(op="or", args=args):
                bounds = tuple(fold.disjunction(*(side[part] for part in args)) for side in (least, most))
            case Apply(op="not", args=(part,)):
                bounds = fold.negation(most[part]), fold.negation(least[part])
            case _ if node.type == "bool":
                bounds = (FALSE, TRUE) if node in hidden else (node, node)
            case _:
                continue
        least[node], most[node] = bounds
    return least[condition]


@dataclass(frozen=True)
class Linear:
    """``constant + sum(factor * part)`` over parts that are no sums themselves."""

    factors: Mapping[Expr, int]
    constant: int


def linear(expr: Expr, known: Mapping[Expr, int]) -> Linear:
    """An integer expression as a sum; ``known`` gives the parts that have one value, such as ``n``."""
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
    """Sums that are at most 0 wherever the condition holds."""
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
            opposite = fold.less(right, left) if op == "le" else fold.less_equal(right, left)
            yield from implied(opposite, known)


def _unfolded(form: Linear, known: Mapping[Expr, int]) -> Iterator[Linear]:
    """The sum itself; and with its first ``abs`` or ``max`` replaced by what is never more, where that keeps it low."""
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
