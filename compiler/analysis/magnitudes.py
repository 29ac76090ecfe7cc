"""Bounds the integers that affine arithmetic computes, in advance: it decides whether int64 is enough for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod

from ..ir import OPERATIONS, Apply, CallShape, Const, Entry, Expr, Position, children

LARGEST_UNKNOWN_POSITION = 2**48
"""An upper bound on positions that only the device knows."""


def largest_magnitude(order: Sequence[Expr], extent: CallShape, reach: int, largest_entry: Callable[[str], int]) -> int:
    """An upper bound on the magnitude of all integers that :mod:`.affine_forms` computes for these expressions.

    ``order`` lists them, parts before wholes. ``reach``: the largest row or key, if they go beyond the extent.
    ``largest_entry``: gives the largest magnitude of the entries of a table, by its name.
    """
    magnitudes: dict[Expr, int] = {}
    largest = 0
    for node in order:
        parts = [magnitudes[part] for part in children(node)]
        match node:
            case Position(name=name):
                magnitude, met = _position(name, extent, reach), 0
            case Entry(table=table, type="int"):
                magnitude, met = 3 * largest_entry(table), sum(parts) + _position("q", extent, reach)
            case _:
                magnitude, met = _magnitude(node, parts)
        magnitudes[node] = magnitude
        largest = max(largest, magnitude, met)
    return largest


def _magnitude(node: Expr, parts: list[int]) -> tuple[int, int]:
    """Bounds on the form of a node, all of its terms together, and on the intermediate results that lead to it.

    The form of ``AffineContext.covering`` is a lower bound plus a length, and so up to three times what it covers.
    """
    match node:
        case Const(value=value):
            return (abs(value) if isinstance(value, int) else 0), 0
        case Apply(op="add" | "sub"):
            return sum(parts), 0
        case Apply(op="mul", args=args, type="int"):
            # A form times a constant is a scaled form; a product of two forms becomes one that covers its range.
            scaled = sum(not isinstance(arg, Const) for arg in args) < 2
            return (prod(parts) if scaled else 3 * reduce(lambda a, b: 3 * a * b, parts)), 0
        case Apply(op="floordiv" | "mod"):
            return 4 * sum(parts) + 4, 0
        case Apply(op="neg" | "abs" | "min" | "max" | "if", type="int"):
            return 3 * max(parts), sum(parts)
        case Apply(type="int"):
            bounds = OPERATIONS[node.op].opaque
            if bounds is None:
                raise unfollowed(node)
            return 3 * (1 + max(map(abs, bounds))), sum(parts)
        case _:
            return 0, sum(parts)


def _position(name: str, extent: CallShape, reach: int) -> int:
    if name == "q":
        start = LARGEST_UNKNOWN_POSITION if extent.q_start is None else max(map(abs, extent.q_start), default=0)
        return start + max(extent.m + 2**20, reach)
    return {
        "k": max(extent.n + 2**20, reach),
        "n": extent.n,
        "head": extent.heads,
        "heads": extent.heads,
    }.get(name, 0)


def unfollowed(node: Apply) -> ValueError:
    """What to raise for an operation that is missing here and in :mod:`.classify`."""
    return ValueError(f"the analysis does not follow `{node.op}`, and the table does not call it opaque")
