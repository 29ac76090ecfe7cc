"""Boxes of tiles, which are ranges of query tiles by ranges of key tiles, and how they are cut into smaller boxes."""

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
    """Boxes of tiles: ``query_low .. query_high`` by ``key_low .. key_high``, both ends included, in one slot each.

    The number of a slot is ``batch slot * head slots + head slot``. All arrays are ``[boxes]``.
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
        """Whether each box is one query tile by one key tile."""
        return np.asarray((self.query_low == self.query_high) & (self.key_low == self.key_high))

    def take(self, chosen: NDArray[np.bool_] | Numbers | slice) -> TileBoxes:
        return TileBoxes(*(values[chosen] for values in self._columns()))

    def of_kind(self, kind: NDArray[Any]) -> TileBoxes:
        """The same boxes with other kinds."""
        return replace(self, kind=kind.astype(np.uint8))

    @staticmethod
    def joined(parts: Sequence[TileBoxes]) -> TileBoxes:
        columns = [np.concatenate(column) for column in zip(*(part._columns() for part in parts), strict=True)]
        return TileBoxes(*columns)

    @staticmethod
    def product(slots: int, queries: Sequence[tuple[int, int]], keys: Sequence[tuple[int, int]]) -> TileBoxes:
        """Every range of query tiles by every range of key tiles, in every slot; all PARTIAL."""
        corners = np.array([(*query, *key) for query in queries for key in keys], np.int64).reshape(-1, 4)
        slot = np.repeat(np.arange(slots, dtype=np.int64), len(corners))
        low, high, key_low, key_high = np.tile(corners, (slots, 1)).T
        return TileBoxes(slot, low, high, key_low, key_high, np.full(len(slot), PARTIAL, np.uint8))

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.slot, self.query_low, self.query_high, self.key_low, self.key_high, self.kind


@dataclass(frozen=True)
class Slots:
    """Which batch entries and heads have runs of their own; a slot is one of those entries with one of those heads.

    ``batch``: the number of batch entries, 1 if all share their runs; ``heads``: the heads, None if all share them.
    """

    batch: int
    heads: tuple[int, ...] | None

    @property
    def head_slots(self) -> int:
        return 1 if self.heads is None else len(self.heads)

    @property
    def count(self) -> int:
        return self.batch * self.head_slots

    def with_(self, other: Slots) -> Slots:
        """The slots that distinguish batch entries, and heads, wherever one of the two does."""
        return Slots(max(self.batch, other.batch), other.heads if self.heads is None else self.heads)


@dataclass(frozen=True)
class Space:
    """The query tiles and the key tiles of a launch, in the slots; :meth:`read` says which positions a box of them has.

    Positions are sums of digits, as :mod:`.tile_ranges` and :class:`compiler.analysis.classify.Boxes` have them.
    """

    query: TileRanges
    key: TileRanges
    slots: Slots

    @property
    def start(self) -> TileBoxes:
        """Boxes that together hold all tiles."""
        return TileBoxes.product(self.slots.count, self.query.start, self.key.start)

    def read(self, boxes: TileBoxes) -> tuple[Boxes, NDArray[np.bool_]]:
        """The positions in each box as digits, and whether it has tokens on both sides."""
        query = self.query.read(boxes.query_low, boxes.query_high, boxes.slot)
        key = self.key.read(boxes.key_low, boxes.key_high, boxes.slot)
        heads = self.slots.heads
        head = None if heads is None else np.array(heads, np.int64)[boxes.slot % len(heads)]
        found = Boxes(query.digits, key.digits, boxes.slot // self.slots.head_slots, head)
        return found, query.present & key.present


def slots(
    condition: Expr, extent: CallShape, tables: Mapping[str, BoundTable], heads: tuple[int, ...] | None = None
) -> Slots:
    """The slots that a condition needs: it may differ by batch entry through tables and ``q_start``, and by head.

    ``heads``: those of the kernel, None for all.
    """
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
    """How boxes are cut: both sides into about 4 pieces or, if only one has several tiles, that one into about 16."""

    boxes: TileBoxes
    query: Open
    key: Open
    query_bits: Numbers
    key_bits: Numbers
    query_count: Numbers
    key_count: Numbers

    @property
    def count(self) -> int:
        """The number of pieces in all."""
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
    """The size of the pieces, which are ``2**bits`` coordinates long, and the number of pieces along the axis."""
    length_bits = np.frexp((axis.length - 1).astype(np.float64))[1].astype(np.int64)
    bits = np.maximum(length_bits - np.where(both, 2, 4), 0)
    return bits, ((axis.first + axis.length - 1) >> bits) - (axis.first >> bits) + 1


def _cut(
    low: Numbers, high: Numbers, axis: Open, bits: Numbers, source: Numbers, piece: Numbers
) -> tuple[Numbers, Numbers]:
    """Piece number ``piece`` of each range, cut at multiples of ``2**bits`` coordinates; the whole range if not cut."""
    first, unit, bits, length = axis.first[source], axis.unit[source], bits[source], axis.length[source]
    last = first + length - 1
    number = (first >> bits) + piece
    begin, end = np.maximum(first, number << bits), np.minimum(last, (number + 1 << bits) - 1)
    opened = length > 1
    return (
        np.where(opened, low + (begin - first) * unit, low),
        np.where(opened, low + (end - first + 1) * unit - 1, high),
    )
