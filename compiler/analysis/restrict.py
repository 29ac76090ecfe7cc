"""A condition over a part of all pairs: comparisons that are decided there are replaced by what they are."""

from __future__ import annotations

from typing import NamedTuple

from ..ir import FALSE, TRUE, Apply, Expr, K, Q, transform
from .linear_sums import Linear, difference, linear


class Reach(NamedTuple):
    """The values of a position: ``first`` and on, up to and with ``last``; None: without end."""

    first: int
    last: int | None = None


def restricted(expr: Expr, queries: Reach, keys: Reach) -> Expr:
    """An expression that has the same value as this one for each query and key of these positions.

    Comparisons of sums of ``q`` and ``k`` are decided by the least and the greatest value that the difference of their
    sides can take; all others stay.
    """
    reach: dict[Expr, Reach] = {Q: queries, K: keys}
    return transform(expr, lambda node: _decided(node, reach))


def _decided(node: Expr, reach: dict[Expr, Reach]) -> Expr:
    match node:
        case Apply(op="lt" | "le" | "eq" | "ne" as op, args=(left, right)) if left.type == "int":
            span = _span(difference(linear(left, {}), linear(right, {})), reach)
            if span is None:
                return node
            least, most = span
        case _:
            return node
    if op in ("lt", "le"):
        limit = -1 if op == "lt" else 0
        if most is not None and most <= limit:
            return TRUE
        return FALSE if least is not None and least > limit else node
    if (least is not None and least > 0) or (most is not None and most < 0):
        return FALSE if op == "eq" else TRUE
    if least == most == 0:
        return TRUE if op == "eq" else FALSE
    return node


def _span(form: Linear, reach: dict[Expr, Reach]) -> tuple[int | None, int | None] | None:
    """The least and the greatest value of a sum, None for no end; None where it has other parts than positions."""
    least: int | None = form.constant
    most: int | None = form.constant
    for part, factor in form.factors.items():
        if part not in reach:
            return None
        ends = reach[part] if factor > 0 else reach[part][::-1]
        low, high = (None if end is None else factor * end for end in ends)
        least = None if least is None or low is None else least + low
        most = None if most is None or high is None else most + high
    return least, most
