"""Bounds of what a mask computes with floats, as text of Triton: :mod:`.intervals` judges by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir import Op

LARGEST = 3.4028234663852886e38
"""The largest float32: bounds beyond it, infinite ones among them, are taken for unknown."""


@dataclass(frozen=True)
class Floats:
    """The least and the greatest value of a float, as text; infinite ones also stand for what may be NaN."""

    low: str
    high: str


def bounds_of_floats(op: Op, xs: Sequence[Floats]) -> tuple[str, str] | None:
    """The bounds of an operation on finite floats, which another one rounds; None for one that is not followed."""
    first, *rest = xs
    match op, rest:
        case "neg", []:
            return f"-{first.high}", f"-{first.low}"
        case "abs", []:
            least = f"tl.maximum(tl.maximum({first.low}, -{first.high}), 0.0)"
            return least, f"tl.maximum(-{first.low}, {first.high})"
        case "add", [other]:
            return f"{first.low} + {other.low}", f"{first.high} + {other.high}"
        case "sub", [other]:
            return f"{first.low} - {other.high}", f"{first.high} - {other.low}"
        case "mul", [other]:
            corners = [f"{a} * {b}" for a in (first.low, first.high) for b in (other.low, other.high)]
            return extreme("min", corners), extreme("max", corners)
    return None


def extreme(pick: str, texts: Sequence[str]) -> str:
    found = texts[0]
    for text in texts[1:]:
        found = f"tl.{pick}imum({found}, {text})"
    return found
