"""Ranges of tiles, and the positions of their tokens as digits.

The number of a tile has a digit for each axis of the order. In a *range* of tiles, some leading digits are fixed, the
next one (the open axis) lies between two bounds, and the remaining ones have all values. So the tiles of a range have
consecutive numbers, and cutting a range at its open axis gives ranges again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..analysis import DigitRange
from ..plan import Axis, View

Numbers = NDArray[np.int64]


class Reading(NamedTuple):
    """The positions of the tokens in some ranges of tiles, as sums of digits, of which the last counts lanes.

    ``present``: whether each range has a token.
    """

    digits: tuple[DigitRange, ...]
    present: NDArray[np.bool_]


class Open(NamedTuple):
    """The open axis of each range: ``length`` coordinates, beginning with ``first``, that are ``unit`` tiles apart."""

    unit: Numbers
    first: Numbers
    length: Numbers


class TileRanges(Protocol):
    """The tiles of one side, rows or keys, addressed by ranges."""

    @property
    def start(self) -> list[tuple[int, int]]:
        """Ranges that together hold all tiles: the first and the last tile of each."""

    @property
    def tile(self) -> int:
        """The number of lanes of a tile."""

    def read(self, low: Numbers, high: Numbers, slot: Numbers) -> Reading:
        """The positions in the ranges ``low .. high`` (included), each in its slot (a batch entry and a head)."""

    def open(self, low: Numbers, high: Numbers) -> Open:
        """The open axis of each range, along which it can be cut."""


class Counted(NamedTuple):
    """An axis and the number of its tiles; None if they are endless in both directions."""

    axis: Axis
    tiles: int | None


@dataclass(frozen=True)
class ViewRanges:
    """The tiles of a view of ``tokens`` tokens (None: endlessly many), addressed by ranges.

    Only the first axis may be endless. The axes may be only some of a view's, such as those of one class.
    """

    axes: tuple[Counted, ...]
    offset: int
    tokens: int | None

    @staticmethod
    def whole(view: View, tokens: int) -> ViewRanges:
        """All tiles of a view of ``tokens`` tokens."""
        main = view.main_tiles(tokens)
        axes = tuple(Counted(axis, main if axis.length is None else axis.tiles) for axis in view.axes)
        return ViewRanges(axes, view.offset, tokens)

    @property
    def tile(self) -> int:
        return prod(axis.tile for axis, _ in self.axes)

    @property
    def units(self) -> list[int]:
        """The distance of neighbours along each axis, in tiles."""
        return [prod(tiles or 1 for _, tiles in self.axes[place + 1 :]) for place in range(len(self.axes))]

    @property
    def start(self) -> list[tuple[int, int]]:
        """One range, or two if the first axis is the main one: tiles that extend past the last token are separate."""
        first = self.axes[0]
        if first.tiles is None or self.tokens is None:
            raise ValueError("an order without end has no start")
        total, unit = first.tiles * self.units[0], self.units[0]
        if not total:
            return []
        step = first.axis.stride * first.axis.tile
        hangs = first.axis.length is None and self.offset + first.tiles * step > self.tokens
        cut = total - unit if hangs and first.tiles > 1 else 0
        return [(0, cut - 1), (cut, total - 1)] if cut else [(0, total - 1)]

    def read(self, low: Numbers, high: Numbers, slot: Numbers) -> Reading:
        del slot  # all slots have the same tokens
        digits = [] if not self.offset else [_fixed(1, np.full_like(low, self.offset))]
        for (axis, tiles), unit in zip(self.axes, self.units, strict=True):
            first, last = low // unit, high // unit
            if tiles is not None:
                first, last = first % max(tiles, 1), last % max(tiles, 1)
            digits += _along(axis, first, last)
        if self.tokens is None:
            return Reading(tuple(digits), np.ones(len(low), bool))
        return _clipped(digits, self.tokens)

    def open(self, low: Numbers, high: Numbers) -> Open:
        unit, length = np.ones_like(low), np.ones_like(low)
        first = low.copy()
        for (_, tiles), width in zip(reversed(self.axes), reversed(self.units), strict=True):
            a, b = low // width, high // width
            if tiles is not None:
                a, b = a % max(tiles, 1), b % max(tiles, 1)
            wide = a != b
            unit, first, length = (
                np.where(wide, width, unit),
                np.where(wide, a, first),
                np.where(wide, b - a + 1, length),
            )
        return Open(unit, first, length)


@dataclass(frozen=True)
class ListRanges:
    """The tiles of lists of rising positions; a range is taken to hold all positions between its first and its last."""

    values: NDArray[np.int64]  # [list slots, length]
    counts: Numbers  # [list slots]
    list_of: Numbers  # [slots]: the number of each slot's list
    tile: int

    @property
    def start(self) -> list[tuple[int, int]]:
        tiles = -(-self.values.shape[1] // self.tile)
        return [(0, tiles - 1)] if tiles else []

    def read(self, low: Numbers, high: Numbers, slot: Numbers) -> Reading:
        held = self.list_of[slot]
        first, last = low * self.tile, np.minimum((high + 1) * self.tile, self.counts[held]) - 1
        present = first <= last
        first, last = np.where(present, first, 0), np.where(present, last, 0)
        return Reading((DigitRange(1, self.values[held, first], self.values[held, last]),), present)

    def open(self, low: Numbers, high: Numbers) -> Open:
        return Open(np.ones_like(low), low, high - low + 1)


def _fixed(stride: int, value: Numbers) -> DigitRange:
    return DigitRange(stride, value, value)


def _along(axis: Axis, first: Numbers, last: Numbers) -> list[DigitRange]:
    """The coordinates in tiles ``first .. last`` of an axis: digits of tile and lane, or one digit for both."""
    lanes = axis.tile - 1
    if axis.length is not None:
        low, high = first * axis.tile, np.minimum(last * axis.tile + lanes, axis.length - 1)
        return [_one(axis.stride, low, high)]
    whole = _one(axis.stride * axis.tile, first, last)
    return [whole, DigitRange(axis.stride, np.zeros_like(first), np.full_like(first, lanes))] if lanes else [whole]


def _one(stride: int, low: Numbers, high: Numbers) -> DigitRange:
    """A digit. If it is constant in every box, both bounds are the same array, by which the classifier sees this."""
    return DigitRange(stride, low, low if np.array_equal(low, high) else high)


def _clipped(digits: Sequence[DigitRange], tokens: int) -> Reading:
    """The digits without values that are past the last token even if all other digits are at their least."""
    if not digits:
        return Reading((), np.ones(0, bool))
    least: Numbers = np.asarray(sum(digit.stride * digit.low for digit in digits))
    present = least < tokens
    if present.all() and np.all(sum(digit.stride * digit.high for digit in digits) < tokens):
        return Reading(tuple(digits), present)
    kept = []
    for stride, low, high in digits:
        most = np.maximum(low + (tokens - 1 - least) // stride, low)
        kept.append(_one(stride, low, np.minimum(high, most)))
    return Reading(tuple(kept), present)
