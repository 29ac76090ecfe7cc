"""Mask to parts: a count as conditions that are counted one by one."""

from __future__ import annotations

from itertools import zip_longest

from . import fold
from .ir import FALSE, Apply, Expr


def parts(mask: Expr) -> tuple[Expr, ...]:
    """Conditions whose number that hold is the mask's count of each pair; a bool mask is its own one part."""
    match mask:
        case Apply(op="plus", args=args):
            return tuple(part for arg in args for part in parts(arg))
        case Apply(op="filter", args=(condition, count)):
            return tuple(fold.conjunction(condition, part) for part in parts(count))
        case Apply(op="if", args=(condition, then, otherwise), type="count"):
            # Only one branch is ever taken: a part of each can share one place.
            pairs = zip_longest(parts(then), parts(otherwise), fillvalue=FALSE)
            return tuple(fold.choose(condition, a, b) for a, b in pairs)
        case _:
            return (mask,)
