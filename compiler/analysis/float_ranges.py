"""Interval arithmetic of floats, for many boxes at once: :mod:`.classify` computes with it."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
