"""Finds the shifts of query and key together under which a condition is invariant."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import lcm, prod

from ..ir import Apply, Const, Expr, K, Q, children, walk


@lru_cache(maxsize=4096)
def shift_divisor(condition: Expr) -> int | None:
    """A number such that a shift of q and k together by any multiple keeps the condition; None if none is known."""
    drifts: dict[Expr, Fraction | None] = {}
    divisor = 1
    for node in walk(condition):
        drift, needed = _drift(node, [drifts[part] for part in children(node)])
        drifts[node] = drift
        if drift is not None:
            divisor = lcm(divisor, needed)
    return divisor if drifts[condition] == 0 else None


def _drift(node: Expr, parts: list[Fraction | None]) -> tuple[Fraction | None, int]:
    """How much a value grows for each token by which q and k are shifted, and the divisor that the shift must have.

    The growth is None if it is unknown or not proportional to the shift.
    """
    known = [part for part in parts if part is not None]
    if node in (Q, K):
        return Fraction(1), 1
    if len(known) < len(parts):
        return None, 1
    still = Fraction(0)
    if isinstance(node, Apply):
        match node.op:
            case "add":
                return sum(known, still), 1
            case "sub":
                return known[0] - known[1], 1
            case "neg":
                return -known[0], 1
            case "mul" if any(known):
                factors = [arg.value for arg in node.args if isinstance(arg, Const)]
                moving = [drift for arg, drift in zip(node.args, known, strict=True) if not isinstance(arg, Const)]
                alone = len(moving) == 1 and node.type == "int"
                return (moving[0] * prod(int(factor) for factor in factors), 1) if alone else (None, 1)
            case "floordiv" | "mod":
                divisor = node.args[1]
                if not isinstance(divisor, Const):  # of what stays, the quotient stays, whatever the divisor
                    return (None if any(known) else still), 1
                quotient = known[0] / int(divisor.value)
                return (quotient if node.op == "floordiv" else still), quotient.denominator
            case "min" | "max" if node.type == "int":
                return (known[0] if len(set(known)) == 1 else None), 1
            case "lt" | "le" | "eq" | "ne" if node.args[0].type == "int":
                return (still if known[0] == known[1] else None), 1
            case "if" if node.type == "int":
                return (known[1] if known[0] == 0 and known[1] == known[2] else None), 1
    return (still if not any(known) else None), 1
