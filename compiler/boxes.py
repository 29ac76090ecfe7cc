"""Boxes of tiles: how the pairs of one launch are cut into them, and a box into smaller ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classify import Boxes, DigitRange, TableContents
from .extent import Extent
from .ir import Entry, Expr, Member, Position, walk
from .plan import PARTIAL


@dataclass(frozen=True)
class TileBoxes:
    """Boxes of tiles, ``query_low .. query_high`` by ``key_low .. key_high``, both included, of one slot each.

    Slots are numbered ``batch slot * head slots + head slot``. All arrays are ``[boxes]``.
    """

    slot: NDArray[np.int64]
    query_low: NDArray[np.int64]
    query_high: NDArray[np.int64]
    key_low: NDArray[np.int64]
    key_high: NDArray[np.int64]
    kind: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def area(self) -> NDArray[np.int64]:
        """Tiles in each box."""
        return (self.query_high - self.query_low + 1) * (self.key_high - self.key_low + 1)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64] | slice) -> TileBoxes:
        return TileBoxes(*(values[chosen] for values in self._columns()))

    def of_kind(self, kind: NDArray[Any]) -> TileBoxes:
        """The same boxes, of other kinds."""
        return replace(self, kind=kind.astype(np.uint8))

    def transposed(self) -> TileBoxes:
        """The same boxes with the roles of queries and keys exchanged."""
        return TileBoxes(self.slot, self.key_low, self.key_high, self.query_low, self.query_high, self.kind)

    @staticmethod
    def joined(parts: Sequence[TileBoxes]) -> TileBoxes:
        columns = [np.concatenate(column) for column in zip(*(part._columns() for part in parts), strict=True)]
        return TileBoxes(*columns)

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.slot, self.query_low, self.query_high, self.key_low, self.key_high, self.kind


@dataclass(frozen=True)
class Space:
    """All tiles of one launch, and how a box of them reads as digits."""

    m: int
    n: int
    query_tile: int
    key_tile: int
    batch_slots: int
    head_slots: int

    @property
    def query_tiles(self) -> int:
        return -(-self.m // self.query_tile)

    @property
    def key_tiles(self) -> int:
        return -(-self.n // self.key_tile)

    @property
    def start(self) -> TileBoxes:
        """Everything; a tile that hangs over an edge stands apart from those that do not."""
        queries = _whole_and_edge(self.m, self.query_tile)
        keys = _whole_and_edge(self.n, self.key_tile)
        corners = np.array([(*query, *key) for query in queries for key in keys], np.int64).reshape(-1, 4)
        slots = self.batch_slots * self.head_slots
        slot = np.repeat(np.arange(slots, dtype=np.int64), len(corners))
        columns = np.tile(corners, (slots, 1)).T
        return TileBoxes(slot, columns[0], columns[1], columns[2], columns[3], np.full(len(slot), PARTIAL, np.uint8))

    def read(self, boxes: TileBoxes) -> Boxes:
        """The positions of a box: its tiles, and the lanes of a tile that lie inside the extent."""
        return Boxes(
            query=_digits(boxes.query_low, boxes.query_high, self.query_tile, self.m),
            key=_digits(boxes.key_low, boxes.key_high, self.key_tile, self.n),
            batch=boxes.slot // self.head_slots,
            head=boxes.slot % self.head_slots if self.head_slots > 1 else None,
        )


def tables_read(expr: Expr) -> set[str]:
    """The names of the tables that an expression reads."""
    return {node.table for node in walk(expr) if isinstance(node, Entry | Member)}


def slots(condition: Expr, extent: Extent, tables: Mapping[str, TableContents]) -> tuple[int, int]:
    """How many entries of the batch, and how many heads, need a plan of their own."""
    nodes = set(walk(condition))
    batch = 1
    for name in tables_read(condition):
        contents = tables[name].contents
        if contents.batched and contents.values is not None:
            batch = max(batch, len(contents.values))
    if extent.q_start is not None and len(set(extent.q_start)) > 1 and Position("q") in nodes:
        batch = max(batch, len(extent.q_start))
    return batch, extent.heads if Position("head") in nodes else 1


def _whole_and_edge(length: int, tile: int) -> list[tuple[int, int]]:
    """The tiles that lie inside the length, and the one that sticks out, as ranges; only those that exist."""
    whole = length // tile
    ranges = [(0, whole - 1)] if whole else []
    return [*ranges, (whole, whole)] if length % tile else ranges


def _digits(low: NDArray[np.int64], high: NDArray[np.int64], tile: int, length: int) -> tuple[DigitRange, ...]:
    last_lane = np.minimum(tile - 1, length - 1 - low * tile)
    return DigitRange(tile, low, high), DigitRange(1, np.zeros_like(low), last_lane)


def _pieces(boxes: TileBoxes, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    queries = (boxes.query_high >> bits) - (boxes.query_low >> bits) + 1
    return queries, (boxes.key_high >> bits) - (boxes.key_low >> bits) + 1


def split_count(boxes: TileBoxes, bits: int) -> NDArray[np.int64]:
    """Into how many :func:`split` would cut each box."""
    queries, keys = _pieces(boxes, bits)
    return queries * keys


def split(boxes: TileBoxes, bits: int) -> TileBoxes:
    """Cut along multiples of ``2**bits`` tiles on both sides."""
    _, keys = _pieces(boxes, bits)
    count = split_count(boxes, bits)
    source = np.repeat(np.arange(len(boxes)), count)
    offset = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
    parents = boxes.take(source)
    query = (parents.query_low >> bits) + offset // keys[source]
    key = (parents.key_low >> bits) + offset % keys[source]
    return TileBoxes(
        parents.slot,
        np.maximum(parents.query_low, query << bits),
        np.minimum(parents.query_high, (query + 1 << bits) - 1),
        np.maximum(parents.key_low, key << bits),
        np.minimum(parents.key_high, (key + 1 << bits) - 1),
        parents.kind,
    )
