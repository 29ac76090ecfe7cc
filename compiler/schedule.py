"""Which key tiles each query tile visits: a Program with lengths and table contents to a Schedule.

Boxes of tiles are classified whole, the largest first; what is partial is split and looked at again, down to single
tiles. The cost follows the boundary of the pattern, not its area. One set of boxes gives both the rows of query tiles
and, with the roles exchanged, the rows of key tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classify import Boxes, Classifier, DigitRange, TableContents
from .extent import Contents, Extent
from .ir import Entry, Expr, Member, Position, walk
from .plan import EMPTY, FULL, PARTIAL, Program, Runs, Schedule

# Each side of a partial box is cut into so many.
_BRANCHING_BITS = 2
# Where a level of the descent would have more boxes, its boxes are called partial as they stand.
_MOST_BOXES = 2**20
# Boxes looked at together: bounds the memory of one look.
_BATCH = 2**15
# Partial tiles that a finer look is tried on, the share of them that it must decide before it is taken at all, and the
# most that it is taken at.
_TRIAL = 64
_WORTHWHILE = 0.05
_MOST_REFINED = 2**16


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

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.slot, self.query_low, self.query_high, self.key_low, self.key_high, self.kind

    def transposed(self) -> TileBoxes:
        """The same boxes with the roles of queries and keys exchanged."""
        return TileBoxes(self.slot, self.key_low, self.key_high, self.query_low, self.query_high, self.kind)

    @staticmethod
    def joined(parts: Sequence[TileBoxes]) -> TileBoxes:
        columns = [np.concatenate(column) for column in zip(*(part._columns() for part in parts), strict=True)]
        return TileBoxes(*columns)


@dataclass(frozen=True)
class _Space:
    """All tiles of one launch, and how a box of them reads as digits."""

    extent: Extent
    query_tile: int
    key_tile: int
    batch_slots: int
    head_slots: int

    @property
    def query_tiles(self) -> int:
        return -(-self.extent.m // self.query_tile)

    @property
    def key_tiles(self) -> int:
        return -(-self.extent.n // self.key_tile)

    @property
    def start(self) -> TileBoxes:
        """Everything; tiles that stick out at an edge stand apart from those that do not."""
        queries = _whole_and_edge(self.extent.m, self.query_tile)
        keys = _whole_and_edge(self.extent.n, self.key_tile)
        corners = np.array([(*query, *key) for query in queries for key in keys], np.int64).reshape(-1, 4)
        slots = self.batch_slots * self.head_slots
        slot = np.repeat(np.arange(slots, dtype=np.int64), len(corners))
        columns = np.tile(corners, (slots, 1)).T
        return TileBoxes(slot, columns[0], columns[1], columns[2], columns[3], np.full(len(slot), PARTIAL, np.uint8))

    def read(self, boxes: TileBoxes) -> Boxes:
        """The positions of a box: its tiles, and the lanes of a tile that lie inside the extent."""
        return Boxes(
            query=_digits(boxes.query_low, boxes.query_high, self.query_tile, self.extent.m),
            key=_digits(boxes.key_low, boxes.key_high, self.key_tile, self.extent.n),
            batch=boxes.slot // self.head_slots,
            head=boxes.slot % self.head_slots if self.head_slots > 1 else None,
        )

    def sticks_out(self, boxes: TileBoxes) -> NDArray[np.bool_]:
        """Whether a tile of the box reaches beyond the last row or key."""
        beyond_rows = (boxes.query_high + 1) * self.query_tile > self.extent.m
        return beyond_rows | ((boxes.key_high + 1) * self.key_tile > self.extent.n)


def schedule(program: Program, extent: Extent, contents: Sequence[Contents]) -> Schedule:
    """Bounds of the program's one segment. ``contents`` stand in the order of ``program.tables``."""
    kernel = program.kernels[0]
    segment = kernel.segments[0]
    tables = {
        str(number): TableContents(*pair) for number, pair in enumerate(zip(program.tables, contents, strict=True))
    }
    batch_slots, head_slots = _slots(segment.condition, extent, tables)
    space = _Space(extent, kernel.rows.tile, segment.keys.tile, batch_slots, head_slots)
    boxes = _descend(Classifier((segment.condition,), extent, tables), space)
    area = boxes.area
    return Schedule(
        n=extent.n,
        m=extent.m,
        query_tile=space.query_tile,
        key_tile=space.key_tile,
        batch_slots=batch_slots,
        head_slots=head_slots,
        by_query=_runs(boxes, space.query_tiles, space),
        by_key=_runs(boxes.transposed(), space.key_tiles, space),
        full=int(area[boxes.kind == FULL].sum()),
        partial=int(area[boxes.kind == PARTIAL].sum()),
    )


def numbered(program: Program, contents: Sequence[Contents]) -> dict[str, TableContents]:
    """The tables under the names that a Program's expressions give them."""
    pairs = zip(program.tables, contents, strict=True)
    return {str(number): TableContents(table, held) for number, (table, held) in enumerate(pairs)}


def schedule_depends(program: Program) -> frozenset[int]:
    """The positions in ``program.tables`` of the tables whose contents decide a schedule."""
    conditions = [segment.condition for kernel in program.kernels for segment in kernel.segments]
    return frozenset(int(name) for condition in conditions for name in _tables_read(condition))


def _tables_read(expr: Expr) -> set[str]:
    return {node.table for node in walk(expr) if isinstance(node, Entry | Member)}


def _slots(condition: Expr, extent: Extent, tables: dict[str, TableContents]) -> tuple[int, int]:
    """How many entries of the batch, and how many heads, need a plan of their own."""
    nodes = set(walk(condition))
    batch = 1
    for name in _tables_read(condition):
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


