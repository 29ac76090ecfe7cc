"""Reads a Schedule: which runs of tiles of the other side one tile visits, for one batch entry and head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..plan import Bounds, KernelSchedule, Listing, Order, TileCount
from .tile_positions import tokens_of


class Slot(NamedTuple):
    """A batch entry, and the place of a head among the heads of its kernel."""

    batch: int
    place: int

    def of(self, held: Bounds | Listing) -> int:
        """The number of this slot among those of some bounds or of a listing."""
        batch = self.batch if held.batch_slots > 1 else 0
        return batch * held.head_slots + (self.place if held.head_slots > 1 else 0)


class Visit(NamedTuple):
    """Tiles ``first .. last - 1`` of the other side, all PARTIAL or all FULL."""

    first: int
    last: int
    kind: int


@dataclass(frozen=True)
class Walked:
    """One side of a segment, its rows or its keys: ``tokens`` tokens in an order."""

    order: Order
    listing: Listing | None
    tokens: int

    @property
    def tiles(self) -> TileCount:
        return self.order.tiles(self.tokens, self.listing)

    def held(self, first: int, last: int, slot: Slot) -> NDArray[np.int64]:
        """The tokens in tiles ``first .. last - 1``, in the order of their lanes; empty lanes are skipped."""
        listed = None if self.listing is None else self.listing.tokens[slot.of(self.listing)]
        lanes = tokens_of(self.order, listed, np.arange(first, last), self.tokens).reshape(-1)
        return lanes[lanes >= 0]


def visits(bounds: Bounds, slot: Slot, tile: int, own: TileCount, other: TileCount) -> Iterator[Visit]:
    """Yields the tiles that one tile visits, run by run, clipped to the existing tiles."""
    base, limit, along = 0, other.total, tile
    if bounds.aligned:
        of_class, along = divmod(tile, own.per_class)
        base, limit = of_class * other.per_class, other.per_class
    row = slot.of(bounds) * bounds.period + along % bounds.period
    move = along // bounds.period * bounds.shift
    runs = bounds.runs
    for run in range(int(runs.pointer[row]), int(runs.pointer[row + 1])):
        start = int(runs.start[run]) + move
        first, last = max(start, 0), min(start + int(runs.length[run]), limit)
        if first < last:
            yield Visit(base + first, base + last, int(runs.kind[run]))


def slot_counts(kernel: KernelSchedule) -> tuple[int, int]:
    """The numbers of batch slots and of head slots that a kernel needs: 1 if all of its bounds and lists are shared."""
    bounds = [held for segment in kernel.segments for held in (segment.by_query, segment.keys)]
    held = [one for one in (*bounds, kernel.rows) if one is not None]
    return max([1, *(one.batch_slots for one in held)]), max([1, *(one.head_slots for one in held)])
