"""Finds the halo of a relation: how far from its query a key may be along each axis, for every length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..analysis import Boxes, Classifier, DigitRange, shift_divisor
from ..ir import HEAD, HEADS, CallShape, Entry, Expr, Member, N, constructors, is_opaque, walk
from ..plan import EMPTY, Axis, View

# In coordinates: a wider halo is not worth building.
_WIDEST = 2**9
# The longest axis apart from the main one, in coordinates: each of them is examined.
_LONGEST = 2**14
# In tokens along the main axis: farther than any key is from a query.
_FAR = 2**34


class Halo(NamedTuple):
    """How many coordinates, along each axis, the key of a pair can be before its query, and after it."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def halo(conjuncts: Iterable[Expr], view: View) -> Halo | None:
    """The halo that all conditions together allow along the axes of a view; None if it is too wide or crosses classes.

    Conditions that read more than positions, and those that are not invariant under a shift by one coordinate of the
    main axis, are ignored; they can only remove pairs, so the halo stays sound.
    """
    found = _along(tuple(conjuncts), tuple(replace(axis, tile=1) for axis in view.axes))
    return None if found is None or any(map(any, (ends[: view.main] for ends in found))) else found


@lru_cache(maxsize=256)
def _along(conjuncts: tuple[Expr, ...], axes: tuple[Axis, ...]) -> Halo | None:
    """The halo along all axes, those of classes too. It does not depend on the tile sizes."""
    main = next(axis for axis in axes if axis.length is None)
    usable = [conjunct for conjunct in conjuncts if _of_positions(conjunct) and not _moves(conjunct, main.stride)]
    if not usable:
        return None
    classifier = Classifier((constructors.conjunction(*usable),), CallShape(0, 0), {}, reach=2 * _FAR)
    ends: list[tuple[int, int]] = []
    for place in range(len(axes)):
        own = _ends(classifier, axes, place)
        if own is None:
            return None
        ends.append(own)
    before, after = zip(*ends, strict=True)
    return Halo(before, after)


def _of_positions(conjunct: Expr) -> bool:
    return not any(
        isinstance(node, Entry | Member) or node in (N, HEAD, HEADS) or is_opaque(node) for node in walk(conjunct)
    )


def _moves(conjunct: Expr, stride: int) -> bool:
    divisor = shift_divisor(conjunct)
    return divisor is None or stride % divisor != 0


def _ends(classifier: Classifier, axes: Sequence[Axis], place: int) -> tuple[int, int] | None:
    """The halo along one axis, over all coordinates along the others; None if it is too wide.

    Along the main axis, one query is examined instead of all, because the conditions are invariant under shifts.
    """
    length = axes[place].length
    if (length or 0) > _LONGEST:
        return None
    last = _FAR // axes[place].stride if length is None else length - 1
    at = np.zeros(1, np.int64) if length is None else np.arange(length, dtype=np.int64)
    floor = -last if length is None else 0
    widest = _WIDEST if length is None else min(last, _WIDEST)

    def none_before(reach: int) -> bool:
        return _empty(classifier, axes, place, at, np.full_like(at, floor), at - reach - 1)

    def none_after(reach: int) -> bool:
        return _empty(classifier, axes, place, at, at + reach + 1, np.full_like(at, last))

    before = _least(none_before, widest)
    after = None if before is None else _least(none_after, widest)
    return None if before is None or after is None else (before, after)


def _least(holds: Callable[[int], bool], widest: int) -> int | None:
    """The least number up to ``widest`` for which a monotone property holds, by bisection; None if there is none."""
    if not holds(widest):
        return None
    low, high = -1, widest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _empty(
    classifier: Classifier,
    axes: Sequence[Axis],
    place: int,
    at: np.ndarray[tuple[int], np.dtype[np.int64]],
    low: np.ndarray[tuple[int], np.dtype[np.int64]],
    high: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> bool:
    """Whether the conditions exclude all pairs of a query at coordinate ``at`` and a key in ``low .. high``."""
    some = low <= high
    if not some.any():
        return True
    at, low, high = at[some], low[some], high[some]
    query, key = [DigitRange(axes[place].stride, at, at)], [DigitRange(axes[place].stride, low, high)]
    nought = np.zeros_like(at)
    for other, axis in enumerate(axes):
        if other != place:
            last = _FAR // axis.stride if axis.length is None else axis.length - 1
            query.append(DigitRange(axis.stride, nought, nought if axis.length is None else nought + last))
            key.append(DigitRange(axis.stride, nought - last if axis.length is None else nought, nought + last))
    return bool((classifier.classify(Boxes(tuple(query), tuple(key), nought)) == EMPTY).all())
