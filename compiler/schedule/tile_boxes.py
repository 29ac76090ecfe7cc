"""Boxes of tiles: how the pairs of one launch are cut into them, and a box into smaller ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..analysis import BoundTable, Boxes
from ..ir import HEAD, CallShape, Expr, Q, tables_read, walk
from ..plan import PARTIAL
from .tile_ranges import Numbers, Open, TileRanges


@dataclass(frozen=True)
class TileBoxes:
    """Boxes of tiles, ``query_low .. query_high`` by ``key_low .. key_high``, both included, of one slot each.

    Slots are numbered ``batch slot * head slots + head slot``. All arrays are ``[boxes]``.
    """

    slot: Numbers
    query_low: Numbers
    query_high: Numbers
    key_low: Numbers
    key_high: Numbers
    kind: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def single(self) -> NDArray[np.bool_]:
        """Whether a box is one tile."""
        return np.asarray((self.query_low == self.query_high) & (self.key_low == self.key_high))

    def take(self, chosen: NDArray[np.bool_] | Numbers | slice) -> TileBoxes:
        return TileBoxes(*(values[chosen] for values in self._columns()))

    def of_kind(self, kind: NDArray[Any]) -> TileBoxes:
        """The same boxes, of other kinds."""
        return replace(self, kind=kind.astype(np.uint8))

    @staticmethod
    def joined(parts: Sequence[TileBoxes]) -> TileBoxes:
        columns = [np.concatenate(column) for column in zip(*(part._columns() for part in parts), strict=True)]
        return TileBoxes(*columns)

    @staticmethod
    def product(slots: int, queries: Sequence[tuple[int, int]], keys: Sequence[tuple[int, int]]) -> TileBoxes:
        """Every range of query tiles with every range of key tiles, in every slot."""
        corners = np.array([(*query, *key) for query in queries for key in keys], np.int64).reshape(-1, 4)
        slot = np.repeat(np.arange(slots, dtype=np.int64), len(corners))
        low, high, key_low, key_high = np.tile(corners, (slots, 1)).T
        return TileBoxes(slot, low, high, key_low, key_high, np.full(len(slot), PARTIAL, np.uint8))

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.slot, self.query_low, self.query_high, self.key_low, self.key_high, self.kind


@dataclass(frozen=True)
class Slots:
    """Batch entries and heads that are looked at apart. ``heads``: the head of each head slot; None for any head."""

    batch: int
    heads: tuple[int, ...] | None

    @property
    def head_slots(self) -> int:
        return 1 if self.heads is None else len(self.heads)

    @property
    def count(self) -> int:
        return self.batch * self.head_slots

    def with_(self, other: Slots) -> Slots:
        """Fine enough for both."""
        return Slots(max(self.batch, other.batch), other.heads if self.heads is None else self.heads)


@dataclass(frozen=True)
class Space:
    """The tiles of both sides, and how a box of them reads as digits."""

    query: TileRanges
    key: TileRanges
    slots: Slots

    @property
    def start(self) -> TileBoxes:
        """Everything."""
        return TileBoxes.product(self.slots.count, self.query.start, self.key.start)

    def read(self, boxes: TileBoxes) -> tuple[Boxes, NDArray[np.bool_]]:
        """The positions of each box, and whether it has any."""
        query = self.query.read(boxes.query_low, boxes.query_high, boxes.slot)
        key = self.key.read(boxes.key_low, boxes.key_high, boxes.slot)
        heads = self.slots.heads
        head = None if heads is None else np.array(heads, np.int64)[boxes.slot % len(heads)]
        found = Boxes(query.digits, key.digits, boxes.slot // self.slots.head_slots, head)
        return found, query.present & key.present


def slots(
    condition: Expr, extent: CallShape, tables: Mapping[str, BoundTable], heads: tuple[int, ...] | None = None
) -> Slots:
    """The entries of the batch and the heads for which a condition may differ. ``heads``: those of the kernel."""
    nodes = set(walk(condition))
    batch = 1
    for name in tables_read(condition):
        contents = tables[name].contents
        if contents.batched and contents.values is not None:
            batch = max(batch, len(contents.values))
    if extent.q_start is not None and len(set(extent.q_start)) > 1 and Q in nodes:
        batch = max(batch, len(extent.q_start))
    if HEAD not in nodes:
        return Slots(batch, None)
    return Slots(batch, tuple(range(extent.heads)) if heads is None else heads)


@dataclass(frozen=True)
class Cut:
    """How boxes are cut that are more than a tile: both sides in about four, or the one side that is open in more."""

    boxes: TileBoxes
    query: Open
    key: Open
    query_bits: Numbers
    key_bits: Numbers
    query_count: Numbers
    key_count: Numbers

    @property
    def count(self) -> int:
        """Pieces in all."""
        return int((self.query_count * self.key_count).sum())

    @property
    def pieces(self) -> TileBoxes:
        count = self.query_count * self.key_count
        source = np.repeat(np.arange(len(self.boxes)), count)
        piece = np.arange(len(source)) - (np.cumsum(count) - count)[source]
        whole, width = self.boxes.take(source), self.key_count[source]
        queries = _cut(whole.query_low, whole.query_high, self.query, self.query_bits, source, piece // width)
        keys = _cut(whole.key_low, whole.key_high, self.key, self.key_bits, source, piece % width)
        return TileBoxes(whole.slot, *queries, *keys, whole.kind)


def cut(space: Space, boxes: TileBoxes) -> Cut:
    query, key = space.query.open(boxes.query_low, boxes.query_high), space.key.open(boxes.key_low, boxes.key_high)
    both = (query.length > 1) & (key.length > 1)
    (query_bits, query_count), (key_bits, key_count) = _pieces(query, both), _pieces(key, both)
    return Cut(boxes, query, key, query_bits, key_bits, query_count, key_count)


def split(space: Space, boxes: TileBoxes) -> TileBoxes:
    return cut(space, boxes).pieces


def _pieces(axis: Open, both: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """The bits of a coordinate that a piece keeps open, and how many pieces of the axis there are."""
    length_bits = np.frexp((axis.length - 1).astype(np.float64))[1].astype(np.int64)
    bits = np.maximum(length_bits - np.where(both, 2, 4), 0)
    return bits, ((axis.first + axis.length - 1) >> bits) - (axis.first >> bits) + 1


def _cut(
    low: Numbers, high: Numbers, axis: Open, bits: Numbers, source: Numbers, piece: Numbers
) -> tuple[Numbers, Numbers]:
    """The piece so numbered of each range, along multiples of ``2**bits`` coordinates; all of it where it is closed."""
    first, unit, bits, length = axis.first[source], axis.unit[source], bits[source], axis.length[source]
    last = first + length - 1
    number = (first >> bits) + piece
    begin, end = np.maximum(first, number << bits), np.minimum(last, (number + 1 << bits) - 1)
    opened = length > 1
    return (
        np.where(opened, low + (begin - first) * unit, low),
        np.where(opened, low + (end - first + 1) * unit - 1, high),
    )
