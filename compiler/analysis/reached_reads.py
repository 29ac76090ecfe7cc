"""Finds the path condition of each read of a table: for which pairs it is evaluated, so that its indices must be valid.

A read is evaluated where the conditions to its left in the same ``and`` hold, in the chosen branch of an ``if``, and,
in a score, for kept pairs only. A path condition is an expression; :mod:`compiler.verify.index_ranges` evaluates it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from ..ir import FALSE, TRUE, Apply, Entry, Expr, Member, children, constructors, walk

Part = TypeVar("Part", bound=Expr)


@dataclass(frozen=True)
class Reached(Generic[Part]):
    """A part of an expression, and its path condition ``reached``: where evaluation reaches it."""

    node: Part
    reached: Expr


Read: TypeAlias = Reached[Entry | Member]


def reads(expr: Expr, wanted: Callable[[Entry | Member], bool], reached: Expr = TRUE) -> list[Read]:
    """The distinct reads that are ``wanted``, in an expression that itself is evaluated where ``reached`` holds."""
    return _reached(expr, [node for node in walk(expr) if isinstance(node, Entry | Member) and wanted(node)], reached)


def parts_reached(expr: Expr, wanted: Callable[[Expr], bool], reached: Expr = TRUE) -> list[Reached[Expr]]:
    """As :func:`reads`, for parts of any kind; each comes before the parts that contain it."""
    return _reached(expr, [node for node in walk(expr) if wanted(node)], reached)


def _reached(expr: Expr, found: list[Part], reached: Expr) -> list[Reached[Part]]:
    if not found:
        return []
    nodes = tuple(walk(expr))
    holding = _holding(nodes, set(found))
    conditions: dict[Expr, Expr] = {expr: reached}

    def reach(node: Expr, condition: Expr) -> None:
        if node in holding:
            conditions[node] = constructors.disjunction(conditions.get(node, FALSE), condition)

    for node in reversed(nodes):  # wholes before their parts
        if node not in holding:
            continue
        here = conditions[node]
        match node:
            case Apply(op="and", args=args):
                for place, part in enumerate(args):
                    if part in holding:
                        reach(part, constructors.conjunction(here, *args[:place]))
            case Apply(op="if", args=(condition, then, otherwise)):
                reach(condition, here)
                reach(then, constructors.conjunction(here, condition))
                reach(otherwise, constructors.conjunction(here, constructors.negation(condition)))
            case Apply(op="filter", args=(condition, count)):
                reach(condition, here)
                reach(count, constructors.conjunction(here, condition))
            case _:
                for part in children(node):
                    reach(part, here)
    return [Reached(node, conditions[node]) for node in found]


def _holding(nodes: tuple[Expr, ...], found: set[Expr]) -> set[Expr]:
    """The nodes in ``found`` and those that contain one of them; ``nodes`` has parts before wholes."""
    holding: set[Expr] = set(found)
    for node in nodes:
        if any(part in holding for part in children(node)):
            holding.add(node)
    return holding


def any_count(mask: Expr) -> Expr:
    """The condition that a mask keeps a pair at least once."""
    match mask:
        case Apply(op="plus", args=args):
            return constructors.disjunction(*map(any_count, args))
        case Apply(op="filter", args=(condition, count)):
            return constructors.conjunction(condition, any_count(count))
        case Apply(op="if", args=(condition, then, otherwise), type="count"):
            return constructors.choose(condition, any_count(then), any_count(otherwise))
        case _:
            return mask


def underapproximate(condition: Expr, unknown: Callable[[Expr], bool]) -> Expr:
    """A condition that implies the given one, whatever the values of its unknown parts.

    ``unknown`` says whether the value of a part is unknown; an expression with an unknown part is unknown too.
    """
    hidden: set[Expr] = set()
    least: dict[Expr, Expr] = {}  # holds only where the condition does
    most: dict[Expr, Expr] = {}  # holds wherever the condition does
    for node in walk(condition):
        if unknown(node) or any(part in hidden for part in children(node)):
            hidden.add(node)
        match node:
            case Apply(op="and", args=args):
                bounds = tuple(constructors.conjunction(*(side[part] for part in args)) for side in (least, most))
            case Apply(op="or", args=args):
                bounds = tuple(constructors.disjunction(*(side[part] for part in args)) for side in (least, most))
            case Apply(op="not", args=(part,)):
                bounds = constructors.negation(most[part]), constructors.negation(least[part])
            case _ if node.type == "bool":
                bounds = (FALSE, TRUE) if node in hidden else (node, node)
            case _:
                continue
        least[node], most[node] = bounds
    return least[condition]


def overapproximate(condition: Expr, unknown: Callable[[Expr], bool]) -> Expr:
    """A condition that the given one implies, whatever the values of its unknown parts; it reads none of them."""

    def spelled(node: Expr) -> Expr:
        match node:
            case Apply(op="if", args=(test, then, otherwise), type="bool"):
                return _either(test, then, otherwise)
            case Apply(op="iff", args=(a, b)):
                return _either(a, b, constructors.negation(b))
        return node

    whole = constructors.transform(condition, spelled) if any(map(unknown, walk(condition))) else condition
    return constructors.negation(underapproximate(constructors.negation(whole), unknown))


def _either(test: Expr, then: Expr, otherwise: Expr) -> Expr:
    """The choice between two conditions by ``and`` and ``or``."""
    first = constructors.conjunction(test, then)
    return constructors.disjunction(first, constructors.conjunction(constructors.negation(test), otherwise))