def _descend(classifier: Classifier, space: _Space) -> TileBoxes:
    """The partial and full boxes of the space, disjoint; a box of several tiles may be partial past the cap."""
    pending = space.start
    found = [pending.take(slice(0))]
    single = [pending.take(slice(0))]
    bits = max(space.query_tiles, space.key_tiles, 1).bit_length()
    bits += -bits % _BRANCHING_BITS
    while len(pending):
        pending = _classified(classifier, space, pending)
        sticks_out = space.sticks_out(pending)
        full = pending.take(pending.kind == FULL)
        found.append(full.of_kind(np.where(sticks_out[pending.kind == FULL], PARTIAL, FULL)))
        partial = pending.take(pending.kind == PARTIAL)
        single.append(partial.take(partial.area == 1))
        pending = partial.take(partial.area > 1)
        while bits and _split_count(pending, bits).sum() == len(pending):
            bits -= _BRANCHING_BITS
        if _split_count(pending, bits).sum() > _MOST_BOXES:
            found.append(pending)
            break
        pending = _split(pending, bits)
    return TileBoxes.joined([*found, _refined(classifier, space, TileBoxes.joined(single))])


def _classified(classifier: Classifier, space: _Space, boxes: TileBoxes) -> TileBoxes:
    """The same boxes with what the pairs inside the extent make of them."""
    parts = [boxes.take(slice(first, first + _BATCH)) for first in range(0, len(boxes), _BATCH)]
    return boxes.of_kind(np.concatenate([classifier.classify(space.read(part)) for part in parts]))


def _refined(classifier: Classifier, space: _Space, tiles: TileBoxes) -> TileBoxes:
    """Partial single tiles, less those that a finer look finds empty; those that it finds full are so called.

    A few are tried first: where the condition is read exactly on whole tiles, a finer look finds nothing.
    """
    if not len(tiles):
        return tiles
    trial = tiles.take(np.unique(np.linspace(0, len(tiles) - 1, _TRIAL).astype(np.int64)))
    decided = _looked_into(classifier, space, trial) != PARTIAL
    if decided.mean() < _WORTHWHILE or len(tiles) > _MOST_REFINED:
        return tiles
    step = _BATCH // 16
    parts = [tiles.take(slice(first, first + step)) for first in range(0, len(tiles), step)]
    tiles = tiles.of_kind(np.concatenate([_looked_into(classifier, space, part) for part in parts]))
    return tiles.take(tiles.kind != EMPTY)


def _looked_into(classifier: Classifier, space: _Space, tiles: TileBoxes) -> NDArray[np.int8]:
    """The kind of each partial tile by those of its parts, cut in four along both sides."""
    whole = space.read(tiles)
    least = np.full(len(tiles), FULL, np.int8)
    greatest = np.full(len(tiles), EMPTY, np.int8)
    for query in range(4):
        for key in range(4):
            rows, row_exists = _quarter(whole.query, query)
            columns, column_exists = _quarter(whole.key, key)
            kind = classifier.classify(Boxes(rows, columns, whole.batch, whole.head))
            exists = row_exists & column_exists
            least = np.where(exists, np.minimum(least, kind), least)
            greatest = np.where(exists, np.maximum(greatest, kind), greatest)
    kind = np.where(greatest == EMPTY, EMPTY, np.where((least == FULL) & ~space.sticks_out(tiles), FULL, PARTIAL))
    return kind.astype(np.int8)


def _quarter(digits: tuple[DigitRange, ...], number: int) -> tuple[tuple[DigitRange, ...], NDArray[np.bool_]]:
    """The lanes of one quarter of each tile, and whether it has any; where it has none, one of another quarter's."""
    *outer, lane = digits
    size = (lane.high.max() + 4) // 4
    low = np.minimum(number * size, lane.high)
    high = np.minimum(number * size + size - 1, lane.high)
    return (*outer, DigitRange(lane.stride, low, high)), number * size <= lane.high


def _pieces(boxes: TileBoxes, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    queries = (boxes.query_high >> bits) - (boxes.query_low >> bits) + 1
    return queries, (boxes.key_high >> bits) - (boxes.key_low >> bits) + 1


def _split_count(boxes: TileBoxes, bits: int) -> NDArray[np.int64]:
    queries, keys = _pieces(boxes, bits)
    return queries * keys


def _split(boxes: TileBoxes, bits: int) -> TileBoxes:
    """Cut along multiples of ``2**bits`` tiles on both sides."""
    _, keys = _pieces(boxes, bits)
    count = _split_count(boxes, bits)
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


def _runs(boxes: TileBoxes, rows: int, space: _Space) -> Runs:
    """Rows of runs of the boxes' keys, ``rows`` for each slot: sorted, neighbours of one kind joined."""
    count = boxes.query_high - boxes.query_low + 1
    source = np.repeat(np.arange(len(boxes)), count)
    offset = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
    row = boxes.slot[source] * rows + boxes.query_low[source] + offset
    start, end, kind = boxes.key_low[source], boxes.key_high[source] + 1, boxes.kind[source]
    order = np.argsort(row * (max(space.query_tiles, space.key_tiles) + 1) + start)
    row, start, end, kind = row[order], start[order], end[order], kind[order]
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (start[1:] != end[:-1]) | (kind[1:] != kind[:-1])
    heads = np.flatnonzero(first)
    tails = np.append(heads[1:], len(row))[: len(heads)] - 1
    total_rows = space.batch_slots * space.head_slots * rows
    pointer = np.zeros(total_rows + 1, np.int64)
    np.cumsum(np.bincount(row[heads], minlength=total_rows), out=pointer[1:])
    return Runs(
        pointer=pointer,
        start=start[heads].astype(np.int32),
        length=(end[tails] - start[heads]).astype(np.int32),
        kind=kind[heads],
    )
