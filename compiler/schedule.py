"""Which key tiles each query tile visits: a Program with lengths and table contents to a Schedule.

Boxes of tiles are classified whole, the largest first; what is partial is split and looked at again, down to single
tiles. The cost follows the boundary of the pattern, not its area. One set of boxes gives both the rows of query tiles
and, with the roles exchanged, the rows of key tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .boxes import Space, TileBoxes, slots, split, split_count, tables_read
from .classify import Boxes, Classifier, DigitRange, TableContents, numbered
from .extent import Contents, Extent
from .plan import (
    EMPTY,
    FULL,
    PARTIAL,
    Bounds,
    Kernel,
    KernelSchedule,
    Program,
    Runs,
    Schedule,
    Segment,
    SegmentSchedule,
)

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


def schedule(program: Program, extent: Extent, contents: Sequence[Contents]) -> Schedule:
    """Bounds of every segment for one launch. ``contents`` stand in the order of ``program.tables``."""
    tables = numbered(program, contents)
    return Schedule(extent.n, extent.m, tuple(_kernel_schedule(kernel, extent, tables) for kernel in program.kernels))


def _kernel_schedule(kernel: Kernel, extent: Extent, tables: Mapping[str, TableContents]) -> KernelSchedule:
    return KernelSchedule(tuple(_segment_schedule(kernel, segment, extent, tables) for segment in kernel.segments))


def _segment_schedule(
    kernel: Kernel, segment: Segment, extent: Extent, tables: Mapping[str, TableContents]
) -> SegmentSchedule:
    batch_slots, head_slots = slots(segment.condition, extent, tables)
    space = Space(extent.m, extent.n, kernel.rows.tile, segment.keys.tile, batch_slots, head_slots)
    boxes = _descend(Classifier((segment.condition,), extent, tables), space)
    return SegmentSchedule(
        by_query=_bounds(boxes, space.query_tiles, space),
        by_key=_bounds(boxes.transposed(), space.key_tiles, space),
    )


def _bounds(boxes: TileBoxes, rows: int, space: Space) -> Bounds:
    """A row of runs for each tile."""
    period = max(rows, 1)
    return Bounds(period, 0, False, space.batch_slots, space.head_slots, _runs(boxes, period, space))


def schedule_depends(program: Program) -> frozenset[int]:
    """The positions in ``program.tables`` of the tables whose contents decide a schedule."""
    conditions = [segment.condition for kernel in program.kernels for segment in kernel.segments]
    return frozenset(int(name) for condition in conditions for name in tables_read(condition))


def _descend(classifier: Classifier, space: Space) -> TileBoxes:
    """The partial and full boxes of the space, disjoint; a box of several tiles may be partial past the cap."""
    pending = space.start
    found = [pending.take(slice(0))]
    single = [pending.take(slice(0))]
    bits = max(space.query_tiles, space.key_tiles, 1).bit_length()
    bits += -bits % _BRANCHING_BITS
    while len(pending):
        pending = _classified(classifier, space, pending)
        found.append(pending.take(pending.kind == FULL))
        partial = pending.take(pending.kind == PARTIAL)
        single.append(partial.take(partial.area == 1))
        pending = partial.take(partial.area > 1)
        while bits and split_count(pending, bits).sum() == len(pending):
            bits -= _BRANCHING_BITS
        if split_count(pending, bits).sum() > _MOST_BOXES:
            found.append(pending)
            break
        pending = split(pending, bits)
    return TileBoxes.joined([*found, _refined(classifier, space, TileBoxes.joined(single))])


def _classified(classifier: Classifier, space: Space, boxes: TileBoxes) -> TileBoxes:
    """The same boxes with what the pairs inside the extent make of them."""
    parts = [boxes.take(slice(first, first + _BATCH)) for first in range(0, len(boxes), _BATCH)]
    return boxes.of_kind(np.concatenate([classifier.classify(space.read(part)) for part in parts]))


def _refined(classifier: Classifier, space: Space, tiles: TileBoxes) -> TileBoxes:
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


def _looked_into(classifier: Classifier, space: Space, tiles: TileBoxes) -> NDArray[np.int8]:
    """The kind of each partial tile by those of its parts, cut in four along both sides."""
    whole = space.read(tiles)
    number = np.arange(16).repeat(len(tiles))
    parts = Boxes(
        query=_quarter(whole.query, number // 4),
        key=_quarter(whole.key, number % 4),
        batch=np.tile(whole.batch, 16),
        head=None if whole.head is None else np.tile(whole.head, 16),
    )
    kinds = classifier.classify(parts).reshape(16, -1)
    return np.where((kinds == EMPTY).all(0), EMPTY, np.where((kinds == FULL).all(0), FULL, PARTIAL)).astype(np.int8)


def _quarter(digits: tuple[DigitRange, ...], number: NDArray[np.int64]) -> tuple[DigitRange, ...]:
    """The lanes of the quarters so numbered; the last lane stands for a quarter that a short tile does not have."""
    digits = tuple(DigitRange(d.stride, np.tile(d.low, 16), np.tile(d.high, 16)) for d in digits)
    *outer, lane = digits
    size = (lane.high.max() + 4) // 4
    low, high = np.minimum(number * size, lane.high), np.minimum(number * size + size - 1, lane.high)
    return (*outer, DigitRange(lane.stride, low, high))


def _runs(boxes: TileBoxes, rows: int, space: Space) -> Runs:
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
