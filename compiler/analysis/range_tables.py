"""Finds the minimum and the maximum of a table over boxes of indices, many boxes at once.

For a table with one axis, the extrema of overlapping windows are kept (a sparse table), so that any range takes two or
three reads. For a table with more axes, those of aligned blocks are kept: the bounds are exact for aligned boxes, and
may be too wide for others, but not too narrow.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[Any]
Extrema = tuple[NDArray[Any], NDArray[Any]]

# Windows of 2**4 or more elements start at multiples of 2**4, to keep memory within a few times the table's.
_GRANULE_BITS = 4


class RangeTable:
    """Answers range queries on ``values``, ``[batch, dimensions…]`` or ``[dimensions…]``.

    An index outside the table reads zero. If a range holds NaN, its extrema are NaN.
    """

    def __init__(self, values: NDArray[Any], batched: bool) -> None:
        self._batched = batched
        self._values = values if batched else values[np.newaxis]
        self._windows = _Windows(self._values) if self._values.ndim == 2 else None
        self._blocks = _Blocks(self._values) if self._values.ndim > 2 else None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the table's dimensions, without the batch."""
        return self._values.shape[1:]

    def extrema(self, batch: Integers, low: list[Integers], high: list[Integers]) -> Extrema:
        """The least and the greatest entry in each box.

        ``batch`` is the batch entry of each box ``[boxes]``; ``low`` and ``high`` hold, for each dimension, the first
        and the last index ``[boxes]``.
        """
        row = batch if self._batched else np.zeros_like(batch)
        if not low:
            entry = self._values[row]
            return entry, entry
        zero = np.zeros(batch.shape, self._values.dtype)
        if not self._values.size:
            return zero, zero
        inside, within = [], np.ones(batch.shape, bool)
        outside = np.zeros(batch.shape, bool)
        for first, last, size in zip(low, high, self.sizes, strict=True):
            outside |= (last < 0) | (first >= size)
            within &= (first >= 0) & (last < size)
            inside.append((clipped(first, size), clipped(last, size)))
        if self._windows is not None:
            least, greatest = self._windows.extrema(row, *inside[0])
        else:
            assert self._blocks is not None
            least, greatest = self._blocks.extrema([(row, row), *inside])
        if within.all():
            return least, greatest
        least, greatest = (np.where(outside, zero, bound) for bound in (least, greatest))
        return (
            np.where(within, least, np.minimum(least, zero)),
            np.where(within, greatest, np.maximum(greatest, zero)),
        )


def clipped(index: Integers, size: int) -> NDArray[np.int64]:
    """The index in ``0 .. size - 1`` that is nearest to the given one."""
    return np.minimum(np.maximum(index, 0), size - 1).astype(np.int64, copy=False)


def _exponent(length: NDArray[np.int64]) -> NDArray[np.int64]:
    """The greatest ``e`` with ``2**e <= length``, for lengths from 1."""
    return np.frexp(length.astype(np.float64))[1].astype(np.int64) - 1


