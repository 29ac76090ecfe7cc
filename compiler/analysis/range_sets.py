"""Decides whether sets hold some, or all, of a range of integers, for whole boxes of sets and many boxes at once.

The answers are those that :class:`.range_tables.RangeTable` gives for bitmaps. Here sets are lists of members, and
memory grows with the number of members, not with the universe.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .range_tables import Extrema, Integers, boxes_by_level, clipped, covering_blocks

_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class _Level:
    """The members of aligned blocks of sets, in rising order of ``keys``.

    A key is the number of the block, times the number of distinct members, plus the rank of the member among these.
    ``common`` is a running sum: how many of the keys before each (and, last, of all) are members of every set of their
    block.
    """

    keys: NDArray[np.int64]
    common: NDArray[np.int64]


class MemberTable:
    """Answers range queries on a table of sets that are lists of members.

    ``values``: members ``[batch, dimensions…, slots]`` or ``[dimensions…, slots]``, in rising order; negative ones are
    unused slots.
    """

    def __init__(self, values: NDArray[Any], batched: bool) -> None:
        self._batched = batched
        values = values if batched else values[np.newaxis]
        self._shape = values.shape[:-1]
        rows = values.reshape(-1, values.shape[-1])
        kept = rows >= 0
        kept[:, 1:] &= rows[:, 1:] != rows[:, :-1]
        owner, slot = np.nonzero(kept)
        self._members, self._ranks = np.unique(rows[owner, slot].astype(np.int64), return_inverse=True)
        self._owners = np.unravel_index(owner, self._shape)
        self._levels: dict[tuple[int, ...], _Level] = {}

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the table's dimensions, without the batch, then the size of the universe."""
        return (*self._shape[1:], int(self._members[-1]) + 1 if len(self._members) else 1)

    def extrema(self, batch: Integers, low: list[Integers], high: list[Integers]) -> Extrema:
        """Two answers for each box: whether every set in it holds every integer of a range, and whether any holds any.

        ``batch`` is the batch entry of each box ``[boxes]``; ``low`` and ``high`` hold the first and the last index for
        each dimension, then the least and the greatest integer of the range, each ``[boxes]``. Indices outside the
        table stand for empty sets.
        """
        row = batch if self._batched else np.zeros_like(batch)
        never = np.zeros(batch.shape, bool)
        if not prod(self._shape):
            return never, never
        sets, within, outside = [(row, row)], ~never, never.copy()
        for first, last, size in zip(low[:-1], high[:-1], self._shape[1:], strict=True):
            outside |= (last < 0) | (first >= size)
            within &= (first >= 0) & (last < size)
            sets.append((clipped(first, size), clipped(last, size)))
        least, greatest = clipped(low[-1], _LARGEST), clipped(high[-1], _LARGEST)
        every, some = np.empty_like(never), np.empty_like(never)
        for level, group in boxes_by_level(sets):
            ranges = [(first[group], last[group]) for first, last in sets]
            every[group], some[group] = self._group(level, ranges, least[group], greatest[group])
        within &= (low[-1] >= 0) & (high[-1] < _LARGEST)
        return every & within, some & ~outside & (high[-1] >= 0)

    def _group(
        self, level: tuple[int, ...], sets: list[tuple[Integers, Integers]], least: Integers, greatest: Integers
    ) -> Extrema:
        held = self._level(level)
        start, end = np.searchsorted(self._members, least, "left"), np.searchsorted(self._members, greatest, "right")
        every, some = np.ones(least.shape, bool), np.zeros(least.shape, bool)
        for corner in covering_blocks(level, sets):
            block = np.ravel_multi_index(corner, self._counts(level)) * len(self._members)
            first, last = np.searchsorted(held.keys, block + start), np.searchsorted(held.keys, block + end)
            some |= last > first
            every &= held.common[last] - held.common[first] - 1 == greatest - least
        return every, some

    def _counts(self, level: tuple[int, ...]) -> tuple[int, ...]:
        """The number of blocks of a level along each axis."""
        return tuple(-(-size >> bits) for size, bits in zip(self._shape, level, strict=True))

    def _level(self, level: tuple[int, ...]) -> _Level:
        if level not in self._levels:
            places = tuple(owner >> bits for owner, bits in zip(self._owners, level, strict=True))
            block = np.ravel_multi_index(places, self._counts(level))
            keys, sets = np.unique(block * len(self._members) + self._ranks, return_counts=True)
            inside = np.ones(len(keys), np.int64)
            places = np.unravel_index(keys // max(len(self._members), 1), self._counts(level))
            for place, bits, size in zip(places, level, self._shape, strict=True):
                inside *= np.minimum(1 << bits, size - (place << bits))
            self._levels[level] = _Level(keys, np.concatenate([[0], np.cumsum(sets == inside)]))
        return self._levels[level]
