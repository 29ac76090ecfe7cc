"""Lists the tiles that each segment of a program visits for one head, in the order in which kernels visit them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ..compiler.plan import FULL, Kernel, Program, Schedule, Segment, SegmentSchedule, is_natural
from ..compiler.schedule import Slot, Walked, visited, visits
from .picture import Tile, Visits

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class SegmentTiles:
    """One segment of a kernel for one head of the first batch entry; ``kernel_number`` is the kernel's index in the
    program.
    """

    kernel_number: int
    kernel: Kernel
    segment: Segment
    bounds: SegmentSchedule
    rows: Walked
    keys: Walked
    slot: Slot

    def order(self) -> tuple[Numbers, Numbers]:
        """The query rows and the keys, each in the order in which they are walked."""
        return tuple(side.held(0, side.tiles.total, self.slot) for side in (self.rows, self.keys))  # type: ignore[return-value]

    def counts(self) -> tuple[int, int]:
        """The numbers of full and of partial tiles."""
        found = visited(self.bounds.by_query, self.rows.tiles, self.keys.tiles)
        place = self.slot.of(self.bounds.by_query)
        return int(found.full[place]), int(found.partial[place])

    def tiles(self) -> Iterator[Tile]:
        """Yields the visited tiles as rectangles over rows and keys in walking order."""
        return self._rectangles(lambda first, last: ((column, column + 1) for column in range(first, last)))

    def runs(self) -> Iterator[Tile]:
        """As :meth:`tiles`, with each run of neighbouring tiles of one kind as one rectangle."""
        return self._rectangles(lambda first, last: ((first, last),))

    def _rectangles(self, parts: Callable[[int, int], Iterable[tuple[int, int]]]) -> Iterator[Tile]:
        down, across = self._edges(self.rows), self._edges(self.keys)
        for tile in range(self.rows.tiles.total):
            for first, last, kind in self._visits(tile):
                for left, right in parts(first, last):
                    if down[tile] < down[tile + 1] and across[left] < across[right]:
                        yield Tile(down[tile], across[left], down[tile + 1], across[right], kind == FULL)

    def keys_visited(self, places: Numbers) -> NDArray[np.bool_]:
        """Whether the rows at some places visit each key, in any tile: bool ``[places, keys]``.

        A place, of a row or a key, is its index in walking order.
        """
        down, across = self._edges(self.rows), self._edges(self.keys)
        of_row = np.searchsorted(down, places, side="right") - 1
        found = np.zeros((len(places), across[-1]), bool)
        for tile in np.unique(of_row).tolist():
            row = np.zeros(across[-1], bool)
            for first, last, _ in self._visits(tile):
                row[across[first] : across[last]] = True
            found[of_row == tile] = row
        return found

    def kinds(self, rows: Numbers, keys: Numbers) -> NDArray[np.uint8]:
        """The kind of tile that each pair of these rows and keys lies in, EMPTY if in none: ``[rows, keys]``."""
        of_row = self._tile_of(self.rows)[rows]
        found = np.zeros((len(rows), len(keys)), np.uint8)
        for tile in np.unique(of_row[of_row >= 0]).tolist():
            kinds = np.zeros(self.keys.tokens, np.uint8)
            for first, last, kind in self._visits(tile):
                kinds[self.keys.held(first, last, self.slot)] = kind
            found[of_row == tile] = kinds[keys]
        return found

    def _visits(self, tile: int) -> Iterator[tuple[int, int, int]]:
        return visits(self.bounds.by_query, self.slot, tile, self.rows.tiles, self.keys.tiles)

    def _edges(self, side: Walked) -> list[int]:
        lengths = [len(side.held(tile, tile + 1, self.slot)) for tile in range(side.tiles.total)]
        return [0, *accumulate(lengths)]

    def _tile_of(self, side: Walked) -> Numbers:
        """The tile of every token, -1 for a token that is in none."""
        found = np.full(side.tokens, -1)
        for tile in range(side.tiles.total):
            found[side.held(tile, tile + 1, self.slot)] = tile
        return found


def walks(program: Program, schedule: Schedule, head: int) -> list[SegmentTiles]:
    """The segments that compute one head's rows, in the order of the program."""
    found = []
    for number, (kernel, its) in enumerate(zip(program.kernels, schedule.kernels, strict=True)):
        if kernel.heads is not None and head not in kernel.heads:
            continue
        slot = Slot(0, head if kernel.heads is None else kernel.heads.index(head))
        rows = Walked(kernel.rows, its.rows, schedule.m)
        for segment, bounds in zip(kernel.segments, its.segments, strict=True):
            keys = Walked(segment.keys, bounds.keys, schedule.n)
            found.append(SegmentTiles(number, kernel, segment, bounds, rows, keys, slot))
    return found


def all_natural(segments: Sequence[SegmentTiles]) -> bool:
    """Whether the rows and the keys of all segments are walked in natural order."""
    return all(is_natural(side.order) for walk in segments for side in (walk.rows, walk.keys))


def visits_of_cells(segments: Sequence[SegmentTiles], tops: Numbers, lefts: Numbers) -> Visits:
    """The kind of tile at the middle of each cell, for a picture in natural order; and the numbers of tiles.

    Cells begin at the rows ``tops`` and the keys ``lefts``; the last entry of each is where the last cell ends.
    """
    rows, keys = tops[:-1], (lefts[:-1] + lefts[1:]) // 2
    kinds = np.zeros((len(rows), len(keys)), np.uint8)
    for walk in segments:
        kinds = np.maximum(kinds, walk.kinds(rows, keys))  # FULL in one segment is drawn as FULL
    full, partial = np.sum([walk.counts() for walk in segments] or [(0, 0)], axis=0).tolist()
    return Visits(kinds, full, partial)
