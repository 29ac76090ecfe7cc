"""By how far queries and keys may move together without changing what a condition keeps."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import lcm, prod

from ..ir import Apply, Const, Expr, K, Q, children, walk


@lru_cache(maxsize=4096)
def shift_divisor(condition: Expr) -> int | None:
    """The condition stays the same when q and k grow by the same multiple of this; None where by no number known."""
    drifts: dict[Expr, Fraction | None] = {}
    divisor = 1
    for node in walk(condition):
        drift, needed = _drift(node, [drifts[part] for part in children(node)])
        drifts[node] = drift
        if drift is not None:
            divisor = lcm(divisor, needed)
    return divisor if drifts[condition] == 0 else None


def _drift(node: Expr, parts: list[Fraction | None]) -> tuple[Fraction | None, int]:
    """By how much a value grows for each token that q and k move on, and what must divide the move; None if unknown."""
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
                assert isinstance(divisor, Const)
                quotient = known[0] / int(divisor.value)
                return (quotient if node.op == "floordiv" else still), quotient.denominator
            case "min" | "max" if node.type == "int":
                return (known[0] if len(set(known)) == 1 else None), 1
            case "lt" | "le" | "eq" | "ne" if node.args[0].type == "int":
                return (still if known[0] == known[1] else None), 1
            case "if" if node.type == "int":
                return (known[1] if known[0] == 0 and known[1] == known[2] else None), 1
    return (still if not any(known) else None), 1
