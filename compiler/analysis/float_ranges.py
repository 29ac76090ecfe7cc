"""Interval arithmetic of floats, for many boxes at once: :mod:`.classify` computes with it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..ir import ROUNDINGS, Op
from ..oracle import round_to
from ..plan import FULL

TileKinds: TypeAlias = NDArray[np.int8]  # EMPTY, PARTIAL or FULL for each box


class Range(NamedTuple):
    """The bounds, both included, of floats or counts in every box."""

    low: Any
    high: Any


def trits_of(somewhere: Any, everywhere: Any) -> TileKinds:
    """EMPTY where ``somewhere`` is false; else FULL where ``everywhere`` is true; else PARTIAL."""
    return np.asarray(somewhere).astype(np.int8) + np.asarray(everywhere & somewhere).astype(np.int8)


def negated(trits: TileKinds) -> TileKinds:
    return np.asarray(FULL - trits, np.int8)


def computed(op: Op, xs: Sequence[Range]) -> Range | None:
    """The range of an operation on floats; None for one that is not followed. NaN where a value may be NaN.

    Rounding keeps the order of numbers, so the bounds of a rounded value are the rounded bounds. In a mask each sum and
    each product is rounded by an operation of its own, and so is followed exactly. Infinities make NaN.
    """
    if op in ROUNDINGS:
        return Range(*(round_to(op, np.asarray(bound, np.float64)) for bound in xs[0]))
    safe: Any = True
    for x in xs:
        safe = safe & np.isfinite(x.low) & np.isfinite(x.high)
    with np.errstate(all="ignore"):
        bounds = _bounds_of(op, xs)
    return None if bounds is None else Range(*(np.where(safe, bound, np.nan) for bound in bounds))


def _bounds_of(op: Op, xs: Sequence[Range]) -> tuple[Any, Any] | None:
    """The bounds of an operation on finite numbers."""
    first, *rest = xs
    match op, rest:
        case "neg", []:
            return -first.high, -first.low
        case "abs", []:
            least = np.maximum(np.maximum(first.low, -first.high), 0.0)
            return least, np.maximum(-first.low, first.high)
        case "add", [other]:
            return first.low + other.low, first.high + other.high
        case "sub", [other]:
            return first.low - other.high, first.high - other.low
        case "mul", [other]:
            corners = [a * b for a in first for b in other]
            return reduce(np.minimum, corners), reduce(np.maximum, corners)
    return None


def compare_floats(op: str, left: Range, right: Range) -> TileKinds:
    """EMPTY or FULL only if float32 and float64 agree, because kernels compare in either; PARTIAL if a bound is NaN."""
    if op in ("lt", "le"):
        strict = op == "lt"
        everywhere = _below(left.high, right.low, not strict)
        nowhere = _below(right.high, left.low, strict)
        return trits_of(~nowhere, everywhere)
    nowhere = _below(left.high, right.low, False) | _below(right.high, left.low, False)
    everywhere = (left.low == left.high) & (right.low == right.high) & (left.low == right.low)
    trits = trits_of(~nowhere, everywhere)
    return trits if op == "eq" else negated(trits)


def _below(a: Any, b: Any, or_equal: bool) -> Any:
    with np.errstate(over="ignore"):
        below = np.asarray(a).astype(np.float32) < np.asarray(b).astype(np.float32)
    return below | (np.asarray(a) == np.asarray(b)) if or_equal else below