class _Windows:
    """Extrema of windows of ``2**level`` elements along the last axis of ``[rows, size]``, built on first use."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._fine: list[Extrema] = [(values, values)]
        self._coarse: list[Extrema] = []

    def extrema(self, row: Integers, low: NDArray[np.int64], high: NDArray[np.int64]) -> Extrema:
        size = self._fine[0][0].shape[1]
        if np.all(low == 0) and np.all(high == size - 1):  # without building any level
            minima, maxima = self._fine[0]
            return minima.min(1)[row], maxima.max(1)[row]
        level = _exponent(high - low + 1)
        present = np.unique(level)
        if len(present) == 1:
            return self._at_level(int(present[0]), row, low, high)
        least = np.empty(low.shape, self._fine[0][0].dtype)
        greatest = least.copy()
        for value in present:
            chosen = np.flatnonzero(level == value)
            bounds = self._at_level(int(value), row[chosen], low[chosen], high[chosen])
            least[chosen], greatest[chosen] = bounds
        return least, greatest

    def _at_level(self, level: int, row: Integers, low: NDArray[np.int64], high: NDArray[np.int64]) -> Extrema:
        """The extrema of ranges whose lengths are all from ``2**level`` to ``2**(level + 1) - 1``."""
        if level < _GRANULE_BITS:
            minima, maxima = self._level(self._fine, level)
            left, right = low, high - (1 << level) + 1
            return (
                np.minimum(minima[row, left], minima[row, right]),
                np.maximum(maxima[row, left], maxima[row, right]),
            )
        low, high = low >> _GRANULE_BITS, high >> _GRANULE_BITS
        # Rounded outwards, a range can be longer than two windows of this level; it is then covered by three.
        level -= _GRANULE_BITS
        if not self._coarse:
            self._coarse.append(_halve_often(self._fine[0], _GRANULE_BITS))
        minima, maxima = self._level(self._coarse, level)
        left, right = low, high - (1 << level) + 1
        middle = np.minimum(left + (1 << level), right)
        return (
            np.minimum(np.minimum(minima[row, left], minima[row, middle]), minima[row, right]),
            np.maximum(np.maximum(maxima[row, left], maxima[row, middle]), maxima[row, right]),
        )

    @staticmethod
    def _level(levels: list[Extrema], level: int) -> Extrema:
        while len(levels) <= level:
            minima, maxima = levels[-1]
            step = 1 << (len(levels) - 1)
            levels.append(
                (
                    np.minimum(minima[:, :-step], minima[:, step:]),
                    np.maximum(maxima[:, :-step], maxima[:, step:]),
                )
            )
        return levels[level]


def boxes_by_level(ranges: list[tuple[Integers, Integers]]) -> Iterator[tuple[tuple[int, ...], Integers]]:
    """Yields groups of boxes of similar size: the exponents of their lengths along each axis, and their numbers."""
    level = np.stack([_exponent(high - low + 1) for low, high in ranges])
    # One number for each combination of levels.
    combined = np.ravel_multi_index(tuple(level), (64,) * len(ranges)) if len(ranges) <= 10 else None
    if combined is None or not len(combined):
        groups = [np.array([box]) for box in range(level.shape[1])]
    else:
        _, inverse = np.unique(combined, return_inverse=True)
        groups = [np.flatnonzero(inverse == group) for group in range(int(inverse.max()) + 1)]
    for group in groups:
        yield tuple(int(value) for value in level[:, group[0]]), group


def covering_blocks(level: tuple[int, ...], ranges: list[tuple[Integers, Integers]]) -> Iterator[tuple[Integers, ...]]:
    """Yields the indices of aligned blocks of ``2**level`` that together cover boxes of that level.

    Each item has one block for each box; a box that touches fewer blocks than others gets some of them repeatedly.
    """
    candidates = []
    for bits, (low, high) in zip(level, ranges, strict=True):
        first, last = low >> bits, high >> bits
        # A range shorter than 2**(bits + 1) meets at most three aligned blocks of 2**bits.
        middle = np.minimum(first + 1, last)
        blocks = [first]
        if (middle != first).any():
            blocks.append(middle)
        if (last != middle).any():
            blocks.append(last)
        candidates.append(blocks)
    yield from itertools.product(*candidates)


class _Blocks:
    """Extrema of aligned blocks of ``2**level`` elements along each axis, built on first use."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._levels: dict[tuple[int, ...], Extrema] = {(0,) * values.ndim: (values, values)}

    def extrema(self, ranges: list[tuple[Integers, Integers]]) -> Extrema:
        axes = len(ranges)
        base = self._levels[(0,) * axes][0]
        least = np.empty(len(ranges[0][0]), base.dtype)
        greatest = least.copy()
        for shape, group in boxes_by_level(ranges):
            bounds = self._group(shape, [(low[group], high[group]) for low, high in ranges])
            least[group], greatest[group] = bounds
        return least, greatest

    def _group(self, level: tuple[int, ...], ranges: list[tuple[Integers, Integers]]) -> Extrema:
        minima, maxima = self._level(level)
        least: NDArray[Any] | None = None
        greatest: NDArray[Any] | None = None
        for corner in covering_blocks(level, ranges):
            low_entry, high_entry = minima[corner], maxima[corner]
            least = low_entry if least is None else np.minimum(least, low_entry)
            greatest = high_entry if greatest is None else np.maximum(greatest, high_entry)
        assert least is not None
        assert greatest is not None
        return least, greatest

    def _level(self, level: tuple[int, ...]) -> Extrema:
        if level not in self._levels:
            axis = int(np.argmax(level))
            finer = self._level((*level[:axis], level[axis] - 1, *level[axis + 1 :]))
            self._levels[level] = _halve(finer, axis)
        return self._levels[level]


def _halve(extrema: Extrema, axis: int) -> Extrema:
    """The extrema of pairs of neighbours along ``axis``; an odd element at the end stays single."""
    minima, maxima = (np.moveaxis(values, axis, 0) for values in extrema)
    even = len(minima) // 2 * 2
    halved = [np.minimum(minima[:even:2], minima[1:even:2]), np.maximum(maxima[:even:2], maxima[1:even:2])]
    if even < len(minima):
        halved = [np.concatenate([part, values[even:]]) for part, values in zip(halved, (minima, maxima), strict=True)]
    return np.moveaxis(halved[0], 0, axis), np.moveaxis(halved[1], 0, axis)


def _halve_often(extrema: Extrema, times: int) -> Extrema:
    for _ in range(times):
        extrema = _halve(extrema, 1)
    return extrema
